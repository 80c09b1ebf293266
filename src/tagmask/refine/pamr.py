"""Pixel-adaptive refinement of score maps (PAMR).

Each pixel takes, round after round, a mix of the scores of pixels at a distance that look
like it. What looks alike is read once from the image; only the scores change.

    P   neighbours of a pixel: 8 per dilation
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tagmask.checks import check_number
from tagmask.errors import InputError, ShapeError

__all__ = ["check_pamr", "halo", "pamr"]

_CHANNELS = 32
"""Maps refined at a time: 128 bytes per pixel, and all neighbours of a row stay in cache."""
_STRIP = 1 << 16
"""Pixels whose weights are computed at a time, for the same reason."""


def pamr(
    maps: Float[Tensor, "q h w"],
    guide: Float[Tensor, "3 h w"],
    *,
    steps: int = 10,
    dilations: Sequence[int] = (8, 16),
) -> Float[Tensor, "q h w"]:
    """Sharpen score maps by letting each pixel copy the neighbours it resembles.

    Neighbour p of a pixel weighs softmax_p(mean over colours of -|x - x_p| / (0.1 sd + 1e-8)),
    where sd is the unbiased standard deviation, per colour, of the 9 values of every dilation
    (the centre counts once per dilation). A round replaces each score by the weighted mean of
    the neighbours' scores; the pixel's own score is not part of it. Beyond the border the
    nearest pixel is repeated.

    Args:
        maps: scores at the guide's size; any real numbers.
        guide: the image, three colours, any scale or offset (the weights do not depend on it,
            but for the 1e-8).
        steps: rounds; 0 gives `maps` back. Time is linear in them.
        dilations: distances in pixels, each adding 8 neighbours.

    Returns:
        Refined scores in the dtype of `maps`, computed in float32 or better. Each is a convex
        mix of inputs, so the range is kept. Memory beyond it: 8 bytes per neighbour and pixel,
        whatever the number of maps; for images too large for that, refine strips (see `halo`).

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
    _require(steps, dilations)
    if maps.shape[1:] != guide.shape[1:]:
        raise ShapeError(
            f"got maps of {tuple(maps.shape[1:])} and a guide of {tuple(guide.shape[1:])}; "
            "resize one of them first"
        )
    if steps == 0:
        return maps
    dtype = torch.promote_types(maps.dtype, torch.float32)
    weights = _weights(guide.to(dtype), dilations)
    neighbours = _neighbours(guide.shape[1], guide.shape[2], dilations, guide.device)
    refined = torch.empty_like(maps)
    for first in range(0, len(maps), _CHANNELS):
        chunk = maps[first : first + _CHANNELS]
        pixels = chunk.to(dtype).flatten(1).T.contiguous()
        for _ in range(steps):
            # A pixel is a bag of its neighbours: the sum stays in registers, never (q, P, h, w).
            pixels = F.embedding_bag(neighbours, pixels, mode="sum", per_sample_weights=weights)
        refined[first : first + _CHANNELS] = pixels.T.reshape(chunk.shape)
    return refined


def check_pamr(steps: object, dilations: Sequence[object]) -> None:
    """Refuse settings of a recipe that PAMR cannot use.

    Raises:
        InputError: naming the setting.
    """
    check_number("pamr_steps", steps, 0, whole=True)
    if not dilations:
        raise InputError("pamr_dilations is empty; give one or more distances, as in (8, 16)")
    for dilation in dilations:
        check_number("a dilation of pamr_dilations", dilation, 1, whole=True)


def halo(steps: int, dilations: Sequence[int]) -> int:
    """Rows that a strip needs on either side so that, refined alone, it equals the whole.

    Args:
        steps: as for `pamr`.
        dilations: as for `pamr`.

    Raises:
        InputError: negative `steps`, or `dilations` empty or under 1.

    Example:
        >>> halo(10, (8, 16))
        160
    """
    _require(steps, dilations)
    return steps * max(dilations)


def _require(steps: int, dilations: Sequence[int]) -> None:
    if steps < 0:
        raise InputError(f"got {steps} steps; give 0 (off) or more")
    if not dilations or min(dilations) < 1:
        raise InputError(f"got dilations {tuple(dilations)}; give at least one distance of 1 pixel or more")


def _offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
    ]


def _neighbours(h: int, w: int, dilations: Sequence[int], device: torch.device) -> Int[Tensor, "p P"]:
    y, x = torch.arange(h, device=device)[:, None], torch.arange(w, device=device)
    offsets = _offsets(dilations)
    # int32 halves what each round must read besides the scores.
    index = torch.empty(h, w, len(offsets), dtype=torch.int32, device=device)
    for n, (dy, dx) in enumerate(offsets):
        index[..., n] = (y + dy).clamp(0, h - 1) * w + (x + dx).clamp(0, w - 1)
    return index.flatten(0, 1)


def _weights(guide: Float[Tensor, "3 h w"], dilations: Sequence[int]) -> Float[Tensor, "p P"]:
    _, h, w = guide.shape
    weights = guide.new_empty(h * w, 8 * len(dilations))
    reach = max(dilations)
    padded = F.pad(guide[None], [reach] * 4, mode="replicate")[0]
    rows = max(_STRIP // w, 1)
    for top in range(0, h, rows):
        bottom = min(top + rows, h)
        strip = padded[:, top : bottom + 2 * reach]
        logits = _likeness(strip, dilations)
        weights[top * w : bottom * w] = logits.softmax(0).flatten(1).T
    return weights


def _likeness(
    strip: Float[Tensor, "3 h_padded w_padded"], dilations: Sequence[int]
) -> Float[Tensor, "P h w"]:
    """Minus the distance to each neighbour, in local deviations, mean over the colours."""
    count = 9 * len(dilations)
    distance = torch.zeros(())
    for colour in strip:
        gaps = torch.stack(list(_gaps(colour, dilations)))
        # Measured from the centre pixel, so that flat regions give exactly 0; the centre itself
        # adds nothing to either sum but counts.
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
