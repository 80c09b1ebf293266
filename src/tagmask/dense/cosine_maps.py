"""Cosine maps of an image's windows, stitched to full size on demand, row by row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tagmask.dense.windows import Windows, tile_windows, used_columns
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
    corrections: Float[Tensor, "c rows cols"] | None = None
    """What a head adds to the score of each class (`tagmask.pipelines.head`), laid out like the cosines."""

    @property
    def size(self) -> Size:
        """(h, w) of the original image."""
        return len(self.down), len(self.across)

    def rows(self, top: int, bottom: int) -> Float[Tensor, "planes strip w"]:
        """Rows top..bottom of the averaged cosines at full size, followed by the corrections if any."""
        maps = self._stitched(self.cosines, top, bottom)
        if self.corrections is not None:
            maps = torch.cat([maps, self._stitched(self.corrections, top, bottom)])
        return maps if self.hidden is None else maps.masked_fill(self.hidden[top:bottom], torch.nan)

    def with_corrections(self, texts: int) -> "CosineMaps":
        """Take the maps after the first `texts` as corrections."""
        return replace(self, cosines=self.cosines[:texts], corrections=self.cosines[texts:])

    def restricted(self, texts: Sequence[int], classes: Sequence[int]) -> "CosineMaps":
        """The maps of some texts, and the corrections of their classes."""
        corrections = None if self.corrections is None else self.corrections[classes]
        return replace(self, cosines=self.cosines[texts], corrections=corrections)

    def _stitched(
        self, maps: Float[Tensor, "planes rows cols"], top: int, bottom: int
    ) -> Float[Tensor, "planes strip w"]:
        down, rows = self.down[top:bottom], slice(None)
        if down.device.type == "cpu":  # elsewhere, reading which columns are used would wait for the device
            down, rows = used_columns(down)
        if len(down) < down.shape[1]:  # a thin strip: reduce the rows first
            return (down @ maps[:, rows]) @ self.across.T
        return down @ (maps[:, rows] @ self.across.T)


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
