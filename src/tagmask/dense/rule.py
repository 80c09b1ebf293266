"""The one form that all dense methods fit: a frozen trunk, and a small record of pure functions.

    x            the pass before the last block (`dense.features.TowerFeatures`)
    before       tokens repaired or aggregated first; several streams where a method has them
    weights      the attention of each stream
    block_form   "full": residual and MLP stay; "bare": the attention's output alone
    after        what is made of the streams' outputs
    second_pass  a second pass through at the last block, with a prior made from the first one's output
    scores       what is made of the cosines

Blocks before the last are never altered, so any number of methods share one trunk.
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

from tagmask.clip.model import Vision
from tagmask.dense.features import CaptureSpec, TowerFeatures, extract_features
from tagmask.dense.positions import Positions
from tagmask.types import Attention, Heads, Pixels, TextFeatures, Tokens

__all__ = [
    "Cosines",
    "DenseRule",
    "LayerSettings",
    "Layers",
    "Making",
    "SecondPassContext",
    "VariantSettings",
    "affinity",
    "block_attention",
    "extract_shared_features",
    "patch_cosines",
    "patch_features",
]

Cosines = Float[Tensor, "b q p"]
"""Of every text with every patch."""


@dataclass(frozen=True, kw_only=True)
class VariantSettings:
    """The numbers that one dense method leaves open: none here, which is what most methods have."""

    QUIRKS: ClassVar[tuple[str, ...]] = ()
    """Those that are True as published and False as corrected."""


@dataclass(frozen=True, kw_only=True)
class LayerSettings(VariantSettings):
    """Of methods that name layers."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("absolute_layers",)

    absolute_layers: bool = False
    """As published, towers that are deeper than 12 layers are read at the same layer numbers."""


@dataclass(frozen=True)
class Layers:
    """Where the papers' layer numbers, written for 12 layers, lie in a tower.

    The same share of the tower, or, with `absolute`, the same number.
    """

    count: int
    absolute: bool = False

    def __call__(self, layer: int) -> int:
        """The tower's layer for layer 0..11 of 12; 10 and 11 are always the last two."""
        if self.absolute or self.count == 12:
            return min(layer, self.count - 2)
        return self.count - 2 if layer == 10 else max((layer + 1) * self.count // 12 - 1, 0)

    def last(self, blocks: int) -> int:
        """How many last blocks stand for so many of 12."""
        return min(blocks, self.count) if self.absolute else max(blocks * self.count // 12, 1)


def _alone(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
    return (tower,)


def _first(tower: TowerFeatures, streams: tuple[TowerFeatures, ...], outs: tuple[Tokens, ...]) -> Tokens:
    return outs[0]


@dataclass(frozen=True)
class SecondPassContext:
    """What a second look at the last block may use beside the pass."""

    pixels: Pixels
    """The normalised windows."""
    texts: TextFeatures
    scale: float
    """Of the cosines in the softmax over texts."""


_NOTHING = CaptureSpec()


@dataclass(frozen=True)
class DenseRule:
    """One method."""

    weights: Callable[[TowerFeatures], Attention | None]
    """Attention weights; None where each token takes its own value, so that q and k are never formed."""
    second: Callable[[TowerFeatures], Attention | None] | None = None
    """Attention weights of the second stream, where they differ from the first's."""
    block_form: str = "full"
    """"full" or "bare"."""
    capture: CaptureSpec = _NOTHING
    """What the trunk must keep."""
    depth: int = 1
    """Over 1: a side stream sums the attention outputs of the last `depth` blocks, whose queries, keys and
    values come from the ordinary stream; no MLP."""
    before: Callable[[TowerFeatures], tuple[TowerFeatures, ...]] = _alone
    after: Callable[[TowerFeatures, tuple[TowerFeatures, ...], tuple[Tokens, ...]], Tokens] = _first
    second_pass: (
        Callable[[TowerFeatures, Float[Tensor, "b p e"], SecondPassContext], TowerFeatures] | None
    ) = None
    scores: Callable[[TowerFeatures, Cosines], Cosines] | None = None
    positions: str = "bicubic-nudged"
    """How its authors stretch the position table."""


Making = Callable[[Any, int], DenseRule]
"""From a method's own settings and the number of the tower's layers to its rule."""


def extract_shared_features(
    vision: Vision, pixels: Pixels, rules: Sequence[DenseRule], tables: Sequence[Positions]
) -> Iterator[tuple[int, TowerFeatures]]:
    """The pass that each rule starts from: one for all rules that stretch the position table alike.

    Yields:
        Each rule's index, once, and its pass.
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
    """The last block's attention as the rule has it, of its first stream; None where it is the identity.

    Args:
        tower: features before the last block.
        rule: the method.
        context: what a second look asks for. None: the attention of the first look.
    """
    if rule.second_pass is not None and context is not None:
        tower = rule.second_pass(tower, _forward(tower, rule), context)
    return rule.weights(rule.before(tower)[0])


def patch_features(
    tower: TowerFeatures, rule: DenseRule, context: SecondPassContext | None = None
) -> Float[Tensor, "b p e"]:
    """Each patch in the shared space, not normalised, as the rule sees it.

    A rule that looks again does so if it is told what is asked.
    """
    features = _forward(tower, rule)
    if rule.second_pass is None or context is None:
        return features
    return _forward(rule.second_pass(tower, features, context), rule)


def patch_cosines(tower: TowerFeatures, rule: DenseRule, context: SecondPassContext) -> Cosines:
    """Cosine of every text with every patch, after whatever the rule makes of them."""
    patches = F.normalize(patch_features(tower, rule, context), dim=-1)
    cosines = (patches @ context.texts.T).transpose(1, 2)
    return cosines if rule.scores is None else rule.scores(tower, cosines)


def affinity(x: Heads, y: Heads, bias: Float[Tensor, "n n"] | None = None) -> Attention:
    """softmax(x yᵀ / sqrt(64) + bias); rows sum to 1."""
    logits = ((x * x.shape[-1] ** -0.5) @ y.transpose(-2, -1)).float()
    return torch.softmax(logits if bias is None else logits + bias, dim=-1)


def _forward(tower: TowerFeatures, rule: DenseRule) -> Float[Tensor, "b p e"]:
    if rule.depth > 1:
        tokens = _side_stream(tower, rule)
    else:
        streams = rule.before(tower)
        outs = tuple(_block(stream, rule, i) for i, stream in enumerate(streams))
        tokens = rule.after(tower, streams, outs)
    # The class token comes first where there is one.
    return tower.vision.project(tokens[:, -tower.patches :])


def _block(tower: TowerFeatures, rule: DenseRule, stream: int) -> Tokens:
    weights = rule.second(tower) if stream and rule.second is not None else rule.weights(tower)
    return tower.last_block(weights) if rule.block_form == "full" else tower.attended(weights).float()


def _side_stream(tower: TowerFeatures, rule: DenseRule) -> Tokens:
    count = len(tower.vision.blocks)
    stream = tower.at_block(count - rule.depth).tokens
    for layer in range(count - rule.depth, count):
        at = tower.at_block(layer)
        stream = stream + at.attended(rule.weights(at))
    return stream
