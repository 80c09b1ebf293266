"""WeakCLIP's use of CLIP: image tower features at four depths, text tower with learnable contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.model import Block, Text, Vision
from tagmask.clip.tokenizer import END, tokenize
from tagmask.dense.positions import bilinear
from tagmask.errors import InputError, ShapeError
from tagmask.types import Pixels, Size, Tokens

__all__ = ["Trunk", "check_length", "contextual_texts", "extract_trunk_features", "name_ids", "positions"]

_SEQUENCE = 512
"""Tokens of the names that are encoded in one sequence; its attention takes the square of them."""
NAME_TOKENS = 5
"""Minimum columns of the token ids, including start and end tokens."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """Image tower features for the head; they can be cached for the same pixels."""

    maps: tuple[Tensor, Tensor, Tensor, Tensor]
    """Patch tokens at four depths, as feature maps (b, d, gh, gw), float32; any memory format."""
    memory: Float[Tensor, "b n e"]
    """All final tokens in the joint embedding space, class token first, not normalised."""

    @property
    def grid(self) -> Size:
        """(gh, gw) in patches."""
        return self.maps[0].shape[-2], self.maps[0].shape[-1]

    def __len__(self) -> int:
        return len(self.memory)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, for a cache."""
        return {"memory": self.memory, **{f"map{depth}": x for depth, x in enumerate(self.maps)}}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "Trunk":
        """Rebuild features from the tensors of `tensors`.

        Raises:
            ShapeError: the names differ, or the sizes do not match each other.
        """
        names = ["memory", "map0", "map1", "map2", "map3"]
        if sorted(tensors) != sorted(names):
            raise ShapeError(
                f"Cached features have {', '.join(sorted(tensors))}. Expected {', '.join(names)}."
            )
        memory, first, second, third, fourth = (tensors[name] for name in names)
        trunk = cls((first, second, third, fourth), memory)
        gh, gw = trunk.grid
        expected = (len(memory), first.shape[1], gh, gw)
        if any(x.shape != expected for x in trunk.maps) or memory.shape[1] != 1 + gh * gw:
            raise ShapeError(
                f"The sizes of cached features do not match: maps {expected}, memory {tuple(memory.shape)}."
            )
        return trunk


def positions(
    table: Float[Tensor, "m d"], class_embedding: Float[Tensor, " d"], grid: Size, *, twice: bool
) -> Float[Tensor, "n d"]:
    """Resize the position table to a patch grid, bilinearly.

    Args:
        table: one row for the class token, then a square of patches.
        class_embedding: added to the class token's row if `twice`.
        grid: (gh, gw).
        twice: a quirk of the authors' code, which comes from DenseCLIP.
    """
    resized = bilinear(table, grid)
    return torch.cat([resized[:1] + class_embedding, resized[1:]]) if twice else resized


def extract_trunk_features(
    vision: Vision,
    pixels: Pixels,
    taps: Sequence[int],
    *,
    twice: bool = True,
    drop: float = 0.0,
    drop_tokens: bool = True,
) -> Trunk:
    """Run the image tower and capture its features at four depths.

    Args:
        vision: the unmodified tower.
        pixels: normalised; rows and columns beyond whole patches are ignored.
        taps: numbers of blocks after which the four feature maps are captured.
        twice: see `positions`.
        drop: stochastic depth rate of the last block, rising linearly from 0 at the first; attention and MLP
            are dropped separately. 0: no stochastic depth.
        drop_tokens: draw once per position, for all images; else once per image.

    Raises:
        ShapeError: a side shorter than one patch.
    """
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    if min(grid) < 1:
        raise ShapeError(
            f"The image is {tuple(pixels.shape[-2:])} (h, w). Give at least {vision.patch} pixels per side."
        )
    table = positions(vision.positional_embedding, vision.class_embedding, grid, twice=twice)
    x = vision.embed(pixels, table)
    captured: dict[int, Tensor] = {}
    blocks = vision.blocks
    for number, block in enumerate(blocks):
        rate = drop * number / max(len(blocks) - 1, 1)
        x = _stochastic_depth(block, x, rate, drop_tokens) if rate else block(x)
        if number + 1 in taps:
            captured[number + 1] = x[:, 1:].unflatten(1, grid).permute(0, 3, 1, 2)
    first, second, third, fourth = (captured[tap] for tap in taps)
    return Trunk((first, second, third, fourth), vision.project(x))


def name_ids(names: Sequence[str], length: int = NAME_TOKENS) -> Int[Tensor, "k n"]:
    """Token ids of class names: start, name, end, zeros, padded to the longest name only.

    Args:
        names: one per class.
        length: minimum columns; the authors use 5, the length of their longest name.

    Raises:
        InputError: no names.

    Example:
        >>> name_ids(["cat", "potted plant"]).shape
        torch.Size([2, 5])
    """
    if not names:
        raise InputError("There are no class names. Give at least one.")
    ids = tokenize(names)
    longest = int((ids == END).int().argmax(dim=1).max()) + 1
    return ids[:, : max(longest, length)].clone()


def check_length(ids: Int[Tensor, "k n"], contexts: int, rows: int) -> None:
    """Check that names with their contexts fit the text tower.

    Args:
        ids: from `name_ids`.
        contexts: learnable vectors before each name.
        rows: rows of the tower's position table.

    Raises:
        InputError: the names are too long.
    """
    needed = int(ids.argmax(dim=-1).max()) + 1 + contexts
    if needed > rows:
        raise InputError(
            f"The names with their contexts need {needed} tokens, but the text tower has {rows}. "
            "Give shorter names or fewer contexts."
        )


def contextual_texts(
    text: Text, ids: Int[Tensor, "k n"], contexts: Float[Tensor, "1 m d"]
) -> Float[Tensor, "k e"]:
    """Encode start, contexts, name, end: the features at the end token, not normalised, float32.

    Only columns up to the last end token are computed; attention is causal, so later ones do not matter. For
    the same reason start and contexts are the same for all names: they are computed once, and the names
    follow them in one sequence, in which no name attends to another.

    Args:
        text: the text tower.
        ids: from `name_ids`; the end token has the largest id.
        contexts: shared by all names; m = 0 gives the plain names.

    Raises:
        InputError: contexts and names are longer than the tower's position table.
    """
    check_length(ids, contexts.shape[1], len(text.positional_embedding))
    columns = int(ids.argmax(dim=-1).max())  # without the start token
    names = max((_SEQUENCE - 1 - contexts.shape[1]) // columns, 1)
    at_end = [_end_tokens(text, part[:, : columns + 1], contexts) for part in ids.split(names)]
    last: Tensor = text.ln_final(torch.cat(at_end))
    return (last.to(text.text_projection.dtype) @ text.text_projection).float()


def _end_tokens(
    text: Text, ids: Int[Tensor, "k n"], contexts: Float[Tensor, "1 m d"]
) -> Float[Tensor, "k d"]:
    """Run the text tower's blocks; return the tokens at the names' ends."""
    k, columns = len(ids), ids.shape[1] - 1
    words = text.token_embedding(ids).float()
    shared = torch.cat([words[:1, :1], contexts.float()], dim=1)
    first = shared.shape[1]
    table = text.positional_embedding
    own = words[:, 1:] + table[first : first + columns]
    x = torch.cat([shared + table[:first], own.flatten(0, 1)[None]], dim=1)
    owners = torch.arange(k, device=x.device)
    name = torch.cat([owners.new_full((first,), -1), owners.repeat_interleave(columns)])
    attended = ((name == name[:, None]) | (name == -1)).tril()
    bias = torch.zeros(attended.shape, device=x.device).masked_fill(~attended, -torch.inf)
    for block in text.transformer.resblocks:
        x = block(x, bias[None, None])
    return x[0, first + owners * columns + ids.argmax(dim=-1) - 1]


def _stochastic_depth(block: Block, x: Tokens, rate: float, tokens: bool) -> Tokens:
    """Run a block with stochastic depth: drop attention and MLP at random, rescale what is kept."""

    def drop(branch: Tensor) -> Tensor:
        shape = (1, x.shape[1], 1) if tokens else (len(x), 1, 1)
        kept = torch.rand(shape, device=x.device) >= rate
        return branch * (kept / (1 - rate))

    q, k, v = block.attn.qkv(block.ln_1(x))
    x = x + drop(block.attn.merge(F.scaled_dot_product_attention(q, k, v)))
    return x + drop(block.mlp(block.ln_2(x)))
