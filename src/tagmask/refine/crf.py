"""The fully connected conditional random field (dense CRF), solved by mean field.

Every pixel sends its class probabilities to every other; neighbouring pixels and pixels of similar
colour weigh most. After a few rounds the maps follow the edges of the image.

    n  pixels of the image, row by row

A permutohedral lattice approximates the sums over all pairs, as in the program that the papers used; see
`tagmask.refine.lattice`. For batches of small images, `tagmask.refine.crf_small` computes them exactly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from tagmask.checks import check_number
from tagmask.errors import InputError, ShapeError
from tagmask.refine.lattice import Lattice
from tagmask.types import Image

__all__ = ["CRF_SETTINGS", "CrfSettings", "caffe_wrapped", "dense_crf", "dense_crf_batch"]

_MEAN_BGR = (104.008, 116.669, 122.675)
_FADED = 1e-6
"""Classes that can change no message by more than this are skipped in a round."""
_BYTES = 1 << 29
"""Size limit of a lattice buffer (a call holds two); larger inputs are filtered in groups of classes."""
_MIN_GROUP = 4
"""Fewest classes filtered at a time, whatever the memory: small groups take nearly as long as large ones."""


@dataclass(frozen=True, slots=True)
class CrfSettings:
    """Settings of the dense CRF.

    Attributes:
        near: standard deviation of the smoothness kernel, in pixels.
        near_weight: weight of the smoothness kernel.
        far: spatial standard deviation of the appearance kernel, in pixels.
        colour: its standard deviation per colour channel, in grey levels (0..255).
        colour_weight: weight of the appearance kernel.
        rounds: mean-field rounds; 0 only normalises.
        floor: lower bound of the probabilities before the logarithm.

    Raises:
        InputError: a value out of range.
    """

    near: float
    near_weight: float
    far: float
    colour: float
    colour_weight: float
    rounds: int = 10
    floor: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("near", "far", "colour"):
            check_number(name, getattr(self, name), 1e-3)
        for name in ("near_weight", "colour_weight"):
            check_number(name, getattr(self, name), 0)
        check_number("rounds", self.rounds, 0, whole=True)
        check_number("floor", self.floor, 1e-30, 1)


CRF_SETTINGS: Mapping[str, CrfSettings] = MappingProxyType(
    {
        "cls-seg": CrfSettings(near=1.0, near_weight=3.0, far=67.0, colour=3.0, colour_weight=4.0),
        "deeplab": CrfSettings(near=1.0, near_weight=3.0, far=67.0, colour=3.0, colour_weight=4.0),
        "weakclip/voc": CrfSettings(near=3.0, near_weight=3.0, far=83.0, colour=5.0, colour_weight=3.0),
        "weakclip/coco": CrfSettings(near=1.0, near_weight=3.0, far=67.0, colour=3.0, colour_weight=4.0),
        "weakclip/loss": CrfSettings(
            near=3.0, near_weight=3.0, far=80.0, colour=13.0, colour_weight=10.0, floor=1e-4
        ),
        "mctformer": CrfSettings(near=3.0, near_weight=3.0, far=80.0, colour=13.0, colour_weight=10.0),
        "weakclip/student-voc": CrfSettings(
            near=1.0, near_weight=3.0, far=112.0, colour=2.0, colour_weight=3.0
        ),
    }
)
"""Settings by the paper that used them. "cls-seg" has those of CLIP-ES; "deeplab" has the same
numbers, unverified against its public scripts.
"weakclip/loss" is for 64 x 64 maps inside the training loop, "weakclip/student-voc" for the network
that is trained on the masks."""


def dense_crf(
    probabilities: Float[Tensor, "c h w"], image: Image | UInt8[Tensor, "h w 3"], settings: CrfSettings
) -> Float[Tensor, "c h w"]:
    """Refine class probabilities so that they follow the edges of the image.

    With U = -log(clip(p, floor, 1)) and Q = softmax(-U), each round sets

        Q = softmax(-U + near_weight K1 Q + colour_weight K2 Q),

    softmax over the classes, K = D^-1/2 k D^-1/2, D the row sums of k, self included, and

        k1(i, j) = exp(-|x_i - x_j|^2 / 2 near^2)
        k2(i, j) = exp(-|x_i - x_j|^2 / 2 far^2 - |colour_i - colour_j|^2 / 2 colour^2).

    Args:
        probabilities: one plane per class at the image's size; need not sum to 1. Values are clipped
            to floor..1.
        image: RGB (or any other order of channels).
        settings: see `CRF_SETTINGS` for those of the papers.

    Returns:
        Q, positive, sums to 1 over the classes, in the dtype and on the device of `probabilities`,
        computed in float32 or better, without gradient. A single class gives 1 everywhere.

        Memory beyond the input: 0.3 to 0.8 kB per pixel for the lattice (most for noisy images and
        small `colour`) and 16 to 30 bytes per pixel and class. Measured: 1.2 GB per megapixel with
        21 classes on a noisy photograph, so 7 GB for 3000 x 2000; refine large images at a smaller size.
        Time is linear in pixels, classes and rounds. Results are the same from run to run.

    Raises:
        ShapeError: no class, no pixel, or an image of a different size.
        InputError: NaN or infinite probabilities, or `near` or `colour` so small for the image that
            the lattice cannot index its corners.

    Source:
        Krähenbühl and Koltun, NIPS 2011; lattice, normalisation and order of features as in the
        authors' program, which CLIP-ES and WeakCLIP call through pydensecrf (Q differs by less than
        1e-5 on most images; a rounding difference at one pixel can spread: 3e-3 was observed). Departure:
        classes whose largest Q is too small to change any message by 1e-6 are skipped in a round.

    Example:
        >>> refined = dense_crf(torch.rand(3, 8, 9), np.zeros((8, 9, 3), np.uint8), CRF_SETTINGS["cls-seg"])
        >>> refined.shape
        torch.Size([3, 8, 9])
    """
    c, h, w = probabilities.shape
    pixels = image.cpu().numpy() if isinstance(image, Tensor) else image
    _check_inputs(probabilities, pixels)
    dtype = torch.promote_types(probabilities.dtype, torch.float32)
    log_prior = torch.empty(h * w, c, dtype=dtype, device=probabilities.device)
    log_prior.copy_(probabilities.detach().reshape(c, h * w).T).clamp_(settings.floor, 1).log_()
    message, width = _lattice_message(pixels, settings, log_prior)
    marginals = _mean_field(log_prior, message, settings.rounds, width)
    return marginals.T.reshape(c, h, w).to(probabilities.dtype)


def dense_crf_batch(
    probabilities: Float[Tensor, "b c h w"],
    images: UInt8[np.ndarray, "b h w 3"] | UInt8[Tensor, "b h w 3"],
    settings: CrfSettings,
) -> Float[Tensor, "b c h w"]:
    """Run `dense_crf` on each image of a batch.

    Raises:
        ShapeError: an empty batch, or different numbers of planes and images; also as `dense_crf`.
        InputError: as `dense_crf`.
    """
    if not 0 < len(probabilities) == len(images):
        raise ShapeError(
            f"Got {len(probabilities)} sets of planes and {len(images)} images. Give one per image."
        )
    return torch.stack(
        [dense_crf(p, image, settings) for p, image in zip(probabilities, images, strict=True)]
    )


def caffe_wrapped(image: Image) -> Image:
    """The image as CLIP-ES and CLS-SEG pass it to the CRF, to reproduce their exact figures.

    They subtract the mean colour and cast back to bytes: fractions are dropped and negative values wrap
    around, so dark pixels become bright. This is a bug, reproduced for comparison only.

    Args:
        image: RGB.

    Returns:
        BGR minus (104.008, 116.669, 122.675), truncated, modulo 256.

    Source:
        As coded by the authors, on x86.

    Example:
        >>> caffe_wrapped(np.array([[[0, 120, 255]]], np.uint8)).tolist()
        [[[150, 3, 134]]]
    """
    centred = image[..., ::-1].astype(np.float32) - np.array(_MEAN_BGR, np.float32)
    return (np.trunc(centred).astype(np.int64) & 255).astype(np.uint8)


_Message: TypeAlias = Callable[[Float[Tensor, "n c"]], Float[Tensor, "n c"]]
"""Applies the weighted sum of both kernels to some classes."""


def _check_inputs(probabilities: Float[Tensor, "c h w"], image: np.ndarray) -> None:
    size = tuple(probabilities.shape[1:])
    if image.shape != (*size, 3):
        raise ShapeError(
            f"Got planes of {size} and an image of {image.shape}. Resize one of them: the image must be "
            f"{(*size, 3)}."
        )
    if probabilities.numel() == 0:
        raise ShapeError(
            f"Got planes of {tuple(probabilities.shape)}. Give at least one class and one pixel."
        )
    if not probabilities.isfinite().all():
        raise InputError("Some probabilities are NaN or infinite. Give numbers from 0 to 1.")


def _mean_field(
    log_prior: Float[Tensor, "n c"], message: _Message, rounds: int, width: int
) -> Float[Tensor, "n c"]:
    marginals = log_prior.softmax(1)
    classes = log_prior.shape[1]
    active = torch.arange(classes, device=log_prior.device)
    gain = 0.0
    for step in range(rounds):
        if len(active) == classes <= width:
            received = message(marginals)
        else:
            received = torch.zeros_like(log_prior)
            for group in active.split(width):
                received.index_copy_(1, group, message(marginals.index_select(1, group)))
        if step == 0:
            # All classes together send 1 everywhere, so their sum bounds how much a sent value can grow.
            gain = float(received.sum(1).max())
        torch.softmax(received.add_(log_prior), 1, out=marginals)
        active = (_column_maxima(marginals) * gain > _FADED).nonzero()[:, 0]
    return marginals


def _column_maxima(values: Float[Tensor, "n c"]) -> Float[Tensor, " c"]:
    """`amax(0)`, many times faster: folds short rows to long ones first."""
    n, c = values.shape
    fold = max(n // 64, 1)
    whole = n // fold * fold
    folded = values[:whole].view(whole // fold, fold * c).amax(0).view(fold, c).amax(0)
    return folded.maximum(values[whole - 1 :].amax(0))


def _lattice_message(
    image: UInt8[np.ndarray, "h w 3"], settings: CrfSettings, like: Float[Tensor, "n c"]
) -> tuple[_Message, int]:
    """The message function, and how many classes to filter at a time."""
    weighted = [
        (weight, Lattice(features, dtype=like.dtype, device=like.device))
        for weight, features in _kernels(image, settings)
    ]

    def message(values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        (first, near), (second, far) = weighted
        return near(values).mul_(first).add_(far(values), alpha=second)

    corners = max(lattice.size for _, lattice in weighted)
    most = max(_BYTES // (like.element_size() * corners), _MIN_GROUP)
    groups = -(-like.shape[1] // most)
    return message, -(-like.shape[1] // groups)


def _kernels(
    image: UInt8[np.ndarray, "h w 3"], settings: CrfSettings
) -> list[tuple[float, Float32[np.ndarray, "n d"]]]:
    """Weight and features (x, y, colours in units of their standard deviations) of both kernels."""
    h, w, _ = image.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    position = np.stack([x, y], axis=-1).reshape(-1, 2)
    colours = image.reshape(-1, 3).astype(np.float32)
    far = np.concatenate([position / settings.far, colours / settings.colour], axis=1, dtype=np.float32)
    return [
        (settings.near_weight, (position / settings.near).astype(np.float32)),
        (settings.colour_weight, far),
    ]
