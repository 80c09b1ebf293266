"""Regions that another program proposes: spans of pixels, averaged over score maps and painted by size."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Integer

from tagmask.errors import InputError, ShapeError
from tagmask.regions.run_lengths import mask_from_columns, mask_spans
from tagmask.types import Size

__all__ = ["ProposalBuilder", "Proposals", "RegionScores"]

_MOST_REGIONS = 65_535
"""As many as a 16-bit PNG has indices."""
_MOST_SPANS, _PIXELS_PER_SPAN = 5_000_000, 2
"""Most spans of all regions, and one more for so many pixels of the image; a span takes 20 bytes."""
_LOOP = 64
"""Regions with a span on so many pixels or more are painted span by span."""


@dataclass(frozen=True, eq=False)
class Proposals:
    """The regions of one image, the largest first; they may overlap. Made by a `ProposalBuilder`."""

    size: Size
    """(h, w) of the image."""
    starts: Int[np.ndarray, " spans"]
    """First pixel of each span, counted row by row; the spans of a region stand together and ascend."""
    stops: Int[np.ndarray, " spans"]
    """The pixel after the last of each span."""
    region: Int32[np.ndarray, " spans"]
    """The region that each span belongs to."""
    areas: Int[np.ndarray, " regions"]
    """Number of pixels of each region; never 0."""

    def __len__(self) -> int:
        return len(self.areas)

    @classmethod
    def of_masks(cls, masks: Iterable[Bool[np.ndarray, "_ _"]], size: Size) -> "Proposals":
        """Return the regions of masks of the image's size.

        Raises:
            ShapeError: a mask of another size.
            InputError: too many regions.
        """
        builder = ProposalBuilder(size)
        for mask in masks:
            builder.add_mask(mask)
        return builder.proposals()

    @classmethod
    def of_labels(cls, labels: Integer[np.ndarray, "h w"]) -> "Proposals":
        """Return the regions of an index map: one for each value but 0.

        Example:
            >>> regions = Proposals.of_labels(np.array([[0, 7, 7], [3, 7, 0]]))
            >>> regions.areas.tolist(), regions.starts.tolist()
            ([3, 1], [1, 4, 3])
        """
        flat = labels.ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        starts = np.concatenate([[0], changes])
        stops = np.append(changes, flat.size)
        values = flat[starts]
        inside = values != 0
        builder = ProposalBuilder((labels.shape[0], labels.shape[1]))
        builder.add_spans(starts[inside], stops[inside], values[inside])
        return builder.proposals()

    def index_map(self) -> Int32[np.ndarray, "_ _"]:
        """Return the smallest region at each pixel, of equal ones the last; -1 outside of all regions."""
        flat = np.full(self.size[0] * self.size[1], -1, np.int32)
        first = np.searchsorted(self.region, np.arange(len(self) + 1))
        for number in range(len(self)):
            spans = slice(first[number], first[number + 1])
            _fill(flat, self.starts[spans], self.stops[spans], number)
        return flat.reshape(self.size)


def _fill(
    flat: Int32[np.ndarray, " pixels"],
    starts: Int[np.ndarray, " spans"],
    stops: Int[np.ndarray, " spans"],
    value: int,
) -> None:
    first, last = int(starts[0]), int(stops[-1])
    if last - first >= _LOOP * len(starts):
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            flat[start:stop] = value
        return
    steps = np.zeros(last - first + 1, np.int8)
    steps[starts - first] = 1
    steps[stops - first] -= 1
    flat[first:last][np.cumsum(steps[:-1], dtype=np.int8).view(bool)] = value


class ProposalBuilder:
    """Collects the regions of one image.

    Args:
        size: (h, w) of the image.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self._parts: list[tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"], Int[np.ndarray, " s"]]] = []
        self._regions = self._spans = 0

    def add_mask(self, mask: Bool[np.ndarray, "_ _"]) -> None:
        """Add a region as a mask of the image's size; one without pixels is left out.

        Raises:
            ShapeError: it has another size.
            InputError: there are too many regions, or they have too many pieces.
        """
        if mask.shape != self.size:
            raise ShapeError(f"A region's mask is {mask.shape}, but the image is {self.size} (h, w).")
        rows = np.flatnonzero(mask.any(axis=1))
        if len(rows):
            top = int(rows[0])
            self._add_region(*mask_spans(mask[top : rows[-1] + 1], top, 0, self.size[1]))

    def add_columns(self, runs: Int[np.ndarray, " runs"]) -> None:
        """Add a region as COCO's run lengths, which add up to the image's pixels.

        Raises:
            InputError: as `add_mask`.
        """
        mask, left = mask_from_columns(runs, self.size)
        if mask.size:
            self._add_region(*mask_spans(mask, 0, left, self.size[1]))

    def add_spans(
        self,
        starts: Int[np.ndarray, " spans"],
        stops: Int[np.ndarray, " spans"],
        values: Integer[np.ndarray, " spans"],
    ) -> None:
        """Add a region for each value, whose spans of pixels have that value; all in ascending order.

        Raises:
            InputError: as `add_mask`.
        """
        found, region = np.unique(values, return_inverse=True)
        self._check(len(found), len(starts))
        self._parts.append((starts, stops, region + self._regions))
        self._regions += len(found)

    def proposals(self) -> Proposals:
        """Return the regions added so far, the largest first, equal ones in the order in which they came."""
        parts = [np.concatenate([np.zeros(0, np.int64), *part]) for part in zip(*self._parts, strict=True)]
        starts, stops, region = parts or [np.zeros(0, np.int64)] * 3
        areas = np.bincount(region, weights=stops - starts, minlength=self._regions).astype(np.int64)
        largest_first = np.argsort(-areas, kind="stable")
        rank = np.empty(self._regions, np.int32)
        rank[largest_first] = np.arange(self._regions)
        order = np.argsort(rank[region], kind="stable")
        return Proposals(self.size, starts[order], stops[order], rank[region[order]], areas[largest_first])

    def _add_region(self, starts: Int[np.ndarray, " spans"], stops: Int[np.ndarray, " spans"]) -> None:
        if not len(starts):
            return
        self._check(1, len(starts))
        self._parts.append((starts, stops, np.full(len(starts), self._regions)))
        self._regions += 1

    def _check(self, regions: int, spans: int) -> None:
        self._spans += spans
        if self._regions + regions > _MOST_REGIONS:
            raise InputError(f"There are more than {_MOST_REGIONS} regions. Leave out the smallest.")
        if self._spans > _MOST_SPANS + self.size[0] * self.size[1] // _PIXELS_PER_SPAN:
            raise InputError("The regions have too many pieces for an image of this size. Smooth them.")


class RegionScores:
    """Sums of scores over each region, added strip by strip, so that no region is ever a map of numbers.

    Args:
        proposals: the regions.
        planes: number of score maps.
    """

    def __init__(self, proposals: Proposals, planes: int) -> None:
        self.proposals = proposals
        self._sums = np.zeros((len(proposals), planes))

    def add(self, top: int, strip: Float[np.ndarray, "planes rows w"]) -> None:
        """Add some rows of the score maps; each row of the image must be added once.

        Args:
            top: the first row.
            strip: score of each plane, at all columns of these rows.
        """
        regions, (_, rows, width) = self.proposals, strip.shape
        low, high = top * width, (top + rows) * width
        inside = (regions.stops > low) & (regions.starts < high)
        region = regions.region[inside]
        starts, stops = (edge[inside].clip(low, high) - low for edge in (regions.starts, regions.stops))
        total = np.zeros(high - low + 1)
        for plane, scores in enumerate(strip):
            np.cumsum(scores.ravel(), dtype=np.float64, out=total[1:])
            sums = np.bincount(region, weights=total[stops] - total[starts], minlength=len(regions))
            self._sums[:, plane] += sums

    def means(self) -> Float64[np.ndarray, "regions planes"]:
        """Return the mean score of each plane over each region."""
        means: Float64[np.ndarray, "regions planes"] = self._sums / self.proposals.areas[:, None]
        return means
