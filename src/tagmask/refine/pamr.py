"""Pixel-adaptive refinement of score maps (PAMR).

In each iteration, the score of a pixel becomes a weighted mean of the scores of distant pixels of similar
colour. The weights are computed once from the image; only the scores change.

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
"""Maps refined at a time: 128 bytes per pixel, so that all neighbours of a row stay in cache."""
_STRIP = 1 << 16
"""Pixels whose weights are computed at a time, for the same reason."""


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
        pixel, whatever the number of maps; for images too large for that, refine strips (see `halo`).

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
    weights = _weights(guide.to(dtype), dilations)
    neighbours = _neighbours(guide.shape[1], guide.shape[2], dilations, guide.device)
    refined = torch.empty_like(maps)
    for first in range(0, len(maps), _CHANNELS):
        chunk = maps[first : first + _CHANNELS]
        pixels = chunk.to(dtype).flatten(1).T.contiguous()
        for _ in range(steps):
            # A pixel is a bag of its neighbours: sums stay in registers, without a (q, P, h, w) array.
            pixels = F.embedding_bag(neighbours, pixels, mode="sum", per_sample_weights=weights)
        refined[first : first + _CHANNELS] = pixels.T.reshape(chunk.shape)
    return refined


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


def halo(steps: int, dilations: Sequence[int]) -> int:
    """Rows that a strip needs on either side to be refined exactly as in the whole image.

    Args:
        steps: as for `pamr`.
        dilations: as for `pamr`.

    Raises:
        InputError: negative `steps`, or `dilations` empty or under 1.

    Example:
        >>> halo(10, (8, 16))
        160
    """
    _check_arguments(steps, dilations)
    return steps * max(dilations)


def _check_arguments(steps: int, dilations: Sequence[int]) -> None:
    if steps < 0:
        raise InputError(f"Got {steps} steps. Give 0 (off) or more.")
    if not dilations or min(dilations) < 1:
        raise InputError(f"Got dilations {tuple(dilations)}. Give at least one distance of 1 pixel or more.")


def _offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
    ]


def _neighbours(h: int, w: int, dilations: Sequence[int], device: torch.device) -> Int[Tensor, "p P"]:
    y, x = torch.arange(h, device=device)[:, None], torch.arange(w, device=device)
    offsets = _offsets(dilations)
    # int32 halves the index data that each step reads.
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
