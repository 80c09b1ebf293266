"""One forward pass through the frozen tower, and the features it captures for the methods.

Methods differ only in the last block and in what they read from earlier layers. So the tower runs once up to
its last block and captures only what a `CaptureSpec` requests; every method is a small function of the
result.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.attention import mean_attention
from tagmask.clip.finite import check_computed
from tagmask.clip.model import Block, Vision
from tagmask.dense.positions import Positions
from tagmask.errors import InputError
from tagmask.types import Attention, Heads, Pixels, Size, Tokens

__all__ = [
    "ALL_HEADS",
    "FIRST_HEAD",
    "CaptureSpec",
    "TowerFeatures",
    "class_token",
    "class_token_features",
    "extract_features",
]

ALL_HEADS, FIRST_HEAD = "all heads", "first head"
"""What `CaptureSpec.running` may hold."""


@dataclass(frozen=True)
class CaptureSpec:
    """What to capture from the blocks before the last; layers count from 0."""

    states: frozenset[int] = frozenset()
    """Layers to capture: the residual stream at their output."""
    attention: frozenset[int] = frozenset()
    """Layers to capture: their head-averaged attention maps."""
    heads: frozenset[frozenset[int]] = frozenset()
    """Groups of layers to capture: their attention maps per head, averaged over each group."""
    averages: frozenset[frozenset[int]] = frozenset()
    """Groups of layers to capture: their head-averaged attention maps, averaged over each group."""
    votes: frozenset[str] = frozenset()
    """Count, for each pair of patches, the layers before the last whose head-averaged attention is above the
    layer's mean: over all pairs of "patches", or over all "tokens"."""
    last_blocks: int = 1
    """Number of last blocks whose input to capture, for `TowerFeatures.at_block`."""
    running: frozenset[str] = frozenset()
    """Attention maps to average over all layers before the last, as a running mean: those of "all heads",
    averaged, or of the "first head"."""

    def __or__(self, other: "CaptureSpec") -> "CaptureSpec":
        return CaptureSpec(
            self.states | other.states,
            self.attention | other.attention,
            self.heads | other.heads,
            self.averages | other.averages,
            self.votes | other.votes,
            max(self.last_blocks, other.last_blocks),
            self.running | other.running,
        )

    def states_of(self, layers: int) -> frozenset[int]:
        """Layers whose output is captured, for `states` or `last_blocks`, in a tower of `layers` layers."""
        return self.states | frozenset(range(max(layers - 1 - self.last_blocks, 0), layers - 2))

    def blocks_before_attention(self, layers: int) -> int:
        """Number of first blocks that compute no attention map, in a tower of `layers` layers."""
        if self.running or self.votes:
            return 0
        return min(self.attention.union(*self.heads, *self.averages), default=layers - 1)


@dataclass(frozen=True, eq=False)
class TowerFeatures:
    """The tower's features just before its last block, for a batch of images of one size.

    q, k and v of the last block are computed on first access: a method that needs only v pays only for v.
    """

    vision: Vision = field(repr=False)
    tokens: Tokens = field(repr=False)
    """The residual stream that enters the last block (float32); n = m unless a method dropped tokens."""
    grid: Size
    attention: Mapping[int, Float[Tensor, "b m m"]] = field(repr=False)
    """Head-averaged attention of the captured layers; rows sum to 1, class token included."""
    states: Mapping[int, Float[Tensor, "b m d"]] = field(repr=False, default_factory=dict)
    """The residual stream at the output of the captured layers (float32)."""
    heads: Mapping[frozenset[int], Float[Tensor, "b heads m m"]] = field(repr=False, default_factory=dict)
    """Attention per head, averaged over each captured group of layers; rows sum to 1."""
    running: Mapping[str, Float[Tensor, "b m m"]] = field(repr=False, default_factory=dict)
    """Attention averaged over all layers before the last, by `CaptureSpec.running`; rows sum to 1."""
    averages: Mapping[frozenset[int], Float[Tensor, "b m m"]] = field(repr=False, default_factory=dict)
    """Head-averaged attention, averaged over each captured group of layers; rows sum to 1."""
    votes: Mapping[str, Int8[Tensor, "b p p"]] = field(repr=False, default_factory=dict)
    """Number of layers before the last that vote for each pair of patches, by `CaptureSpec.votes`."""
    layer: int = -1
    """The block that `tokens` enter; -1 is the last."""
    prior: Float[Tensor, "b #heads n n"] | None = field(repr=False, default=None)
    """A method's prior for its attention: which tokens belong together."""

    @property
    def block(self) -> Block:
        """The block that the tokens enter, by default the last."""
        return self.vision.blocks[self.layer]

    @property
    def patches(self) -> int:
        """Number of patches of the grid."""
        return self.grid[0] * self.grid[1]

    def at_block(self, layer: int) -> "TowerFeatures":
        """The features before block `layer`: the last block, or one whose input was captured."""
        last = len(self.vision.blocks) - 1
        tokens = self.tokens if layer == last else self.states[layer - 1]
        return replace(self, tokens=tokens, layer=layer)

    def with_tokens(
        self,
        tokens: Tokens,
        prior: Float[Tensor, "b #heads n n"] | None = None,
        layer: int | None = None,
    ) -> "TowerFeatures":
        """Copy with other tokens before the same block, or before block `layer`, and a prior for it."""
        return replace(self, tokens=tokens, prior=prior, layer=self.layer if layer is None else layer)

    @cached_property
    def z(self) -> Tokens:
        """ln_1 of the tokens: what the last block projects to q, k and v."""
        normed: Tensor = self.block.ln_1(self.tokens)
        return normed

    @cached_property
    def q(self) -> Heads:
        """Queries of the last block."""
        return self._project(0)

    @cached_property
    def k(self) -> Heads:
        """Keys of the last block."""
        return self._project(1)

    @cached_property
    def v(self) -> Heads:
        """Values of the last block."""
        return self._project(2)

    @cached_property
    def last_attention(self) -> Float[Tensor, "b n n"]:
        """The last block's attention as trained, head-averaged; rows sum to 1."""
        return mean_attention(self.q, self.k)

    def average_attention(self, layers: Set[int]) -> Float[Tensor, "b n n"]:
        """The head-averaged attention, averaged over layers; the last block's may be among them.

        The others must be a group of `CaptureSpec.averages`. Rows sum to 1.

        Raises:
            InputError: the group was not captured.
        """
        last = len(self.vision.blocks) - 1
        before = frozenset(layers) - {last}
        if before and before not in self.averages:
            raise InputError(
                f"The average attention of layers {sorted(before)} was not captured. "
                "Pass it to `extract_features` in `CaptureSpec.averages`."
            )
        if last not in layers:
            return self.averages[before]
        if not before:
            return self.last_attention
        return (self.averages[before] * len(before)).add_(self.last_attention).div_(len(layers))

    def count_votes(self, over: str) -> Int8[Tensor, "b p p"]:
        """Count the layers, the last included, whose attention between two patches is above the layer's mean.

        Args:
            over: what the mean is over; it must be captured (`CaptureSpec.votes`) if there are other layers.
        """
        last = _above_mean(self.last_attention, over).to(torch.int8)
        return last.add_(self.votes[over]) if len(self.vision.blocks) > 1 else last

    def attend(self, weights: Attention | None) -> Tokens:
        """Output of the block's attention layer with these weights: no residual, no MLP.

        With None, each token keeps its own value.
        """
        mixed = self.v if weights is None else weights.to(self.v.dtype) @ self.v
        return self.block.attn.merge(mixed)

    def last_block(self, weights: Attention | None) -> Tokens:
        """The last block with `weights` in place of its attention, residual and MLP included.

        With None, each token keeps its own value.
        """
        return self.block.feed_forward(self.tokens + self.attend(weights))

    def project_last_block(self, weights: Attention | None) -> Float[Tensor, "b n e"]:
        """Run `last_block` and project all tokens to the shared space, not normalised."""
        return self.vision.project(self.last_block(weights))

    def _project(self, part: int) -> Heads:
        return self.block.attn.split(self.block.attn.project(self.z, part))


def extract_features(
    vision: Vision,
    pixels: Pixels,
    positions: Positions,
    *,
    attention: Set[int] = frozenset(),
    capture: CaptureSpec | None = None,
) -> TowerFeatures:
    """Run every block but the last.

    Args:
        vision: the image tower.
        pixels: normalised images or windows of one size; rows and columns beyond whole patches are ignored.
        positions: interpolates the position table to their grid.
        attention: layers (0-based, before the last) whose head-averaged attention to capture.
        capture: what else to capture; nothing by default.

    Raises:
        InputError: the tower does not have a requested layer before its last block.
        WeightsError: the tokens are NaN or infinite.
    """
    capture = (capture or CaptureSpec()) | CaptureSpec(attention=frozenset(attention))
    blocks = vision.blocks
    _check_layers(capture, len(blocks))
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    x = vision.embed(pixels, positions(vision.positional_embedding, grid))
    state_layers, head_layers = capture.states_of(len(blocks)), frozenset().union(*capture.heads)
    map_layers = capture.attention.union(*capture.averages)
    if ALL_HEADS in capture.running or capture.votes:
        map_layers = frozenset(range(len(blocks)))
    means: dict[int, Tensor] = {}
    states: dict[int, Tensor] = {}
    sums: dict[frozenset[int], Tensor] = {}
    averages: dict[frozenset[int], Tensor] = {}
    votes: dict[str, Tensor] = {}
    running: dict[str, Tensor] = {}
    first = 0
    if vision.engine is not None and (first := capture.blocks_before_attention(len(blocks))):
        outputs = vision.engine(x, {first - 1} | {layer for layer in state_layers if layer < first})
        states = {layer: outputs[layer] for layer in state_layers if layer < first}
        x = outputs[first - 1]
    for layer, block in enumerate(blocks[first:-1], start=first):
        mean: Tensor | None = None
        if layer in head_layers or FIRST_HEAD in capture.running:
            x, weights = block.forward_with_attention(x)
            if layer in map_layers:
                mean = weights.mean(dim=1)
            if FIRST_HEAD in capture.running:
                _add(running, FIRST_HEAD, weights[:, 0])
            for group in capture.heads:
                if layer in group:
                    _add(sums, group, weights)
        elif layer in map_layers:
            x, mean = block.forward_with_mean_attention(x)
        else:
            x = block(x)
        if mean is not None:
            if layer in capture.attention:
                means[layer] = mean
            if ALL_HEADS in capture.running:
                _add(running, ALL_HEADS, mean)
            for group in capture.averages:
                if layer in group:
                    _add(averages, group, mean)
            for name in capture.votes:
                _add(votes, name, _above_mean(mean, name).to(torch.int8))
        if layer in state_layers:
            states[layer] = x
    check_computed(x, "The image features")
    heads = {group: total.div_(len(group)) for group, total in sums.items()}
    running = {name: total.div_(len(blocks) - 1) for name, total in running.items()}
    averages = {group: total.div_(len(group)) for group, total in averages.items()}
    return TowerFeatures(vision, x, grid, means, states, heads, running, averages, votes)


def _above_mean(attention: Float[Tensor, "b n n"], over: str) -> Bool[Tensor, "b p p"]:
    """Whether the attention between two patches is above its mean, over all pairs of "patches" or "tokens".

    As rows of all tokens sum to 1, the mean over tokens is 1 / n.
    """
    patches = attention[:, 1:, 1:]
    if over == "tokens":
        return patches > 1 / attention.shape[1]
    return patches > patches.mean(dim=(1, 2), keepdim=True)


_Key = TypeVar("_Key")


def _add(totals: dict[_Key, Tensor], key: _Key, value: Tensor) -> None:
    """Add to a total, which starts as a copy."""
    totals[key] = totals[key].add_(value) if key in totals else value.clone()


def _check_layers(capture: CaptureSpec, layers: int) -> None:
    if capture.running and layers < 2:
        raise InputError(
            "The method averages the attention of all layers before the last, but these weights have one "
            "layer. Use deeper weights or another method."
        )
    requested = capture.states.union(capture.attention, *capture.heads, *capture.averages)
    if any(not 0 <= layer < layers - 1 for layer in requested) or not 1 <= capture.last_blocks <= layers:
        raise InputError(
            f"The method reads layers {sorted(requested)} and the input of the last {capture.last_blocks} "
            f"blocks, but these weights have {layers} layers. It can read 0 to {layers - 2}. "
            "Use deeper weights or another method."
        )


def class_token(tower: TowerFeatures) -> Float[Tensor, "b e"]:
    """CLIP's image embedding: the class token after the unmodified last block.

    Only the class token's row of the last block is computed, so this costs little compared with the forward
    pass.

    Returns:
        Unit rows in the shared space.
    """
    logits = (tower.q[:, :, :1] * tower.q.shape[-1] ** -0.5) @ tower.k.transpose(-2, -1)
    mixed = torch.softmax(logits.float(), dim=-1).to(tower.v.dtype) @ tower.v
    token = tower.block.feed_forward(tower.tokens[:, :1] + tower.block.attn.merge(mixed))
    return F.normalize(tower.vision.project(token)[:, 0], dim=-1)


def class_token_features(
    vision: Vision, pixels: Pixels, hidden: Float[Tensor, "b p"] | None = None
) -> Float[Tensor, "b e"]:
    """The class token after the whole tower, in the shared space, not normalised.

    Args:
        vision: the image tower.
        pixels: normalised images at the size of the stored position table.
        hidden: one value per patch, added to the attention logits of the class token (and of no other
            token) in every block; a large negative value hides the patch from it.

    Raises:
        WeightsError: the features are NaN or infinite.
    """
    x = vision.embed(pixels, vision.positional_embedding)
    bias = None
    if hidden is not None:
        bias = x.new_zeros(len(x), 1, x.shape[1], x.shape[1])
        bias[:, 0, 0, 1:] = hidden
    *blocks, last = vision.blocks
    if vision.engine is not None and blocks:
        x = vision.engine(x, {len(blocks) - 1}, bias)[len(blocks) - 1]
    else:
        for block in blocks:
            x = block(x, bias)
    # Only the class token leaves the last block, so only its row is computed.
    q, k, v = last.attn.qkv(last.ln_1(x))
    logits = (q[:, :, :1] * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias[:, :, :1]
    mixed = torch.softmax(logits.float(), dim=-1).to(v.dtype) @ v
    features = vision.project(last.feed_forward(x[:, :1] + last.attn.merge(mixed)))[:, 0]
    check_computed(features, "The image features")
    return features
