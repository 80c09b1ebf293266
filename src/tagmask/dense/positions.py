"""Interpolation of the position table to grids that the weights were not trained on.

Every paper interpolates the stored table differently, which changes the features, so the rule is part of a
method. A rule takes the stored table (class token first, then side x side patches) and the target grid.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.types import Size

__all__ = [
    "POSITIONS",
    "Positions",
    "bicubic_nudged",
    "bicubic_nudged_by_shape",
    "bicubic_smooth",
    "bilinear",
    "bilinear_half",
    "bilinear_half_always",
]

Positions = Callable[[Float[Tensor, "m d"], Size], Float[Tensor, "n d"]]


def bicubic_nudged(table: Float[Tensor, "m d"], grid: Size) -> Float[Tensor, "n d"]:
    """Bicubic, by the factors (gh + 0.1) / side and (gw + 0.1) / side; unchanged for the stored patch count.

    The sampling positions follow those factors, not the ratio of sizes, so this is not a resize to `grid`. As
    coded, the patch *count* decides whether to interpolate: 7 x 28 patches use a 14 x 14 table unchanged.

    Source: SCLIP as coded by its authors; the 0.1 keeps the output from coming out one patch short.
    """
    return table if grid[0] * grid[1] == len(table) - 1 else bicubic_nudged_by_shape(table, grid)


def bicubic_nudged_by_shape(table: Float[Tensor, "m d"], grid: Size) -> Float[Tensor, "n d"]:
    """`bicubic_nudged`, corrected: interpolates every grid of another shape, whatever its patch count."""
    side = _side(table)
    if grid == (side, side):
        return table
    factors = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    patches = F.interpolate(_as_image(table, side), scale_factor=factors, mode="bicubic", align_corners=False)
    return _with_class_token(table, patches)


def bilinear_half(table: Float[Tensor, "m d"], grid: Size) -> Float[Tensor, "n d"]:
    """Bilinear to `grid`, then rounds the whole table to float16; unchanged for the stored grid.

    Source: TagCLIP as coded by its authors. The rounding moves logits by about 1e-3.
    """
    return table if grid == (_side(table),) * 2 else bilinear(table, grid).half().float()


def bilinear_half_always(table: Float[Tensor, "m d"], grid: Size) -> Float[Tensor, "n d"]:
    """`bilinear_half`, which also rounds the table to float16 for the stored grid.

    Source: CLIP-ES as coded by its authors.
    """
    return bilinear_half(table, grid).half().float()


def bicubic_smooth(table: Float[Tensor, "m d"], grid: Size) -> Float[Tensor, "n d"]:
    """Bicubic to `grid`, antialiased when downsampling; unchanged for the stored grid.

    Source: GEM as coded by its authors.
    """
    side = _side(table)
    if grid == (side, side):
        return table
    image = _as_image(table, side)
    patches = F.interpolate(image, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return _with_class_token(table, patches)


def bilinear(table: Float[Tensor, "m d"], grid: Size) -> Float[Tensor, "n d"]:
    """Bilinear to `grid`; unchanged for the stored grid.

    Source: CLIP Surgery as coded by its authors, for square grids; other grids are this project's extension.
    """
    side = _side(table)
    if grid == (side, side):
        return table
    patches = F.interpolate(_as_image(table, side), size=grid, mode="bilinear", align_corners=False)
    return _with_class_token(table, patches)


POSITIONS: Mapping[str, Positions] = MappingProxyType(
    {
        "bicubic-nudged": bicubic_nudged,
        "bicubic-nudged-by-shape": bicubic_nudged_by_shape,
        "bicubic-smooth": bicubic_smooth,
        "bilinear": bilinear,
        "bilinear-half": bilinear_half,
    }
)


def _side(table: Float[Tensor, "m d"]) -> int:
    return math.isqrt(len(table) - 1)


def _as_image(table: Float[Tensor, "m d"], side: int) -> Float[Tensor, "1 d side side"]:
    return table[1:].T.reshape(1, -1, side, side)


def _with_class_token(table: Float[Tensor, "m d"], patches: Float[Tensor, "1 d gh gw"]) -> Tensor:
    return torch.cat([table[:1], patches[0].flatten(1).T])
