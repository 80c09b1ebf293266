"""Regions of a label map: one per class, or one per connected component of a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt16

__all__ = ["REGION_KINDS", "Region", "RegionKind", "class_regions", "components", "regions_of"]

RegionKind: TypeAlias = Literal["class", "component"]
REGION_KINDS: tuple[RegionKind, ...] = ("class", "component")


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of one class, cropped to their bounding box."""

    label: int
    top: int
    left: int
    mask: Bool[np.ndarray, "h w"]
    """The pixels inside the box, which has pixels on each of its four sides."""

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) in pixels, half-open."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height

    def full(self, size: tuple[int, int]) -> Bool[np.ndarray, "_ _"]:
        """Return the mask at the size (h, w) of the image."""
        whole = np.zeros(size, bool)
        x0, y0, x1, y1 = self.box
        whole[y0:y1, x0:x1] = self.mask
        return whole


def regions_of(
    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"],
    kind: str,
    first: int,
    end: int,
    min_area: int = 1,
) -> Iterator[Region]:
    """Yield the regions of each label in first..end-1: one per class, or its connected components.

    Args:
        labels: class per pixel.
        kind: one of `REGION_KINDS`.
        first: lowest label, 1 to leave out a background.
        end: one more than the highest label.
        min_area: least number of pixels; smaller regions are left out.
    """
    if kind == "component":
        return components(labels, first, end, min_area)
    return (region for region in class_regions(labels, first, end) if region.area >= min_area)


def class_regions(
    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"], first: int, end: int
) -> Iterator[Region]:
    """Yield one region for each label in first..end-1 that occurs, in order.

    Args:
        labels: class per pixel.
        first: lowest label, 1 to leave out a background.
        end: one more than the highest label.

    Example:
        >>> labels = np.array([[1, 0, 1], [0, 2, 2]], np.uint8)
        >>> [(region.label, region.area, region.box) for region in class_regions(labels, 1, 3)]
        [(1, 2, (0, 0, 3, 1)), (2, 2, (1, 1, 3, 2))]
    """
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=end)[:end])
    for label in present[present >= first].tolist():
        mask = labels == label
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        yield Region(label, top, left, mask[top : rows[-1] + 1, left : columns[-1] + 1])


def components(
    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"], first: int, end: int, min_area: int = 1
) -> Iterator[Region]:
    """Yield the connected components of each label in first..end-1: by label, then by their first pixel.

    Pixels are connected through their edges; those that touch only at a corner are separate, as in polygons.

    Args:
        labels: class per pixel.
        first: lowest label, 1 to leave out a background.
        end: one more than the highest label.
        min_area: least number of pixels; smaller components are left out.

    Example:
        >>> labels = np.array([[1, 0, 1], [1, 2, 2]], np.uint8)
        >>> [(region.label, region.area, region.box) for region in components(labels, 1, 3)]
        [(1, 2, (0, 0, 1, 2)), (1, 1, (2, 0, 3, 1)), (2, 2, (1, 1, 3, 2))]
    """
    starts = np.ones(labels.shape, bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run_of = (np.cumsum(starts.ravel(), dtype=np.int64) - 1).reshape(labels.shape)
    touching = (labels[1:] == labels[:-1]) & (starts[1:] | starts[:-1])
    first_run = _first_of_component(int(run_of[-1, -1]) + 1, run_of[:-1][touching], run_of[1:][touching])

    y, x = np.nonzero(starts)
    ends = np.append(np.flatnonzero(starts.ravel())[1:], labels.size)
    lengths = ends - np.flatnonzero(starts.ravel())
    label_of = labels[y, x].astype(np.int64)
    kept = np.flatnonzero((label_of >= first) & (label_of < end))
    roots, inverse = np.unique(first_run[kept], return_inverse=True)
    area = np.bincount(inverse, weights=lengths[kept], minlength=len(roots))
    top, bottom = y[roots], np.zeros(len(roots), np.int64)
    left, right = np.full(len(roots), labels.shape[1]), np.zeros(len(roots), np.int64)
    np.maximum.at(bottom, inverse, y[kept] + 1)
    np.minimum.at(left, inverse, x[kept])
    np.maximum.at(right, inverse, x[kept] + lengths[kept])
    for i in np.lexsort((roots, label_of[roots])).tolist():
        if area[i] >= min_area:
            box = slice(int(top[i]), int(bottom[i])), slice(int(left[i]), int(right[i]))
            yield Region(
                int(label_of[roots[i]]), box[0].start, box[1].start, first_run[run_of[box]] == roots[i]
            )


def _first_of_component(
    n: int, one: Int[np.ndarray, " pairs"], other: Int[np.ndarray, " pairs"]
) -> Int[np.ndarray, " n"]:
    """Return the lowest member of each of n nodes' component, given the pairs that are connected."""
    lowest = np.arange(n)
    while True:
        a, b = lowest[one], lowest[other]
        differ = a != b
        if not differ.any():
            return lowest
        np.minimum.at(lowest, np.maximum(a, b)[differ], np.minimum(a, b)[differ])
        while True:  # follow each node to the lowest that is known
            jumped = lowest[lowest]
            if np.array_equal(jumped, lowest):
                break
            lowest = jumped
