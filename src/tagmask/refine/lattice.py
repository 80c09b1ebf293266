"""Gaussian filtering of scattered points by the permutohedral lattice.

Direct summation over all pairs, sum_j exp(-|f_i - f_j|^2 / 2) v_j, costs n^2; the lattice costs n. Space is
tiled by simplices of d + 1 corners. Each point distributes its value to the corners of its simplex
(splat), neighbouring corners mix along d + 1 axes (blur), and each point interpolates from
its corners (slice). Only corners of occupied simplices are stored.

    n   points        d   features of a point        k = d + 1   corners of a simplex, axes
    m   corners of all points: usually 0.1 to 3 per point

NumPy and torch suffice, so there is no compiled extension that could fail to install. Corners are
integers packed in one int64: finding distinct corners is a sort and finding neighbours a search in sorted
arrays, both vectorised by NumPy. The three steps are sparse sums with few terms each, which torch's
embedding_bag computes for all channels at once.
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int8, Int32, Int64
from torch import Tensor

from tagmask.errors import InputError

__all__ = ["Lattice"]

_STRIP = 1 << 15
"""Points located at a time: their temporary arrays stay in the CPU's cache."""
_MAX_KEYS = 1 << 62


class _Sums(NamedTuple):
    """A sparse matrix: row r adds weight * value[term] over starts[r] .. starts[r + 1]."""

    terms: Int32[Tensor, " t"]
    starts: Int32[Tensor, " rows"]
    weights: Float[Tensor, " t"]


class _Simplices(NamedTuple):
    """The simplex of each point: a corner, the axes of the path to the others, barycentric weights."""

    key: Int64[np.ndarray, " n"]
    axes: Int8[np.ndarray, "k n"]
    shares: Float32[np.ndarray, "k n"]
    steps: Int64[np.ndarray, " k"]


_Keys: TypeAlias = list[Int64[np.ndarray, " _"]]
"""Keys of the corners of each colour."""


class Lattice:
    """The filter of one set of points, with symmetric normalisation.

    Applied to values v it gives D^-1/2 K D^-1/2 v, where K is the lattice's approximation of
    exp(-|f_i - f_j|^2 / 2), self included, and D holds the row sums of K. Building it costs about
    as much as one or two uses with 20 channels.

    Args:
        features: one row per point, divided by the standard deviation of the kernel.
        dtype: of the values to filter.
        device: of the values to filter.

    Attributes:
        size: m. A call takes 2 * m numbers per channel; the filter itself 16 bytes per point and
            corner of its simplex, and about 20 per corner and axis.

    Raises:
        InputError: the features spread too far for the lattice's int64 keys.

    Source:
        Adams, Baek and Davis, Eurographics 2010; normalisation as in Krähenbühl and Koltun, ICML 2013.

    Example:
        >>> lattice = Lattice(np.random.rand(50, 2))
        >>> lattice(torch.rand(50, 3)).shape
        torch.Size([50, 3])
    """

    def __init__(
        self,
        features: Float[np.ndarray, "n d"],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        simplices = _locate(features)
        keys, corners, splat = _distinct(simplices, dtype)
        self.size = sum(len(part) for part in keys)
        # Axis by axis: the order matters, because corners are missing.
        blurs = [_blur(keys, step, dtype) for step in simplices.steps]
        self._sums = [_Sums(*(part.to(device) for part in sums)) for sums in (splat, *blurs)]
        self._corners = torch.from_numpy(corners).to(device)
        self._shares = torch.from_numpy(simplices.shares.T.copy()).to(device, dtype)
        ones = torch.ones(len(features), 1, dtype=dtype, device=device)
        scale = (self(ones) + 1e-20).rsqrt_()
        self._shares *= scale
        terms, starts, weights = self._sums[0]
        self._sums[0] = _Sums(terms, starts, weights * scale[:, 0][terms])

    def __call__(self, values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Filter values of n points; the result has their dtype."""
        for terms, starts, weights in self._sums:
            values = F.embedding_bag(terms, values, starts, mode="sum", per_sample_weights=weights)
        return F.embedding_bag(self._corners, values, mode="sum", per_sample_weights=self._shares)


def _locate(features: Float[np.ndarray, "n d"]) -> _Simplices:
    """Find the simplex of each point.

    Corners are integer vectors of sum 0 whose entries agree modulo k; that remainder is the corner's colour.
    A simplex has one corner of each colour; adding 1 to all entries and subtracting k from one axis leads
    from colour r to r + 1.
    """
    n, d = features.shape
    k = d + 1
    basis = _basis(d)
    radix, low = _packing(features, basis)
    steps = radix.sum() - k * radix
    simplices = _Simplices(
        np.empty(n, np.int64), np.empty((k, n), np.int8), np.empty((k, n), np.float32), steps
    )
    for first in range(0, n, _STRIP):
        part = slice(first, first + _STRIP)
        point = (basis.astype(np.float32) @ features[part].astype(np.float32).T).astype(np.float32)
        zero = np.rint(point / k) * k
        rank = _rank(point - zero)
        # Rounding each entry may leave the plane of sum 0: move the entries with the largest errors back.
        rank += np.rint(zero.sum(0) / k).astype(np.int8)
        correction = (rank < 0).astype(np.int8) - (rank > d).astype(np.int8)
        rank += k * correction
        zero += np.float32(k) * correction
        gaps, columns = point - zero, np.arange(point.shape[1])
        ascending = np.empty_like(gaps)
        for axis in range(k):
            order = d - rank[axis]
            ascending[order, columns] = gaps[axis]
            simplices.axes[order, columns + first] = axis
        simplices.shares[1:, part] = np.diff(ascending, axis=0) / k
        simplices.shares[0, part] = 1 - (ascending[-1] - ascending[0]) / k
        simplices.key[part] = radix @ (zero.astype(np.int64) - low[:, None])
    return simplices


def _basis(d: int) -> Float64[np.ndarray, "k d"]:
    """Orthogonal axes of the plane of sum 0, scaled so that the blur has standard deviation 1."""
    basis = np.zeros((d + 1, d))
    for axis in range(d):
        scale = math.sqrt(2 / 3) * (d + 1) / math.sqrt((axis + 1) * (axis + 2))
        basis[: axis + 1, axis] = scale
        basis[axis + 1, axis] = -(axis + 1) * scale
    return basis


def _packing(
    features: Float[np.ndarray, "n d"], basis: Float64[np.ndarray, "k d"]
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Radix and offset that pack a corner in one int64, with room for one step beyond every used corner."""
    k, d = basis.shape
    low, high = features.min(0).astype(np.float64), features.max(0).astype(np.float64)
    reach = np.stack([basis * low, basis * high])
    least = np.floor(reach.min(0).sum(1)).astype(np.int64) - 4 * k
    spans = [int(span) for span in np.ceil(reach.max(0).sum(1)).astype(np.int64) - least + 4 * k]
    if math.prod(spans[:d]) >= _MAX_KEYS:
        raise InputError(
            f"Features spread over {[round(float(s)) for s in high - low]} standard deviations, too many for "
            "the lattice. Increase the standard deviations or use a smaller image."
        )
    # The last entry needs no radix: it is minus the sum of the others.
    radix = [math.prod(spans[axis + 1 : d]) for axis in range(d)] + [0]
    return np.array(radix, np.int64), least


def _rank(values: Float32[np.ndarray, "k n"]) -> Int8[np.ndarray, "k n"]:
    """Rank of each entry in its column, 0 for the largest; of equal entries the first counts as larger."""
    rank = np.zeros(values.shape, np.int8)
    for i in range(len(values)):
        for j in range(i + 1, len(values)):
            less = values[i] < values[j]
            rank[i] += less
            rank[j] += ~less
    return rank


def _distinct(simplices: _Simplices, dtype: torch.dtype) -> tuple[_Keys, Int32[np.ndarray, "n k"], _Sums]:
    """Distinct corners, ascending per colour; the indices of each point's corners; the splat matrix."""
    k, n = simplices.axes.shape
    key = simplices.key
    keys, points, weights, starts = [], [], [], []
    corners = np.empty((n, k), np.int32)
    count = 0
    for colour in range(k):
        order = np.argsort(key)
        ascending = key[order]
        is_new = np.empty(n, bool)
        is_new[0] = True
        np.not_equal(ascending[1:], ascending[:-1], out=is_new[1:])
        start = np.flatnonzero(is_new)
        corners[order, colour] = np.cumsum(is_new, dtype=np.int32) + (count - 1)
        keys.append(ascending[start])
        points.append(order.astype(np.int32))
        weights.append(simplices.shares[colour][order])
        starts.append((start + colour * n).astype(np.int32))
        count += len(start)
        key = key + simplices.steps[simplices.axes[colour]]
    splat = _sums(np.concatenate(points), np.concatenate(starts), np.concatenate(weights), dtype)
    return keys, corners, splat


def _blur(keys: _Keys, step: np.int64, dtype: torch.dtype) -> _Sums:
    """Blur along one axis: each corner plus half of each neighbour.

    A constant factor is omitted, because the normalisation cancels it.
    """
    firsts = np.cumsum([0, *map(len, keys)])
    total = int(firsts[-1])
    table = np.full((total, 3), -1, np.int32)
    centre, successor, predecessor = table.T
    centre[:] = np.arange(total, dtype=np.int32)
    for colour, key in enumerate(keys):
        after = (colour + 1) % len(keys)
        target = key + step
        index = np.searchsorted(keys[after], target)
        np.minimum(index, len(keys[after]) - 1, out=index)
        here = np.flatnonzero(keys[after][index] == target)
        there = index[here] + firsts[after]
        here += firsts[colour]
        successor[here] = there
        predecessor[there] = here
    ends = np.cumsum(1 + (successor >= 0).view(np.int8) + (predecessor >= 0).view(np.int8), dtype=np.int32)
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    weights = np.full(ends[-1], 0.5, np.float32)
    weights[starts] = 1
    return _sums(table[table >= 0], starts, weights, dtype)


def _sums(
    terms: Int32[np.ndarray, " t"],
    starts: Int32[np.ndarray, " rows"],
    weights: Float32[np.ndarray, " t"],
    dtype: torch.dtype,
) -> _Sums:
    return _Sums(torch.from_numpy(terms), torch.from_numpy(starts), torch.from_numpy(weights).to(dtype))
