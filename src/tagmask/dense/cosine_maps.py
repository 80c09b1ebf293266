"""Cosine maps of an image's windows, stitched to full size on demand, row by row."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tagmask.dense.windows import Windows, tile_windows
from tagmask.types import Size

__all__ = ["CosineMaps", "stitch"]


@dataclass(frozen=True, eq=False)
class CosineMaps:
    """The cosines of one image's windows, and the separable map that stitches them to full size."""

    cosines: Float[Tensor, "q rows cols"]
    """All windows' maps, laid out side by side (see `tile_windows`)."""
    down: Float[Tensor, "h rows"]
    across: Float[Tensor, "w cols"]
    pixels: Float[Tensor, "3 hs ws"]
    """The scaled, normalised image that the windows were cropped from."""
    hidden: Bool[Tensor, "h w"] | None = None
    """Pixels that depend on a window with NaN cosines; None if there is no such window."""

    @property
    def size(self) -> Size:
        """(h, w) of the original image."""
        return len(self.down), len(self.across)

    def rows(self, top: int, bottom: int) -> Float[Tensor, "q strip w"]:
        """Rows top..bottom of the averaged cosines at full size."""
        down = self.down[top:bottom]
        if len(down) < self.cosines.shape[1]:  # a thin strip: reduce the rows first
            maps = (down @ self.cosines) @ self.across.T
        else:
            maps = down @ (self.cosines @ self.across.T)
        return maps if self.hidden is None else maps.masked_fill(self.hidden[top:bottom], torch.nan)


def stitch(
    maps: Float[Tensor, "windows q gh gw"],
    plan: Windows,
    down: Float[Tensor, "h rows"],
    across: Float[Tensor, "w cols"],
    pixels: Float[Tensor, "3 hs ws"],
) -> CosineMaps:
    """Lay out the windows' maps for `down @ maps @ across.T`; NaN stays confined to its window."""
    has_nan = maps.isnan().any(dim=(1, 2, 3)) if maps.isnan().any() else None
    if has_nan is None:
        return CosineMaps(tile_windows(maps, plan), down, across, pixels)
    # Matrix products would spread a NaN to all pixels; only pixels inside the window may be NaN.
    nan_cells = tile_windows(has_nan[:, None, None, None].expand(-1, 1, *maps.shape[2:]).float(), plan)
    hidden = (down @ nan_cells[0] @ across.T) > 0
    return CosineMaps(tile_windows(maps.nan_to_num(0.0), plan), down, across, pixels, hidden)
