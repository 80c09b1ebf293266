"""The fully connected conditional random field, solved by mean field.

Every pixel tells every other what class it takes itself for; near pixels, and pixels of like
colour, are believed most. After some rounds the maps follow the edges of the image.

    n  pixels of the image, row by row

The sums over all pairs run on a permutohedral lattice, as in the program that the papers used; see
`tagmask.refine.lattice` for why and how. For batches of small images `tagmask.refine.crf_small` has them
exactly.
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
"""Classes that can change no message by more than this are not passed on in a round."""
_BYTES = 1 << 29
"""Of one buffer of the lattice, of which a use holds two: with more, classes are sent in groups."""
_FEWEST = 4
"""Classes sent at a time, whatever that takes: narrow groups take nearly as long as wide ones."""


@dataclass(frozen=True, slots=True)
class CrfSettings:
    """What the field believes.

    Attributes:
        near: reach of the smoothness kernel, its standard deviation in pixels.
        near_weight: how much it counts.
        far: reach of the appearance kernel in pixels.
        colour: its standard deviation in grey levels (0..255) of each colour.
        colour_weight: how much it counts.
        rounds: mean-field rounds; 0 only normalises.
        floor: probabilities are raised to at least this before the logarithm.

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
        "weakclip/student-voc": CrfSettings(
            near=1.0, near_weight=3.0, far=112.0, colour=2.0, colour_weight=3.0
        ),
    }
)
"""Settings by the paper that used them. "cls-seg" are CLIP-ES's; "deeplab" has the
same numbers, as its public scripts are remembered, unchecked.
"weakclip/loss" is for 64 x 64 maps inside the training loop, "weakclip/student-voc" for the network
that is trained on the masks."""


def dense_crf(
    probabilities: Float[Tensor, "c h w"], image: Image | UInt8[Tensor, "h w 3"], settings: CrfSettings
) -> Float[Tensor, "c h w"]:
    """Let all pixels of an image agree on their classes.

    With U = -log(clip(p, floor, 1)) and Q = softmax(-U), each round sets

        Q = softmax(-U + near_weight K1 Q + colour_weight K2 Q),

    softmax over the classes, K = D^-1/2 k D^-1/2, D the row sums of k, self included, and

        k1(i, j) = exp(-|x_i - x_j|^2 / 2 near^2)
        k2(i, j) = exp(-|x_i - x_j|^2 / 2 far^2 - |colour_i - colour_j|^2 / 2 colour^2).

    Args:
        probabilities: one plane per class at the image's size; need not sum to 1. Values below the
            floor or above 1 are cut.
        image: RGB (any order of colours, if always the same).
        settings: see `CRF_SETTINGS` for those of the papers.

    Returns:
        Q, positive, of sum 1 over the classes, in the dtype of `probabilities` and on their
        device, computed in float32 or better, without gradient. One class gives 1 everywhere.

        Memory beyond the input: 0.3 to 0.8 kB per pixel for the lattice (most for noisy images and
        small `colour`) and 16 to 30 bytes per pixel and class. Measured: 1.2 GB per megapixel with
        21 classes on a noisy photograph, so 7 GB for 3000 x 2000; refine large images at a smaller size.
        Time is linear in pixels, classes and rounds. Results are the same from run to run.

    Raises:
        ShapeError: no class, no pixel, or an image of another size.
        InputError: NaN or infinite probabilities, or `near` or `colour` so small for the image that
            the lattice cannot number its corners.

    Source:
        Krähenbühl and Koltun, NIPS 2011; lattice, normalisation and order of features as in the
        authors' program, which CLIP-ES and WeakCLIP call through pydensecrf (Q differs by less than
        1e-5 on most images; a rounding that tips a pixel can spread: 3e-3 seen). Departures: classes whose
        largest Q is so small that they can change no message by 1e-6 are left out of a round.

    Example:
        >>> refined = dense_crf(torch.rand(3, 8, 9), np.zeros((8, 9, 3), np.uint8), CRF_SETTINGS["cls-seg"])
        >>> refined.shape
        torch.Size([3, 8, 9])
    """
    c, h, w = probabilities.shape
    pixels = image.cpu().numpy() if isinstance(image, Tensor) else image
    _require(probabilities, pixels)
    dtype = torch.promote_types(probabilities.dtype, torch.float32)
    belief = torch.empty(h * w, c, dtype=dtype, device=probabilities.device)
    belief.copy_(probabilities.detach().reshape(c, h * w).T).clamp_(settings.floor, 1).log_()
    message, width = _lattice_message(pixels, settings, belief)
    marginals = _mean_field(belief, message, settings.rounds, width)
    return marginals.T.reshape(c, h, w).to(probabilities.dtype)


def dense_crf_batch(
    probabilities: Float[Tensor, "b c h w"],
    images: UInt8[np.ndarray, "b h w 3"] | UInt8[Tensor, "b h w 3"],
    settings: CrfSettings,
) -> Float[Tensor, "b c h w"]:
    """`dense_crf` of each image of a batch.

    Raises:
        ShapeError: as many images as planes are needed, and at least one; else as `dense_crf`.
        InputError: as `dense_crf`.
    """
    if not 0 < len(probabilities) == len(images):
        raise ShapeError(
            f"got {len(probabilities)} sets of planes and {len(images)} images; give one per image"
        )
    return torch.stack(
        [dense_crf(p, image, settings) for p, image in zip(probabilities, images, strict=True)]
    )


def caffe_wrapped(image: Image) -> Image:
    """The image as CLIP-ES and CLS-SEG show it to the field, for their exact figures.

    They subtract the mean colour and cast back to bytes: the fraction is dropped and what is
    negative wraps around, so dark pixels come out bright. A fault, kept for comparison only.

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
"""Both kernels, weighted, applied to some classes."""


def _require(probabilities: Float[Tensor, "c h w"], image: np.ndarray) -> None:
    size = tuple(probabilities.shape[1:])
    if image.shape != (*size, 3):
        raise ShapeError(
            f"got planes of {size} and an image of {image.shape}; resize one of them so that the image is "
            f"{(*size, 3)}"
        )
    if probabilities.numel() == 0:
        raise ShapeError(f"got planes {tuple(probabilities.shape)}; give at least one class and one pixel")
    if not probabilities.isfinite().all():
        raise InputError("got probabilities that are NaN or infinite; give numbers from 0 to 1")


def _mean_field(
    belief: Float[Tensor, "n c"], message: _Message, rounds: int, width: int
) -> Float[Tensor, "n c"]:
    marginals = belief.softmax(1)
    classes = belief.shape[1]
    alive = torch.arange(classes, device=belief.device)
    reach = 0.0
    for done in range(rounds):
        if len(alive) == classes <= width:
            heard = message(marginals)
        else:
            heard = torch.zeros_like(belief)
            for some in alive.split(width):
                heard.index_copy_(1, some, message(marginals.index_select(1, some)))
        if done == 0:
            # All classes together send 1 everywhere: no value sent grows by more than what then arrives.
            reach = float(heard.sum(1).max())
        torch.softmax(heard.add_(belief), 1, out=marginals)
        alive = (_largest(marginals) * reach > _FADED).nonzero()[:, 0]
    return marginals


def _largest(values: Float[Tensor, "n c"]) -> Float[Tensor, " c"]:
    """Of each column; long rows first, which is many times faster than `amax(0)` of short ones."""
    n, c = values.shape
    fold = max(n // 64, 1)
    whole = n // fold * fold
    folded = values[:whole].view(whole // fold, fold * c).amax(0).view(fold, c).amax(0)
    return folded.maximum(values[whole - 1 :].amax(0))


def _lattice_message(
    image: UInt8[np.ndarray, "h w 3"], settings: CrfSettings, like: Float[Tensor, "n c"]
) -> tuple[_Message, int]:
    """The message, and how many classes to send at a time."""
    weighted = [
        (weight, Lattice(features, dtype=like.dtype, device=like.device))
        for weight, features in _kernels(image, settings)
    ]

    def message(values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        (first, near), (second, far) = weighted
        return near(values).mul_(first).add_(far(values), alpha=second)

    corners = max(lattice.size for _, lattice in weighted)
    most = max(_BYTES // (like.element_size() * corners), _FEWEST)
    parts = -(-like.shape[1] // most)
    return message, -(-like.shape[1] // parts)


def _kernels(
    image: UInt8[np.ndarray, "h w 3"], settings: CrfSettings
) -> list[tuple[float, Float32[np.ndarray, "n d"]]]:
    """Weight and features (x, y, colours in units of their standard deviations) of both kernels."""
    h, w, _ = image.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    place = np.stack([x, y], axis=-1).reshape(-1, 2)
    colours = image.reshape(-1, 3).astype(np.float32)
    far = np.concatenate([place / settings.far, colours / settings.colour], axis=1, dtype=np.float32)
    return [
        (settings.near_weight, (place / settings.near).astype(np.float32)),
        (settings.colour_weight, far),
    ]
