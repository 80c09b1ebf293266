"""The dense field of `tagmask.refine.crf`, exactly, for a batch of small images, on the images' own device.

All pairs of pixels are a matrix that fits in memory: at 64 x 64 it has 4096 rows and takes 64 MiB. It is
made once, and a round of the field is a product with it. The smoothness kernel needs no matrix: it acts on
rows and columns apart.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CrfSettings

__all__ = ["small_crf"]

_ENTRIES = 1 << 26
"""Of the matrices held at once, on an accelerator; elsewhere one image's is held."""
_BLOCK = 1 << 18
"""Entries made at a time on a processor: they stay in its cache."""
_FADED = 1e-6
"""Classes that can change no message of any image by more than this are not passed on in a round."""
_LARGEST = 128 * 128
"""Pixels of an image: its matrix takes 1 GiB."""


@torch.no_grad()
def small_crf(
    probabilities: Float[Tensor, "b c h w"], images: UInt8[Tensor, "_ 3 _ _"], settings: CrfSettings
) -> Float[Tensor, "b c h w"]:
    """Let all pixels of each image agree on their classes; the definition is that of `crf.dense_crf`.

    Args:
        probabilities: one plane per class; need not sum to 1. Values below the floor or above 1 are cut.
        images: RGB, on the device of `probabilities`.
        settings: as those of `dense_crf`.

    Returns:
        Q, positive, of sum 1 over the classes, float32, without gradient. Squared distances of pixels and of
        colours are whole numbers, exact in float32 products, so that the kernel is too.

    Raises:
        ShapeError: images of another number or size, or over 128 x 128 pixels.
        InputError: NaN or infinite probabilities.

    Example:
        >>> from tagmask.refine.crf import CRF_SETTINGS
        >>> image = torch.zeros(2, 3, 8, 9, dtype=torch.uint8)
        >>> small_crf(torch.rand(2, 5, 8, 9), image, CRF_SETTINGS["weakclip/loss"]).shape
        torch.Size([2, 5, 8, 9])
    """
    b, c, h, w = probabilities.shape
    if images.shape != (b, 3, h, w) or not 1 <= h * w <= _LARGEST or b * c == 0:
        raise ShapeError(
            f"got planes of {tuple(probabilities.shape)} and images of {tuple(images.shape)}; give at "
            "least one plane, as many images of the same size, and at most 128 x 128 pixels"
        )
    if not probabilities.isfinite().all():
        raise InputError("got probabilities that are NaN or infinite; give numbers from 0 to 1")
    belief = probabilities.float().clamp(settings.floor, 1).log()
    together = 1 if belief.device.type == "cpu" else max(_ENTRIES // (h * w) ** 2, 1)
    kernel = belief.new_empty(min(together, b), h * w, h * w)
    with torch.autocast(belief.device.type, enabled=False):
        parts = zip(belief.split(together), images.split(together), strict=True)
        return torch.cat([_agreed(some, shown, kernel[: len(some)], settings) for some, shown in parts])


def _agreed(
    belief: Float[Tensor, "b c h w"],
    images: UInt8[Tensor, "b 3 h w"],
    kernel: Float[Tensor, "b n n"],
    settings: CrfSettings,
) -> Float[Tensor, "b c h w"]:
    _, _, h, w = belief.shape
    rows, columns = (_line(side, settings.near, belief.device) for side in (h, w))
    for out, image in zip(kernel, images, strict=True):
        _fill(out, image, settings)
    scale = kernel.sum(-1).rsqrt_()[:, None]
    marginals = belief.softmax(1)
    alive, reach = torch.arange(belief.shape[1], device=belief.device), 0.0
    for done in range(settings.rounds):
        sent = marginals[:, alive]
        far = ((sent.flatten(2) * scale) @ kernel).mul_(settings.colour_weight * scale).view_as(sent)
        heard = far.add_(rows @ sent @ columns, alpha=settings.near_weight)
        if done == 0:
            # All classes together send 1 everywhere: no value sent grows by more than what then arrives.
            reach = float(heard.sum(1).max())
        marginals = belief.index_add(1, alive, heard).softmax(1)
        alive = (marginals.amax(dim=(0, 2, 3)) * reach > _FADED).nonzero()[:, 0]
    return marginals


def _fill(out: Float[Tensor, "n n"], image: UInt8[Tensor, "3 h w"], settings: CrfSettings) -> None:
    """The appearance kernel of one image, not normalised, symmetric."""
    _, h, w = image.shape
    colours = image.float().flatten(1).T
    y, x = (torch.arange(side, dtype=torch.float32, device=image.device) for side in (h, w))
    places = torch.cartesian_prod(y, x)
    step = len(out) if out.device.type != "cpu" else max(_BLOCK // len(out), 1)
    for first in range(0, len(out), step):
        some = slice(first, first + step)
        exponents = _squares(colours[some], colours).mul_(-0.5 / settings.colour**2)
        exponents.add_(_squares(places[some], places), alpha=-0.5 / settings.far**2)
        # Below exp(-60) numbers are of no weight, but those under 1e-38 would slow every product down.
        torch.exp(exponents.clamp_(min=-60), out=out[some])


def _squares(some: Float[Tensor, "m d"], points: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """Squared distances of whole numbers: exact, in whatever order they are summed, while under 2^24."""
    lengths = points.square().sum(1)
    return torch.addmm(lengths, some, points.T, alpha=-2).add_(some.square().sum(1)[:, None])


def _line(side: int, near: float, device: torch.device) -> Float[Tensor, "side side"]:
    """The smoothness kernel along one axis, normalised: over both axes it is the product of two of these."""
    at = torch.arange(side, dtype=torch.float32, device=device)
    kernel = ((at[:, None] - at) ** 2).mul_(-0.5 / near**2).clamp_(min=-60).exp_()
    scale = kernel.sum(1).rsqrt_()
    return kernel * scale[:, None] * scale
