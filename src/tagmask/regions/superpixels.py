"""Superpixels: small regions of one colour that follow an image's edges (SLIC).

Clusters start on a grid, and every pixel is compared with the nine clusters around its cell only. Centres are
found on a small copy of the image; its pixels are then assigned at full size, strip by strip.

    R. Achanta et al. "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012.
"""

from typing import Final

import numpy as np
import PIL.Image
from jaxtyping import Float32, Int, UInt8, UInt32

__all__ = ["superpixels"]

_SMALL: Final = 200_000
"""Pixels of the copy on which centres are found."""
_STRIP: Final = 1 << 18
"""Pixels assigned at a time."""
_ROUNDS: Final = 5


def superpixels(
    image: UInt8[np.ndarray, "h w 3"], count: int = 600, *, compactness: float = 12.0
) -> UInt32[np.ndarray, "h w"]:
    """Divide an image into regions of about equal size.

    Args:
        image: upright RGB.
        count: about how many regions; fewer in small images.
        compactness: weight of the distance in the image against that of the colours; the larger, the squarer.

    Returns:
        The number of each pixel's region.
    """
    height, width = image.shape[:2]
    side = max(4.0, (height * width / count) ** 0.5)
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    scale = min(1.0, (_SMALL / (height * width)) ** 0.5)
    size = (max(columns, round(width * scale)), max(rows, round(height * scale)))
    small = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BOX))
    grid = (rows, columns)
    centres = _start(small, grid)
    for _ in range(_ROUNDS):
        labels = _assigned(small, 0, len(small), centres, grid, compactness)
        centres = _means(small, labels, centres, grid)
    regions = np.empty((height, width), np.uint32)
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        regions[top:bottom] = _assigned(image[top:bottom], top, height, centres, grid, compactness)
    return regions


def _start(image: UInt8[np.ndarray, "h w 3"], grid: tuple[int, int]) -> Float32[np.ndarray, "n 5"]:
    """Colours and places of the cells' middles; places are counted in cells."""
    rows, columns = grid
    y, x = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
    colours = image[
        (y * image.shape[0] / rows).astype(int).clip(max=image.shape[0] - 1),
        (x * image.shape[1] / columns).astype(int).clip(max=image.shape[1] - 1),
    ]
    return np.concatenate([colours, y[..., None], x[..., None]], axis=-1).reshape(-1, 5).astype(np.float32)


def _assigned(
    image: UInt8[np.ndarray, "strip w 3"],
    top: int,
    height: int,
    centres: Float32[np.ndarray, "n 5"],
    grid: tuple[int, int],
    compactness: float,
) -> Int[np.ndarray, "strip w"]:
    """The nearest centre of each pixel in a strip of an image that starts at row `top`."""
    rows, columns = grid
    y = _cells(top, top + len(image), height, rows)
    x = _cells(0, image.shape[1], image.shape[1], columns)
    colours = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    nearest = np.full(image.shape[:2], np.inf, np.float32)
    labels = np.zeros(image.shape[:2], np.int64)
    cells = np.ascontiguousarray(centres.T).reshape(5, rows, columns)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row = (y.astype(int) + down).clip(0, rows - 1)
            column = (x.astype(int) + right).clip(0, columns - 1)
            centre = cells[:, row][:, :, column]
            distance = (y[:, None] - centre[3]) ** 2 + (x[None, :] - centre[4]) ** 2
            distance *= compactness**2
            for colour, other in zip(colours, centre[:3], strict=True):
                distance += (colour - other) ** 2
            better = distance < nearest
            np.copyto(nearest, distance, where=better)
            np.copyto(labels, row[:, None] * columns + column[None, :], where=better)
    return labels


def _means(
    image: UInt8[np.ndarray, "h w 3"],
    labels: Int[np.ndarray, "h w"],
    centres: Float32[np.ndarray, "n 5"],
    grid: tuple[int, int],
) -> Float32[np.ndarray, "n 5"]:
    """Mean colour and place of each region; a region without pixels stays as it is."""
    y, x = (
        np.broadcast_to(axis, labels.shape).ravel()
        for axis in (
            _cells(0, len(image), len(image), grid[0])[:, None],
            _cells(0, image.shape[1], image.shape[1], grid[1])[None, :],
        )
    )
    flat = labels.ravel()
    sizes = np.bincount(flat, minlength=len(centres))
    moved, found = centres.copy(), sizes > 0
    for i, values in enumerate((*image.reshape(-1, 3).T, y, x)):
        sums = np.bincount(flat, weights=values, minlength=len(centres))
        moved[found, i] = sums[found] / sizes[found]
    return moved


def _cells(start: int, stop: int, pixels: int, cells: int) -> Float32[np.ndarray, " n"]:
    """Middles of pixels along an axis, counted in cells."""
    return ((np.arange(start, stop) + 0.5) * (cells / pixels)).astype(np.float32)
