"""A simple policy of corrections: which click brings a mask closest to the truth, for the fewest actions.

It knows the truth, which a person sees in the photo. The next change is always the one with the greatest gain
of mean IoU per action. So it is a person who never errs; its counts compare masks with others, and are no
forecast of minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, UInt8

from tagmask.regions.components import components

__all__ = ["Change", "best_change", "connected_regions", "mean_iou"]

Labels = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Change:
    """One click, or dab of the brush, and what it needs before."""

    tool: str
    """The tool's key on the page."""
    label: int
    """The class that the pixels get."""
    point: tuple[int, int]
    """(x, y): the pixel to click."""
    gain: float
    """Of mean IoU, for each action."""


def mean_iou(mask: Labels, truth: Labels) -> float:
    """Mean IoU over the classes that are in the mask or in the truth, background included."""
    return float(_miou(_confusion(mask, truth)[None])[0])


def best_change(
    mask: Labels, truth: Labels, superpixels: Int[np.ndarray, "h w"], *, tool: str, label: int, brush: float
) -> Change | None:
    """Return the change with the greatest gain per action; None if none gains anything.

    Args:
        mask: as it is now.
        truth: as it should be.
        superpixels: the page's regions of one colour, by number.
        tool: the key of the tool that is chosen.
        label: the class that is chosen.
        brush: diameter of the brush, in pixels.

    Returns:
        The change. Each costs a click, one more if its tool and one more if its class has to be chosen first.
    """
    found: list[Change] = []
    regions = {"s": superpixels, "f": connected_regions(mask), "x": mask.astype(np.int64)}
    confusion = _confusion(mask, truth)
    for key, ids in regions.items():
        counts = _joint(ids, truth, mask, len(confusion))
        labels = counts.sum(axis=2).argmax(axis=1)
        gains = _miou(_filled(confusion, counts, labels)) - _miou(confusion[None])
        gains /= 1 + (key != tool) + (labels != label)
        best = int(gains.argmax())
        found.append(Change(key, int(labels[best]), _inside(ids == best), float(gains[best])))
    found += _dabs(mask, truth, confusion, tool, label, brush)
    best_found = max(found, key=lambda change: change.gain)
    return best_found if best_found.gain > 0 else None


def _dabs(
    mask: Labels, truth: Labels, confusion: Int[np.ndarray, "c c"], tool: str, label: int, brush: float
) -> Iterator[Change]:
    """Yield the best dab of the brush for each class: where the most pixels become right."""
    disc = _disc(mask.shape, brush)
    spectrum = np.conj(np.fft.rfft2(np.fft.ifftshift(disc)))
    before = _miou(confusion[None])[0]
    for wanted in np.unique(truth[truth != mask]):
        gained = (truth == wanted).astype(np.float64) * (mask != wanted)
        gained -= (truth == mask) & (mask != wanted)
        counts = np.fft.irfft2(np.fft.rfft2(gained) * spectrum, s=mask.shape)
        y, x = np.unravel_index(int(counts.argmax()), mask.shape)
        rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
        after = np.where((rows - y) ** 2 + (columns - x) ** 2 <= (brush / 2) ** 2, wanted, mask)
        gain = _miou(_confusion(after.astype(np.uint8), truth, len(confusion))[None])[0] - before
        actions = 1 + (tool != "b") + (int(wanted) != label)
        yield Change("b", int(wanted), (int(x), int(y)), float(gain) / actions)


def _disc(size: tuple[int, ...], diameter: float) -> Float64[np.ndarray, "h w"]:
    rows, columns = (np.arange(n) - n // 2 for n in size)
    return (rows[:, None] ** 2 + columns**2 <= (diameter / 2) ** 2).astype(np.float64)


def connected_regions(mask: Labels) -> Int[np.ndarray, "h w"]:
    """Number the connected regions of equal labels (four neighbours), from 0 on."""
    ids = np.zeros(mask.shape, np.int64)
    for number, region in enumerate(components(mask, 0, 256)):
        x0, y0, x1, y1 = region.box
        ids[y0:y1, x0:x1][region.mask] = number
    return ids


def _confusion(mask: Labels, truth: Labels, classes: int = 0) -> Int[np.ndarray, "c c"]:
    """Count pixels by true class (rows) and class of the mask."""
    classes = classes or 1 + int(max(mask.max(), truth.max()))
    return np.bincount(truth.ravel().astype(np.int64) * classes + mask.ravel(), minlength=classes**2).reshape(
        classes, classes
    )


def _joint(
    ids: Int[np.ndarray, "h w"], truth: Labels, mask: Labels, classes: int
) -> Int[np.ndarray, "r c c"]:
    """Count pixels by region, true class and class of the mask."""
    count = 1 + int(ids.max())
    codes = (ids.astype(np.int64) * classes + truth) * classes + mask
    return np.bincount(codes.ravel(), minlength=count * classes**2).reshape(count, classes, classes)


def _filled(
    confusion: Int[np.ndarray, "c c"], counts: Int[np.ndarray, "r c c"], labels: Int[np.ndarray, " r"]
) -> Int[np.ndarray, "r c c"]:
    """The confusion after each region alone was given its label."""
    after = confusion - counts
    after[np.arange(len(labels)), :, labels] += counts.sum(axis=2)
    return after


def _miou(confusion: Int[np.ndarray, "r c c"]) -> Float64[np.ndarray, " r"]:
    right = np.diagonal(confusion, axis1=1, axis2=2)
    union = confusion.sum(axis=1) + confusion.sum(axis=2) - right
    present = union > 0
    return np.where(present, right / np.maximum(union, 1), 0).sum(axis=1) / present.sum(axis=1)


def _inside(region: Bool[np.ndarray, "h w"]) -> tuple[int, int]:
    """A pixel of a region, the middle one of its middle row."""
    rows = np.flatnonzero(region.any(axis=1))
    if not rows.size:
        return 0, 0  # the number of no pixel
    y = int(rows[len(rows) // 2])
    columns = np.flatnonzero(region[y])
    return int(columns[len(columns) // 2]), y
