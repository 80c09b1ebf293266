"""Pixel-adaptive refinement of score maps (PAMR).

In each iteration, the score of a pixel becomes a weighted mean of the scores of distant pixels of similar
colour. The weights are computed once from the image; only the scores change.

Large images pass through all iterations in strips of rows: a strip of one iteration needs three strips of the
iteration before, so it follows one strip behind. Nothing is computed twice, and only three strips of each
iteration are kept.

    P   neighbours of a pixel: 8 per dilation
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tagmask.checks import check_number
from tagmask.errors import InputError, ShapeError

__all__ = ["Rows", "check_pamr", "held_numbers", "pamr", "pamr_strips"]

Rows = Callable[[int, int], Float[Tensor, "_ rows w"]]
"""Returns rows top..bottom of some planes."""

_CHANNELS = 32
"""Maps refined at a time: 128 bytes per pixel, so that all neighbours of a row stay in cache."""
_STRIP = 1 << 16
"""Pixels whose weights are computed at a time, for the same reason."""
_ROWS = 16
"""Rows of a strip, unless a dilation is larger."""
_RING = 3
"""Strips of an iteration that the next one reads."""


def pamr(
    maps: Float[Tensor, "q h w"],
    guide: Float[Tensor, "3 h w"],
    *,
    steps: int = 10,
    dilations: Sequence[int] = (8, 16),
) -> Float[Tensor, "q h w"]:
    """Sharpen score maps by averaging over pixels of similar colour.

    Neighbour p of a pixel has weight softmax_p(mean over colours of -|x - x_p| / (0.1 sd + 1e-8)),
    where sd is the unbiased standard deviation, per colour, of the 9 values of every dilation
    (the centre counts once per dilation). A step replaces each score by the weighted mean of
    the neighbours' scores, without the pixel's own score. Borders are replicated.

    Args:
        maps: scores at the guide's size; any real numbers.
        guide: the image, three colours, any scale or offset (the weights depend on it only
            through the 1e-8).
        steps: iterations; 0 returns `maps`. Time is linear in them.
        dilations: distances in pixels, each adding 8 neighbours.

    Returns:
        Refined scores in the dtype of `maps`, computed in float32 or better. Each is a convex
        combination of inputs, so the range is preserved. Additional memory: 8 bytes per neighbour and
        pixel, whatever the number of maps; for images too large for that, see `pamr_strips`.

    Raises:
        ShapeError: `maps` and `guide` differ in size.
        InputError: negative `steps`, or `dilations` empty or under 1.

    Source:
        Araslanov and Roth, CVPR 2020; settings and padding as coded by the authors of SCLIP
        (ECCV 2024).

    Example:
        >>> pamr(torch.rand(2, 30, 40), torch.rand(3, 30, 40), steps=2).shape
        torch.Size([2, 30, 40])
    """
    _check_arguments(steps, dilations)
    if maps.shape[1:] != guide.shape[1:]:
        raise ShapeError(
            f"Got maps of {tuple(maps.shape[1:])} and a guide of {tuple(guide.shape[1:])}. "
            "Resize one of them first."
        )
    if steps == 0:
        return maps
    dtype = torch.promote_types(maps.dtype, torch.float32)
    weights = _weights(_padded(guide.to(dtype), max(dilations)), dilations)
    height, width = guide.shape[1:]
    rows = torch.arange(height, device=guide.device)
    above, below = rows[:1].expand(max(dilations)), rows[-1:].expand(max(dilations))
    neighbours = _neighbours(torch.cat([above, rows, below]), width, dilations)
    refined = torch.empty_like(maps)
    for first in range(0, len(maps), _CHANNELS):
        chunk = maps[first : first + _CHANNELS]
        pixels = chunk.to(dtype).flatten(1).T.contiguous()
        for _ in range(steps):
            # A pixel is a bag of its neighbours: sums stay in registers, without a (q, P, h, w) array.
            pixels = F.embedding_bag(neighbours, pixels, mode="sum", per_sample_weights=weights)
        refined[first : first + _CHANNELS] = pixels.T.reshape(chunk.shape)
    return refined


def pamr_strips(
    maps: Rows,
    guide: Rows,
    shape: tuple[int, int, int],
    *,
    steps: int = 10,
    dilations: Sequence[int] = (8, 16),
) -> Iterator[tuple[int, int, Float[Tensor, "q strip w"]]]:
    """Refine maps that are too large to hold, strip by strip from top to bottom; equal to `pamr`.

    Args:
        maps: rows of the scores, float32 or better; asked for once each, in order.
        guide: rows of the image, of the same dtype; asked for once each, in order.
        shape: (q, h, w) of the maps.
        steps: as for `pamr`, at least 1.
        dilations: as for `pamr`.

    Yields:
        First row, last row (not included), and the refined scores in between. Memory: `held_numbers` per
        map, whatever the height.

    Raises:
        InputError: `steps` under 1, or `dilations` empty or under 1.
    """
    _check_arguments(steps, dilations)
    if steps < 1:
        raise InputError("Got 0 steps. Give 1 or more.")
    (_, height, width), strip, reach = shape, _strip_rows(dilations), max(dilations)
    strips = -(-height // strip)
    planes = maps(0, min(strip, height))
    rings = [_Ring(planes, strip, strips) for _ in range(steps)]
    rows = torch.arange(-reach, strip + reach, device=planes.device)
    neighbours = [
        _neighbours((rows + place * strip) % (_RING * strip), width, dilations) for place in range(_RING)
    ]
    weights = _strip_weights(guide, height, strip, dilations)
    kept: dict[int, Float[Tensor, "p P"]] = {}
    for tick in range(strips + steps):
        if tick < strips:
            planes = maps(tick * strip, min((tick + 1) * strip, height)) if tick else planes
            rings[0].write(tick, [part.permute(1, 2, 0) for part in planes.split(rings[0].channels)])
        for step in range(1, steps + 1):
            k = tick - step
            if not 0 <= k < strips:
                continue
            if step == 1:
                kept[k] = next(weights)
            pixels = rings[step - 1].refine(k, neighbours[k % _RING], kept[k])
            if step < steps:
                rings[step].write(k, pixels)
                continue
            del kept[k]
            refined = torch.cat([part.permute(2, 0, 1) for part in pixels])
            yield k * strip, k * strip + refined.shape[1], refined


def held_numbers(width: int, steps: int, dilations: Sequence[int]) -> int:
    """Numbers that `pamr_strips` holds for each map.

    Example:
        >>> held_numbers(4000, 10, (8, 16))
        1920000
    """
    return _RING * _strip_rows(dilations) * width * steps


def check_pamr(steps: object, dilations: Sequence[object]) -> None:
    """Check a recipe's PAMR settings.

    Raises:
        InputError: a setting is invalid; the message names it.
    """
    check_number("pamr_steps", steps, 0, whole=True)
    if not dilations:
        raise InputError("Setting pamr_dilations is empty. Give one or more distances, such as (8, 16).")
    for dilation in dilations:
        check_number("a dilation of pamr_dilations", dilation, 1, whole=True)


def _check_arguments(steps: int, dilations: Sequence[int]) -> None:
    if steps < 0:
        raise InputError(f"Got {steps} steps. Give 0 (off) or more.")
    if not dilations or min(dilations) < 1:
        raise InputError(f"Got dilations {tuple(dilations)}. Give at least one distance of 1 pixel or more.")


def _strip_rows(dilations: Sequence[int]) -> int:
    """Rows of a strip; only the last may have fewer. A strip must span the reach of a neighbour."""
    return max(_ROWS, *dilations)


def _offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
    ]


class _Ring:
    """Three strips of the scores of one iteration, as the table of pixels that the next one sums from.

    Strip k stands at place k % 3. Borders are replicated: the strips before the first and after the last hold
    copies of the border's row.
    """

    def __init__(self, planes: Float[Tensor, "q rows w"], strip: int, strips: int) -> None:
        self._strip, self._strips = strip, strips
        chunks = -(-len(planes) // _CHANNELS)
        self.channels = -(-len(planes) // chunks)
        self.tables = [
            planes.new_empty(_RING, strip, planes.shape[2], len(part)) for part in planes.split(self.channels)
        ]

    def write(self, k: int, pixels: Sequence[Float[Tensor, "rows w _"]]) -> None:
        """Store strip k; the last strip is filled up with its last row."""
        for table, part in zip(self.tables, pixels, strict=True):
            place = table[k % _RING]
            place[: len(part)] = part
            place[len(part) :] = place[len(part) - 1]
            if k == 0:
                table[-1] = place[0]

    def refine(
        self, k: int, neighbours: Int[Tensor, "_ P"], weights: Float[Tensor, "p P"]
    ) -> list[Float[Tensor, "rows w _"]]:
        """Strip k of the next iteration; the strips k - 1, k and k + 1 must be there."""
        refined = []
        for table in self.tables:
            if k == self._strips - 1:
                table[(k + 1) % _RING] = table[k % _RING, -1]
            sums = F.embedding_bag(
                neighbours[: len(weights)], table.flatten(0, 2), mode="sum", per_sample_weights=weights
            )
            refined.append(sums.unflatten(0, (-1, table.shape[2])))
        return refined


def _strip_weights(
    guide: Rows, height: int, strip: int, dilations: Sequence[int]
) -> Iterator[Float[Tensor, "p P"]]:
    """The weights of every strip in order, from strips of the guide that are read once."""
    reach = max(dilations)
    starts = range(0, height, strip)
    above = current = guide(0, min(strip, height))
    for top in starts:
        bottom = min(top + strip, height)
        below = guide(bottom, min(bottom + strip, height)) if bottom < height else current[:, -1:]
        parts = [above[:, -reach:] if top else current[:, :1], current, below[:, :reach]]
        padded = torch.cat(parts, dim=1)
        missing = (reach - parts[0].shape[1], reach - parts[2].shape[1])
        padded = F.pad(padded[None], (reach, reach, *missing), mode="replicate")[0]
        yield _weights(padded, dilations)
        above, current = current, below


def _neighbours(
    rows: Int[Tensor, " rows_padded"], width: int, dilations: Sequence[int]
) -> Int[Tensor, "p P"]:
    """Index of every neighbour of every pixel of some rows.

    Args:
        rows: place of each row in the table of pixels, with those of the rows above and below in reach.
        width: pixels of a row.
        dilations: as for `pamr`.
    """
    reach, columns = max(dilations), torch.arange(width, device=rows.device)
    count = len(rows) - 2 * reach
    offsets = _offsets(dilations)
    # int32 halves the index data that each step reads.
    index = torch.empty(count, width, len(offsets), dtype=torch.int32, device=rows.device)
    for n, (dy, dx) in enumerate(offsets):
        row = rows[reach + dy : reach + dy + count]
        index[..., n] = row[:, None] * width + (columns + dx).clamp(0, width - 1)
    return index.flatten(0, 1)


def _padded(guide: Float[Tensor, "3 h w"], reach: int) -> Float[Tensor, "3 h_padded w_padded"]:
    return F.pad(guide[None], [reach] * 4, mode="replicate")[0]


def _weights(padded: Float[Tensor, "3 h_padded w_padded"], dilations: Sequence[int]) -> Float[Tensor, "p P"]:
    """Weight of every neighbour of every pixel.

    Args:
        padded: the guide with a border as wide as the largest dilation.
        dilations: as for `pamr`.
    """
    reach = max(dilations)
    h, w = padded.shape[1] - 2 * reach, padded.shape[2] - 2 * reach
    weights = padded.new_empty(h * w, 8 * len(dilations))
    rows = max(_STRIP // w, 1)
    for top in range(0, h, rows):
        bottom = min(top + rows, h)
        strip = padded[:, top : bottom + 2 * reach]
        logits = _similarity(strip, dilations)
        weights[top * w : bottom * w] = logits.softmax(0).flatten(1).T
    return weights


def _similarity(
    strip: Float[Tensor, "3 h_padded w_padded"], dilations: Sequence[int]
) -> Float[Tensor, "P h w"]:
    """Minus the colour distance to each neighbour in local standard deviations, mean over the channels."""
    count = 9 * len(dilations)
    distance = torch.zeros(())
    for colour in strip:
        gaps = torch.stack(list(_gaps(colour, dilations)))
        # Relative to the centre pixel, so that flat regions give exactly 0; the centre itself adds
        # 0 to both sums but is part of the count.
        variance = (gaps.square().sum(0) - gaps.sum(0).square() / count) / (count - 1)
        spread = variance.clamp_(min=0).sqrt_().mul_(0.1).add_(1e-8)
        distance = gaps.abs_().div_(spread).add_(distance)
    return distance.div_(-len(strip))


def _gaps(
    colour: Float[Tensor, "h_padded w_padded"], dilations: Sequence[int]
) -> Iterator[Float[Tensor, "h w"]]:
    reach = max(dilations)
    h, w = colour.shape[0] - 2 * reach, colour.shape[1] - 2 * reach
    centre = colour[reach : reach + h, reach : reach + w]
    for dy, dx in _offsets(dilations):
        yield colour[reach + dy : reach + dy + h, reach + dx : reach + dx + w] - centre
