"""The common form of all dense methods: a frozen trunk and a small record of pure functions.

    tower        features before the last block (`dense.features.TowerFeatures`)
    before       repairs or aggregates tokens first; returns several streams where a method has them
    weights      the attention of each stream
    block_form   "full": keeps the residual and the MLP; "bare": the attention's output alone;
                 "half": y + MLP(y) of that output y, without the residual
    after        combines the outputs of the streams
    second_pass  runs the last block a second time, with a prior computed from the first output
    scores       post-processes the cosines

Methods never alter the blocks before the last, so any number of methods share one forward pass of the trunk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.finite import check_computed
from tagmask.clip.model import Vision
from tagmask.dense.features import CaptureSpec, TowerFeatures, extract_features
from tagmask.dense.positions import Positions
from tagmask.types import Attention, Heads, Pixels, TextFeatures, Tokens

__all__ = [
    "Cosines",
    "DenseRule",
    "LayerSettings",
    "Layers",
    "RuleFactory",
    "SecondPassContext",
    "VariantSettings",
    "affinity",
    "block_attention",
    "compare_patches",
    "extract_shared_features",
    "patch_cosines",
    "patch_features",
    "unit_patches",
]

Cosines = Float[Tensor, "b q p"]
"""Cosine of every text with every patch."""


@dataclass(frozen=True, kw_only=True)
class VariantSettings:
    """Base of a dense method's own settings; most methods have none."""

    QUIRKS: ClassVar[tuple[str, ...]] = ()
    """Settings that are True as published and False as corrected."""
    FILES: ClassVar[tuple[str, ...]] = ()
    """Settings that are paths, of files whose content decides the results."""


@dataclass(frozen=True, kw_only=True)
class LayerSettings(VariantSettings):
    """Settings of methods that refer to layers by number."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("absolute_layers",)

    absolute_layers: bool = False
    """As published, deeper towers use the layer numbers of the 12-layer tower unchanged."""


@dataclass(frozen=True)
class Layers:
    """Map the papers' layer numbers, given for 12 layers, to a tower of `count` layers.

    By relative depth, or, with `absolute`, by the same number.
    """

    count: int
    absolute: bool = False

    def __call__(self, layer: int) -> int:
        """The tower's layer for layer 0..11 of 12; 10 and 11 are always the last two."""
        if self.absolute or self.count == 12:
            return min(layer, self.count - 2)
        return self.count - 2 if layer == 10 else max((layer + 1) * self.count // 12 - 1, 0)

    def last(self, blocks: int) -> int:
        """The number of last blocks that corresponds to the last `blocks` of 12."""
        return min(blocks, self.count) if self.absolute else max(blocks * self.count // 12, 1)


def _single_stream(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
    return (tower,)


def _first_output(
    tower: TowerFeatures, streams: tuple[TowerFeatures, ...], outs: tuple[Tokens, ...]
) -> Tokens:
    return outs[0]


@dataclass(frozen=True)
class SecondPassContext:
    """Additional inputs of a method's second pass through the last block."""

    pixels: Pixels
    """The normalised windows."""
    texts: TextFeatures
    scale: float
    """Factor on the cosines in the softmax over texts."""


_CAPTURE_NOTHING = CaptureSpec()


@dataclass(frozen=True)
class DenseRule:
    """One dense method as functions of the tower's features."""

    weights: Callable[[TowerFeatures], Attention | None]
    """Attention weights; None if each token keeps its own value, so that q and k are never computed."""
    second: Callable[[TowerFeatures], Attention | None] | None = None
    """Attention weights of the second stream, if they differ from the first's."""
    block_form: str = "full"
    """"full", "bare" or "half"."""
    capture: CaptureSpec = _CAPTURE_NOTHING
    """What to capture in the trunk."""
    depth: int = 1
    """If over 1, a parallel stream sums the attention outputs of the last `depth` blocks. Their queries, keys
    and values come from the main stream; the parallel stream has no MLP."""
    before: Callable[[TowerFeatures], tuple[TowerFeatures, ...]] = _single_stream
    after: Callable[[TowerFeatures, tuple[TowerFeatures, ...], tuple[Tokens, ...]], Tokens] = _first_output
    second_pass: (
        Callable[[TowerFeatures, Float[Tensor, "b p e"], SecondPassContext], TowerFeatures] | None
    ) = None
    scores: Callable[[TowerFeatures, Cosines], Cosines] | None = None
    positions: str = "bicubic-nudged"
    """How the method's authors interpolate the position table."""


RuleFactory = Callable[[Any, int], DenseRule]
"""Builds a rule from a method's own settings and the number of layers of the tower."""


def extract_shared_features(
    vision: Vision, pixels: Pixels, rules: Sequence[DenseRule], tables: Sequence[Positions]
) -> Iterator[tuple[int, TowerFeatures]]:
    """Extract the features that each rule starts from, in one forward pass per position table.

    Yields:
        Each rule's index, once, and its features.
    """
    for table in dict.fromkeys(tables):
        sharing = [i for i, other in enumerate(tables) if other is table]
        tower = extract_features(
            vision, pixels, table, capture=reduce(or_, (rules[i].capture for i in sharing))
        )
        for i in sharing:
            yield i, tower


def block_attention(
    tower: TowerFeatures, rule: DenseRule, context: SecondPassContext | None = None
) -> Attention | None:
    """The last block's attention under a rule (first stream only); None if it is the identity.

    Args:
        tower: features before the last block.
        rule: the method.
        context: inputs of the second pass. None: the attention of the first pass.
    """
    if rule.second_pass is not None and context is not None:
        tower = rule.second_pass(tower, _forward(tower, rule), context)
    return rule.weights(rule.before(tower)[0])


def patch_features(
    tower: TowerFeatures, rule: DenseRule, context: SecondPassContext | None = None
) -> Float[Tensor, "b p e"]:
    """Patch features in the shared space under a rule, not normalised.

    A rule with a second pass runs it only if `context` is given.
    """
    features = _forward(tower, rule)
    if rule.second_pass is None or context is None:
        return features
    return _forward(rule.second_pass(tower, features, context), rule)


def patch_cosines(
    tower: TowerFeatures,
    rule: DenseRule,
    context: SecondPassContext,
    head: Float[Tensor, "e c"] | None = None,
) -> Float[Tensor, "b planes p"]:
    """Cosine of every text with every patch, post-processed by the rule.

    With a head, its correction of every class follows the cosines: the product of the unit patches and the
    head's matrix.
    """
    return compare_patches(unit_patches(tower, rule, context), tower, rule, context.texts, head)


def unit_patches(
    tower: TowerFeatures, rule: DenseRule, context: SecondPassContext | None = None
) -> Float[Tensor, "b p e"]:
    """Unit patch features under a rule, before the comparison with texts; see `patch_features`."""
    return F.normalize(patch_features(tower, rule, context), dim=-1)


def compare_patches(
    patches: Float[Tensor, "b p e"],
    tower: TowerFeatures | None,
    rule: DenseRule,
    texts: TextFeatures,
    head: Float[Tensor, "e c"] | None = None,
) -> Float[Tensor, "b planes p"]:
    """Compare unit patches with texts, and then with a head; see `patch_cosines`.

    Args:
        patches: of `unit_patches`.
        tower: the features they come from; may be left out if the rule does not post-process cosines.
        rule: the method.
        texts: unit features.
        head: of a `tagmask.pipelines.head.Head`.
    """
    cosines = (patches @ texts.T).transpose(1, 2)
    if rule.scores is not None:
        assert tower is not None  # see `tower`
        cosines = rule.scores(tower, cosines)
    return cosines if head is None else torch.cat([cosines, (patches @ head).transpose(1, 2)], dim=1)


def affinity(x: Heads, y: Heads, bias: Float[Tensor, "n n"] | None = None) -> Attention:
    """softmax(x yᵀ / sqrt(64) + bias); rows sum to 1."""
    logits = ((x * x.shape[-1] ** -0.5) @ y.transpose(-2, -1)).float()
    return torch.softmax(logits if bias is None else logits + bias, dim=-1)


def _forward(tower: TowerFeatures, rule: DenseRule) -> Float[Tensor, "b p e"]:
    streams: tuple[TowerFeatures, ...] = (tower,)
    if rule.depth > 1:
        tokens = _parallel_stream(tower, rule)
    else:
        streams = rule.before(tower)
        outs = tuple(_last_block(stream, rule, i) for i, stream in enumerate(streams))
        tokens = rule.after(tower, streams, outs)
    # The class token comes first where there is one.
    features = tower.vision.project(tokens[:, -tower.patches :])
    # A method whose own formula gives NaN, as some do as published, may; a block that overflows may not.
    if all(bool(stream.tokens.sum().isfinite()) for stream in streams):
        check_computed(features, "The patch features")
    return features


def _last_block(tower: TowerFeatures, rule: DenseRule, stream: int) -> Tokens:
    weights = rule.second(tower) if stream and rule.second is not None else rule.weights(tower)
    if rule.block_form == "full":
        return tower.last_block(weights)
    out = tower.attend(weights).float()
    return tower.block.feed_forward(out) if rule.block_form == "half" else out


def _parallel_stream(tower: TowerFeatures, rule: DenseRule) -> Tokens:
    count = len(tower.vision.blocks)
    stream = tower.at_block(count - rule.depth).tokens
    for layer in range(count - rule.depth, count):
        features = tower.at_block(layer)
        stream = stream + features.attend(rule.weights(features))
    return stream
