"""CLIP's image tower, read at four depths; and its text tower, with learnable contexts before each name."""

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

NAME_TOKENS = 5
"""Columns of the ids, start and end included; more where a name needs more."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """What the head needs of the image tower: may be kept, and used again for the same pixels."""

    maps: tuple[Tensor, Tensor, Tensor, Tensor]
    """Tokens after four depths without the class token, as maps (b, d, gh, gw), float32."""
    memory: Float[Tensor, "b n e"]
    """All last tokens in the space shared with texts, class token first, not normalised."""

    @property
    def grid(self) -> Size:
        """(gh, gw) in patches."""
        return self.maps[0].shape[-2], self.maps[0].shape[-1]

    def __len__(self) -> int:
        return len(self.memory)

    def tensors(self) -> dict[str, Tensor]:
        """By name, for keeping."""
        return {"memory": self.memory, **{f"map{depth}": x for depth, x in enumerate(self.maps)}}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "Trunk":
        """From what `tensors` gave.

        Raises:
            ShapeError: other names than `tensors` gives, or sizes that do not fit each other.
        """
        wanted = ["memory", "map0", "map1", "map2", "map3"]
        if sorted(tensors) != sorted(wanted):
            raise ShapeError(f"kept features have {', '.join(sorted(tensors))}; wanted {', '.join(wanted)}")
        memory, first, second, third, fourth = (tensors[name] for name in wanted)
        trunk = cls((first, second, third, fourth), memory)
        gh, gw = trunk.grid
        expected = (len(memory), first.shape[1], gh, gw)
        if any(x.shape != expected for x in trunk.maps) or memory.shape[1] != 1 + gh * gw:
            raise ShapeError(f"kept features of {expected} and {tuple(memory.shape)} do not fit each other")
        return trunk


def positions(
    table: Float[Tensor, "m d"], class_embedding: Float[Tensor, " d"], grid: Size, *, twice: bool
) -> Float[Tensor, "n d"]:
    """What is added to the tokens of a grid: the table stretched to it, bilinear.

    Args:
        table: one class row, then a square of patches.
        class_embedding: added to the class row once more if `twice`.
        grid: (gh, gw).
        twice: the authors' oddity, which comes from DenseCLIP.
    """
    found = bilinear(table, grid)
    return torch.cat([found[:1] + class_embedding, found[1:]]) if twice else found


def extract_trunk_features(
    vision: Vision,
    pixels: Pixels,
    taps: Sequence[int],
    *,
    twice: bool = True,
    drop: float = 0.0,
    drop_tokens: bool = True,
) -> Trunk:
    """Run the whole image tower once.

    Args:
        vision: the tower, blocks as they are.
        pixels: normalised; rows and columns beyond whole patches are not seen.
        taps: four numbers of blocks after which maps are read.
        twice: see `positions`.
        drop: chance that the last block's halves are skipped, rising from 0 at the first block; 0 runs the
            plain tower.
        drop_tokens: one draw for each position in all images; else one for each image.

    Raises:
        ShapeError: a side under one patch.
    """
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    if min(grid) < 1:
        raise ShapeError(
            f"got pixels of {tuple(pixels.shape[-2:])}; give at least {vision.patch} on each side"
        )
    table = positions(vision.positional_embedding, vision.class_embedding, grid, twice=twice)
    x = vision.embed(pixels, table)
    kept: dict[int, Tensor] = {}
    blocks = vision.blocks
    for number, block in enumerate(blocks):
        chance = drop * number / max(len(blocks) - 1, 1)
        x = _dropped(block, x, chance, drop_tokens) if chance else block(x)
        if number + 1 in taps:
            kept[number + 1] = x[:, 1:].transpose(1, 2).unflatten(-1, grid).contiguous()
    first, second, third, fourth = (kept[tap] for tap in taps)
    return Trunk((first, second, third, fourth), vision.project(x))


def name_ids(names: Sequence[str], length: int = NAME_TOKENS) -> Int[Tensor, "k n"]:
    """Ids of class names: start, the name, end, zeros, in as few columns as the longest needs.

    Args:
        names: one a class.
        length: columns at least; the authors have 5, which is the longest of their names.

    Raises:
        InputError: no names.

    Example:
        >>> name_ids(["cat", "potted plant"]).shape
        torch.Size([2, 5])
    """
    if not names:
        raise InputError("got no class names; give at least one")
    ids = tokenize(names)
    longest = int((ids == END).int().argmax(dim=1).max()) + 1
    return ids[:, : max(longest, length)].clone()


def check_length(ids: Int[Tensor, "k n"], contexts: int, rows: int) -> None:
    """Refuse names that are too long for a text tower.

    Args:
        ids: as `name_ids` gives them.
        contexts: learnable vectors before each name.
        rows: of the tower's position table.

    Raises:
        InputError: naming both lengths.
    """
    needed = int(ids.argmax(dim=-1).max()) + 1 + contexts
    if needed > rows:
        raise InputError(
            f"the names need {needed} tokens with their contexts and the text tower has {rows}; "
            "give shorter names or fewer contexts"
        )


def contextual_texts(
    text: Text, ids: Int[Tensor, "k n"], contexts: Float[Tensor, "1 m d"]
) -> Float[Tensor, "k e"]:
    """Features of start, contexts, name, end: read at the end token, not normalised, float32.

    Only columns up to the last end token are computed; the mask is causal, so no other matters.

    Args:
        text: the text tower.
        ids: as `name_ids` gives them; the end token has the largest id.
        contexts: shared by all names; none (m = 0) are the plain names.

    Raises:
        InputError: contexts and names are longer than the tower's position table.
    """
    check_length(ids, contexts.shape[1], len(text.positional_embedding))
    ends = ids.argmax(dim=-1)
    words = text.token_embedding(ids[:, : int(ends.max()) + 1]).float()
    shared = contexts.float().expand(len(ids), -1, -1)
    x = torch.cat([words[:, :1], shared, words[:, 1:]], dim=1)
    x = x + text.positional_embedding[: x.shape[1]]
    for block in text.transformer.resblocks:
        x = block(x, causal=True)
    at_end = x[torch.arange(len(x), device=x.device), ends + contexts.shape[1]]
    last: Tensor = text.ln_final(at_end)
    return (last.to(text.text_projection.dtype) @ text.text_projection).float()


def _dropped(block: Block, x: Tokens, chance: float, tokens: bool) -> Tokens:
    """A block in training, each half skipped by chance and made up for where it is not."""

    def keep(branch: Tensor) -> Tensor:
        shape = (1, x.shape[1], 1) if tokens else (len(x), 1, 1)
        drawn = torch.rand(shape, device=x.device) >= chance
        return branch * (drawn / (1 - chance))

    q, k, v = block.attn.qkv(block.ln_1(x))
    x = x + keep(block.attn.merge(F.scaled_dot_product_attention(q, k, v)))
    return x + keep(block.mlp(block.ln_2(x)))
