"""MCTformer's network: DeiT with one class token per class, in three versions.

    c   classes, each with a token            l   blocks, counted from 0
    p   patches = gh * gw, row-major          n   tokens: c class tokens, then p patches

    version   patch head   position tables                 published input
    v1        no           one: c + p rows                 224
    v2        3x3, d -> c  one: c + p rows                 224
    plus      3x3, d -> c  two: c rows, and p rows         448

Scores and maps read the tokens straight after the last block: the final norm is not applied. It, V1's linear
head and Plus's `pos_embed` only stand in the state dict, under the published names, and are never trained.

Source:
    MCTformer (Xu et al., CVPR 2022) and MCTformer+ (Xu et al., 2023), as coded by the authors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.checks import check_choice, check_number
from tagmask.clip.model import ACTIVATIONS
from tagmask.errors import InputError, ShapeError
from tagmask.types import Pixels, Size, Tokens

__all__ = [
    "PATCH",
    "VERSIONS",
    "ClassScores",
    "Maps",
    "MctFormer",
    "MctOutput",
    "MctShape",
    "patch_positions",
    "pooled_scores",
]

VERSIONS: Final = ("v1", "v2", "plus")
PATCH: Final = 16
"""Side of a patch in pixels."""
_EPS: Final = 1e-6
_STD: Final = 0.02
_DECAY: Final = 0.996
"""Plus: weight of a patch relative to the one ranked before it."""

ClassScores: TypeAlias = Float[Tensor, "b c"]
"""Logits of the classes."""
Maps: TypeAlias = Float[Tensor, "b c gh gw"]
"""One map per class on the patch grid."""
HeadMean: TypeAlias = Float[Tensor, "b n n"]
"""Attention of a block, after the softmax, averaged over heads; rows are queries."""


@dataclass(frozen=True)
class MctShape:
    """Sizes of a network; the defaults are DeiT-S/16's.

    Raises:
        InputError: a value out of range.
    """

    version: str
    """One of `VERSIONS`."""
    classes: int
    width: int = 384
    depth: int = 12
    heads: int = 6
    grid: int = 14
    """Side of the patch position table: 14 for input 224; Plus: 28 for input 448."""
    unused_grid: int = 14
    """Plus: side of the left-over table `pos_embed`."""
    norm_pre: bool = False
    """A norm before the first block, as in CLIP's image towers. MCTformer has none; this project adds it, so
    that a network can start from a CLIP."""
    activation: str = "gelu"
    """"gelu"; or "quickgelu", which a CLIP may have."""

    def __post_init__(self) -> None:
        check_choice("MCTformer version", self.version, VERSIONS)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        for name in ("classes", "width", "depth", "heads", "grid", "unused_grid"):
            check_number(name, getattr(self, name), 1, whole=True)
        if self.width % self.heads:
            raise InputError(f"width is {self.width}. Give a multiple of the number of heads, {self.heads}.")


@dataclass(frozen=True, eq=False)
class MctOutput:
    """Scores of a batch, and the tokens that they come from."""

    class_scores: ClassScores
    """Mean over the channels of each class token."""
    patch_scores: ClassScores | None
    """Pooled patch maps; None for V1."""
    patch_maps: Maps | None
    """The patch head's output, of any sign; None for V1."""
    class_tokens: Float[Tensor, "l b c d"]
    """After each block."""
    patch_tokens: Float[Tensor, "b p d"]
    """After the last block."""


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tokens, keep: bool) -> tuple[Tokens, HeadMean | None]:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mean: HeadMean | None = None
        if keep:
            weights = torch.softmax(q * (d // self.heads) ** -0.5 @ k.transpose(-2, -1), dim=-1)
            mixed, mean = weights @ v, weights.mean(dim=1)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, d)), mean


class _Mlp(nn.Module):
    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tokens) -> Tokens:
        return cast(Tensor, self.fc2(self.activation(self.fc1(x))))


class _Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, drop_path: float, activation: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = _Mlp(width, activation)
        self.drop_path = drop_path

    def forward(self, x: Tokens, keep: bool) -> tuple[Tokens, HeadMean | None]:
        mixed, mean = self.attn(self.norm1(x), keep)
        x = x + self._dropped(mixed)
        return x + self._dropped(self.mlp(self.norm2(x))), mean

    def _dropped(self, branch: Tokens) -> Tokens:
        """Drop whole branches of images at random in training; scale up the others."""
        if not self.training or not self.drop_path:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * (kept / (1 - self.drop_path)).to(branch.dtype)


class MctFormer(nn.Module):
    """MCTformer, freshly initialised; parameters have the published names.

    Args:
        shape: version and sizes.
        drop_path: probability of dropping a residual branch of the last block; rises linearly from 0.
    """

    def __init__(self, shape: MctShape, *, drop_path: float = 0.0) -> None:
        super().__init__()
        check_number("drop_path", drop_path, 0, 0.9)
        self.shape = shape
        c, d = shape.classes, shape.width
        self.cls_token = nn.Parameter(torch.empty(1, c, d))
        if shape.version == "plus":
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + shape.unused_grid**2, d), requires_grad=False)
            self.pos_embed_cls = nn.Parameter(torch.empty(1, c, d))
            self.pos_embed_pat = nn.Parameter(torch.empty(1, shape.grid**2, d))
        else:
            self.pos_embed = nn.Parameter(torch.empty(1, c + shape.grid**2, d))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, d, PATCH, PATCH)})
        rates = [drop_path * l / max(shape.depth - 1, 1) for l in range(shape.depth)]  # noqa: E741
        if shape.norm_pre:
            self.norm_pre = nn.LayerNorm(d, eps=_EPS)
        self.blocks = nn.ModuleList(_Block(d, shape.heads, rate, shape.activation) for rate in rates)
        self.norm = nn.LayerNorm(d, eps=_EPS).requires_grad_(False)
        self.head: nn.Linear | nn.Conv2d
        if shape.version == "v1":
            self.head = nn.Linear(d, c).requires_grad_(False)
        else:
            self.head = nn.Conv2d(d, c, 3, padding=1)
        for name, parameter in self.named_parameters():
            if name == "cls_token" or name.startswith("pos_embed"):
                nn.init.trunc_normal_(parameter, std=_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):  # convolutions keep PyTorch's initialisation
                nn.init.trunc_normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Pixels) -> MctOutput:
        """Compute scores, patch maps and tokens."""
        states = [tokens for tokens, _ in self.run_blocks(pixels)]
        classes = torch.stack([tokens[:, : self.shape.classes] for tokens in states])
        patches = states[-1][:, self.shape.classes :]
        maps = self.patch_maps(patches, grid_of(pixels))
        scores = None if maps is None else self.patch_scores(maps)
        return MctOutput(classes[-1].mean(dim=-1), scores, maps, classes, patches)

    def run_blocks(
        self, pixels: Pixels, *, attention: bool = False
    ) -> Iterator[tuple[Tokens, HeadMean | None]]:
        """Yield the tokens after each block and, on request, its attention averaged over heads.

        Raises:
            ShapeError: images smaller than a patch.
        """
        grid = grid_of(pixels)
        tokens = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        classes, patches = self._positions(grid, square=pixels.shape[-2] == pixels.shape[-1])
        tokens = torch.cat([(self.cls_token + classes).expand(len(pixels), -1, -1), tokens + patches], dim=1)
        tokens = self.norm_pre(tokens) if self.shape.norm_pre else tokens
        for block in self.blocks:
            tokens, mean = block(tokens, attention)
            yield tokens, mean

    def patch_maps(self, patches: Float[Tensor, "b p d"], grid: Size) -> Maps | None:
        """Apply the patch head to the last patch tokens; None for V1."""
        if self.shape.version == "v1":
            return None
        return cast(Tensor, self.head(patches.transpose(1, 2).unflatten(2, grid)))

    def patch_scores(self, maps: Maps) -> ClassScores:
        """Pool patch maps: the mean, or Plus's weighted ranking."""
        return pooled_scores(maps, _DECAY if self.shape.version == "plus" else 1.0)

    def _positions(
        self, grid: Size, *, square: bool
    ) -> tuple[Float[Tensor, "1 c d"], Float[Tensor, "1 p d"]]:
        """Position rows of class tokens and patches, the latter for a grid."""
        plus, c = self.shape.version == "plus", self.shape.classes
        classes = self.pos_embed_cls if plus else self.pos_embed[:, :c]
        patches = self.pos_embed_pat if plus else self.pos_embed[:, c:]
        # As coded, the count decides together with whether the image, not the grid, is square.
        if square and grid[0] * grid[1] == self.shape.grid**2:
            return classes, patches
        return classes, patch_positions(patches[0], grid, nudged=not plus)[None]


def grid_of(pixels: Pixels) -> Size:
    """Patch grid of a batch; rows and columns of pixels beyond the last whole patch are dropped.

    Raises:
        ShapeError: images smaller than a patch.
    """
    h, w = pixels.shape[-2:]
    if min(h, w) < PATCH:
        raise ShapeError(
            f"The image is {(h, w)} (h, w), smaller than a patch. Give at least {PATCH} x {PATCH} pixels."
        )
    return h // PATCH, w // PATCH


def patch_positions(table: Float[Tensor, "m d"], grid: Size, *, nudged: bool) -> Float[Tensor, "p d"]:
    """Resize a square table of patch positions to a grid, bicubic with a = -0.75 and clamped borders.

    Args:
        table: g x g rows.
        grid: (gh, gw).
        nudged: sample at the scale (gh + 0.1) / g instead of gh / g, as V1 and V2 do.
    """
    side = round(len(table) ** 0.5)
    image = table.T.reshape(1, -1, side, side)
    if nudged:
        factors = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
        resized = F.interpolate(image, scale_factor=factors, mode="bicubic", align_corners=False)
    else:
        resized = F.interpolate(image, size=grid, mode="bicubic", align_corners=False)
    return resized[0].flatten(1).T


def pooled_scores(maps: Maps, decay: float) -> ClassScores:
    """Weighted mean of each map, whose r-th largest value weighs `decay` ** r; with decay 1 the mean.

    Example:
        >>> pooled_scores(torch.tensor([[[[1.0, 3.0]]]]), 0.5)
        tensor([[2.3333]])
    """
    values = maps.flatten(2)
    if decay == 1:
        return values.mean(dim=-1)
    weights = decay ** torch.arange(values.shape[-1], device=maps.device, dtype=maps.dtype)
    return (values.sort(dim=-1, descending=True).values * weights).sum(dim=-1) / weights.sum()
