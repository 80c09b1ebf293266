"""Exact mean field of `tagmask.refine.crf` for a batch of small images, on the images' device.

The kernel between all pairs of pixels fits in memory: at 64 x 64 it has 4096 rows and takes 64 MiB. It is
computed once, and each mean-field round is a product with it. The smoothness kernel needs no such matrix: it
is separable.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CrfSettings

__all__ = ["small_crf"]

_ENTRIES = 1 << 26
"""Kernel entries held at once on an accelerator; a CPU holds one image's kernel."""
_BLOCK = 1 << 18
"""Kernel entries computed at a time on a CPU: they stay in its cache."""
_FADED = 1e-6
"""Classes that can change no message of any image by more than this are skipped in a round."""
_MAX_PIXELS = 128 * 128
"""Most pixels of an image: its kernel takes 1 GiB."""


@torch.no_grad()
def small_crf(
    probabilities: Float[Tensor, "b c h w"], images: UInt8[Tensor, "_ 3 _ _"], settings: CrfSettings
) -> Float[Tensor, "b c h w"]:
    """Refine the class probabilities of each image by mean field, as defined in `crf.dense_crf`.

    Args:
        probabilities: one plane per class; need not sum to 1. Values are clipped to floor..1.
        images: RGB, on the device of `probabilities`.
        settings: as for `dense_crf`.

    Returns:
        Q, positive, sums to 1 over the classes, float32, without gradient. Squared distances of pixels and of
        colours are whole numbers, so float32 products compute them exactly.

    Raises:
        ShapeError: images of a different number or size, or over 128 x 128 pixels.
        InputError: NaN or infinite probabilities.

    Example:
        >>> from tagmask.refine.crf import CRF_SETTINGS
        >>> image = torch.zeros(2, 3, 8, 9, dtype=torch.uint8)
        >>> small_crf(torch.rand(2, 5, 8, 9), image, CRF_SETTINGS["weakclip/loss"]).shape
        torch.Size([2, 5, 8, 9])
    """
    b, c, h, w = probabilities.shape
    if images.shape != (b, 3, h, w) or not 1 <= h * w <= _MAX_PIXELS or b * c == 0:
        raise ShapeError(
            f"Got planes of {tuple(probabilities.shape)} and images of {tuple(images.shape)}. Give at least "
            "one plane per image, planes and images of one size, and at most 128 x 128 pixels."
        )
    if not probabilities.isfinite().all():
        raise InputError("Some probabilities are NaN or infinite. Give numbers from 0 to 1.")
    log_prior = probabilities.float().clamp(settings.floor, 1).log()
    batch_size = 1 if log_prior.device.type == "cpu" else max(_ENTRIES // (h * w) ** 2, 1)
    kernel = log_prior.new_empty(min(batch_size, b), h * w, h * w)
    with torch.autocast(log_prior.device.type, enabled=False):
        batches = zip(log_prior.split(batch_size), images.split(batch_size), strict=True)
        return torch.cat([_mean_field(part, rgb, kernel[: len(part)], settings) for part, rgb in batches])


def _mean_field(
    log_prior: Float[Tensor, "b c h w"],
    images: UInt8[Tensor, "b 3 h w"],
    kernel: Float[Tensor, "b n n"],
    settings: CrfSettings,
) -> Float[Tensor, "b c h w"]:
    _, _, h, w = log_prior.shape
    rows, columns = (_smoothness_kernel(side, settings.near, log_prior.device) for side in (h, w))
    for out, image in zip(kernel, images, strict=True):
        _fill_appearance_kernel(out, image, settings)
    scale = kernel.sum(-1).rsqrt_()[:, None]
    marginals = log_prior.softmax(1)
    active, gain = torch.arange(log_prior.shape[1], device=log_prior.device), 0.0
    for step in range(settings.rounds):
        sent = marginals[:, active]
        far = ((sent.flatten(2) * scale) @ kernel).mul_(settings.colour_weight * scale).view_as(sent)
        received = far.add_(rows @ sent @ columns, alpha=settings.near_weight)
        if step == 0:
            # All classes together send 1 everywhere, so their sum bounds how much a sent value can grow.
            gain = float(received.sum(1).max())
        marginals = log_prior.index_add(1, active, received).softmax(1)
        active = (marginals.amax(dim=(0, 2, 3)) * gain > _FADED).nonzero()[:, 0]
    return marginals


def _fill_appearance_kernel(
    out: Float[Tensor, "n n"], image: UInt8[Tensor, "3 h w"], settings: CrfSettings
) -> None:
    """Write the appearance kernel of one image to `out`: symmetric, not normalised."""
    _, h, w = image.shape
    colours = image.float().flatten(1).T
    y, x = (torch.arange(side, dtype=torch.float32, device=image.device) for side in (h, w))
    positions = torch.cartesian_prod(y, x)
    step = len(out) if out.device.type != "cpu" else max(_BLOCK // len(out), 1)
    for first in range(0, len(out), step):
        block = slice(first, first + step)
        exponents = _squared_distances(colours[block], colours).mul_(-0.5 / settings.colour**2)
        exponents.add_(_squared_distances(positions[block], positions), alpha=-0.5 / settings.far**2)
        # Values below exp(-60) are negligible, but denormal numbers (under 1e-38) would slow down products.
        torch.exp(exponents.clamp_(min=-60), out=out[block])


def _squared_distances(block: Float[Tensor, "m d"], points: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """Squared distances of integer points: exact in any order of summation, while under 2^24."""
    lengths = points.square().sum(1)
    return torch.addmm(lengths, block, points.T, alpha=-2).add_(block.square().sum(1)[:, None])


def _smoothness_kernel(side: int, near: float, device: torch.device) -> Float[Tensor, "side side"]:
    """The normalised smoothness kernel along one axis; the kernel over both axes is the product of two."""
    position = torch.arange(side, dtype=torch.float32, device=device)
    kernel = ((position[:, None] - position) ** 2).mul_(-0.5 / near**2).clamp_(min=-60).exp_()
    scale = kernel.sum(1).rsqrt_()
    return kernel * scale[:, None] * scale
