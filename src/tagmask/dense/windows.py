"""Positions of an image's windows, and the linear maps that stitch their score maps.

Windows lie on a product grid: every row of windows has the same columns. Upsampling a
window's map, adding it to the image, dividing by the number of windows per pixel and the
final resize are all linear and separable. So the four steps are one product,
`Y @ maps @ X.T`, whose two factors depend on sizes only: they are built once, and
no array of the image's size is ever accumulated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tagmask.errors import InputError, ShapeError
from tagmask.types import Size

__all__ = [
    "Box",
    "Windows",
    "plan_windows",
    "resize_matrix",
    "single_window",
    "stitch_matrices",
    "tile_windows",
    "used_columns",
]

Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels, half-open."""


@dataclass(frozen=True)
class Windows:
    """Windows of equal size on a product grid that cover an image without gaps.

    Raises:
        InputError: the windows are empty, not ascending, do not start at 0 or leave gaps.
    """

    tops: tuple[int, ...]
    """First pixel row of each row of windows, ascending from 0."""
    lefts: tuple[int, ...]
    """First pixel column of each column of windows, ascending from 0."""
    height: int
    """Height of every window, in pixels."""
    width: int
    """Width of every window, in pixels."""

    def __post_init__(self) -> None:
        _require_cover(self.tops, self.height, "rows")
        _require_cover(self.lefts, self.width, "columns")

    @property
    def canvas(self) -> Size:
        """(h, w) of the image that the windows cover."""
        return self.tops[-1] + self.height, self.lefts[-1] + self.width

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All windows, row by row."""
        return tuple(self)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[Box]:
        return ((x, y, x + self.width, y + self.height) for y in self.tops for x in self.lefts)


def plan_windows(size: Size, crop: int, stride: int) -> Windows:
    """Cover an image by square windows; the last row and column are flush with its border.

    Args:
        size: (h, w) of the image in pixels.
        crop: side of a window in pixels, reduced to the image's side where that is smaller.
        stride: pixels from one window to the next; the last step may be shorter.

    Raises:
        InputError: an argument is under 1, or the stride leaves pixels that no window covers.

    Source:
        SCLIP (ECCV 2024), as coded by the authors; the rule is mmsegmentation's.

    Example:
        >>> windows = plan_windows((336, 448), crop=224, stride=112)
        >>> windows.tops, windows.lefts, len(windows)
        ((0, 112), (0, 112, 224), 6)
    """
    if crop < 1 or stride < 1:
        raise InputError(f"Got crop {crop} and stride {stride}. Both must be at least 1 pixel.")
    _require_size(size, "image")
    h, w = size
    return Windows(_starts(h, crop, stride), _starts(w, crop, stride), min(crop, h), min(crop, w))


def single_window(size: Size) -> Windows:
    """Cover the whole image by one window.

    Raises:
        InputError: a side is under 1.

    Example:
        >>> single_window((30, 40)).boxes
        ((0, 0, 40, 30),)
    """
    _require_size(size, "image")
    return Windows((0,), (0,), *size)


def tile_windows(maps: Float[Tensor, "windows q gh gw"], windows: Windows) -> Float[Tensor, "q rows cols"]:
    """Concatenate the windows' maps on their grid, the layout that `stitch_matrices` expects.

    Args:
        maps: one map per window and text, windows in the order of `windows.boxes`.
        windows: their positions.

    Returns:
        The map of window (i, j) at rows i * gh ... and columns j * gw ...; pixels covered by
        several windows therefore appear several times.

    Raises:
        ShapeError: the number of maps is not the number of windows.
    """
    if len(maps) != len(windows):
        raise ShapeError(f"Got {len(maps)} maps for {len(windows)} windows. Give one map per window.")
    _, q, gh, gw = maps.shape
    rows, columns = len(windows.tops), len(windows.lefts)
    tiled = maps.reshape(rows, columns, q, gh, gw).permute(2, 0, 3, 1, 4)
    return tiled.reshape(q, rows * gh, columns * gw)


def resize_matrix(source: int, target: int) -> Float[Tensor, "target source"]:
    """The linear map of a bilinear resize along one axis (align_corners off, no antialias).

    Args:
        source: samples before the resize.
        target: samples after it.

    Returns:
        float32, at most two nonzero entries per row; rows sum to 1. The weights are
        torch's own, including the float32 rounding of the sampling positions: on long axes exact
        positions would differ by up to 1e-4 of a sample.

    Raises:
        InputError: a size is under 1.

    Example:
        >>> resize_matrix(2, 4)
        tensor([[1.0000, 0.0000],
                [0.7500, 0.2500],
                [0.2500, 0.7500],
                [0.0000, 1.0000]])
    """
    _require_size((source, target), "resize")
    # Column k is the resized k-th unit vector.
    return F.interpolate(torch.eye(source)[None], size=target, mode="linear", align_corners=False)[0].T


def stitch_matrices(
    windows: Windows,
    grid: Size,
    canvas: Size,
    target: Size,
    *,
    through_canvas: bool = True,
    padded: Size | None = None,
) -> tuple[Float[Tensor, "h0 rows"], Float[Tensor, "w0 cols"]]:
    """Matrices Y, X that stitch the windows: `Y @ tile_windows(maps, windows) @ X.T` has size `target`.

    Equivalent to: resize each window's map to the window's size (bilinear), add it to an empty
    canvas, divide each pixel by the number of windows that cover it, resize to `target`
    (bilinear).

    Args:
        windows: positions of the windows on the canvas.
        grid: (gh, gw) of one window's map.
        canvas: (h, w) of the image that the windows were planned for.
        target: (h0, w0) of the result, usually the original image.
        through_canvas: False skips the canvas and resizes the map directly to `target`; only for a
            single window. True resizes twice, which gives other values.
        padded: (h, w) of a window after padding on all sides, if it was padded; its map is resized
            to that size, and the padding is cropped.

    Returns:
        Y (h0, rows of windows * gh) and X (w0, columns of windows * gw): float32 on the CPU,
        computed in float64, rows sum to 1.

    Raises:
        ShapeError: `canvas` is not the image that `windows` covers.
        InputError: a size is under 1, or `through_canvas` is off with several windows.

    Source:
        The four steps: SCLIP (ECCV 2024), as coded by the authors. One product instead of
        them is exact algebra; results differ by float32 rounding only.
    """
    _require_size(grid, "grid")
    _require_size(target, "target")
    if canvas != windows.canvas:
        raise ShapeError(
            f"Got a canvas of {canvas} for windows that cover {windows.canvas}. "
            "Plan the windows for the size of the canvas."
        )
    if through_canvas:
        size = padded or (windows.height, windows.width)
        y = _stitch(windows.tops, windows.height, grid[0], canvas[0], target[0], size[0])
        x = _stitch(windows.lefts, windows.width, grid[1], canvas[1], target[1], size[1])
        return y, x
    if len(windows) > 1:
        raise InputError(
            f"Got {len(windows)} windows with through_canvas=False. "
            "Only a single window can be resized directly to the target."
        )
    return resize_matrix(grid[0], target[0]), resize_matrix(grid[1], target[1])


def used_columns(matrix: Float[Tensor, "rows cells"]) -> tuple[Float[Tensor, "rows used"], slice]:
    """Drop the leading and trailing columns that are all zero, and say which are left.

    Some rows of a stitching matrix read few of the cells, so their products need no others.

    Example:
        >>> used_columns(resize_matrix(4, 8)[:2])
        (tensor([[1.0000, 0.0000],
                [0.7500, 0.2500]]), slice(0, 2, None))
    """
    used = matrix.ne(0).any(dim=0).nonzero()
    columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    return matrix[:, columns].contiguous(), columns


def _starts(side: int, crop: int, stride: int) -> tuple[int, ...]:
    count = max(side - crop + stride - 1, 0) // stride + 1
    return tuple(max(min(i * stride + crop, side) - crop, 0) for i in range(count))


def _stitch(
    starts: Sequence[int], length: int, cells: int, canvas: int, target: int, padded: int
) -> Float[Tensor, "target cells"]:
    before = (padded - length) // 2
    upsample = resize_matrix(cells, padded)[before : before + length].double()
    stitched = torch.zeros(canvas, len(starts) * cells, dtype=torch.float64)
    counts = torch.zeros(canvas, 1, dtype=torch.float64)
    for i, start in enumerate(starts):
        stitched[start : start + length, i * cells : (i + 1) * cells] = upsample
        counts[start : start + length] += 1
    # Counts are separable: a pixel's count is (rows of windows over it) * (columns over it).
    return (resize_matrix(canvas, target).double() @ (stitched / counts)).float()


def _require_size(size: Size, what: str) -> None:
    if min(size) < 1:
        raise InputError(f"Got the {what} size {size}. Each side must be at least 1.")


def _require_cover(starts: Sequence[int], length: int, axis: str) -> None:
    steps = [after - before for before, after in pairwise(starts)]
    if length < 1 or not starts or starts[0] != 0 or any(not 0 < step <= length for step in steps):
        raise InputError(
            f"Windows of {length} pixels that start at {axis} {tuple(starts)} do not cover an image "
            "without gaps. Start at 0 and use a stride of at most the crop."
        )
