"""The cosines of an image's windows, stitched when rows of them are read."""

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
    """All windows' patches, window beside window."""
    down: Float[Tensor, "h rows"]
    across: Float[Tensor, "w cols"]
    pixels: Float[Tensor, "3 hs ws"]
    """The scaled, normalised image the windows were cut from."""
    hidden: Bool[Tensor, "h w"] | None = None
    """Pixels that look into a window whose cosines are not numbers; None where there is no such window."""

    @property
    def size(self) -> Size:
        """(h, w) of the original image."""
        return len(self.down), len(self.across)

    def rows(self, top: int, bottom: int) -> Float[Tensor, "q strip w"]:
        """Rows top..bottom of the full-size averaged cosines."""
        down = self.down[top:bottom]
        if len(down) < self.cosines.shape[1]:  # a thin strip: the short side first
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
    """Windows' maps laid out for `down @ maps @ across.T`; a window of NaN stays where it is."""
    blind = maps.isnan().any(dim=(1, 2, 3)) if maps.isnan().any() else None
    if blind is None:
        return CosineMaps(tile_windows(maps, plan), down, across, pixels)
    # Products would carry a NaN everywhere; only pixels that look into the window may be NaN.
    unseen = tile_windows(blind[:, None, None, None].expand(-1, 1, *maps.shape[2:]).float(), plan)
    hidden = (down @ unseen[0] @ across.T) > 0
    return CosineMaps(tile_windows(maps.nan_to_num(0.0), plan), down, across, pixels, hidden)
