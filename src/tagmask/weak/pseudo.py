"""Pseudo-masks: a trained WeakCLIP looks at its training images at several sizes; a CRF sharpens that."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CrfSettings, dense_crf
from tagmask.types import Image
from tagmask.weak.model import WeakClip
from tagmask.weak.multiscale import Look, TTAConfig, multiscale

__all__ = ["Keys", "forward_function", "keys_only", "labels", "predict", "pseudo_mask"]

Keys = tuple[int, ...]
"""Classes that occur, ascending."""


def forward_function(model: WeakClip) -> Look:
    """The model in evaluation as `multiscale` wants it: windows to logits, texts encoded once for all."""
    model.eval()
    with torch.inference_mode():
        texts = model.encode_texts()

    def look(windows: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k _ _"]:
        with torch.inference_mode():
            return model.head(model.features(model.normalise(windows)), texts).logits

    return look


def predict(
    model: WeakClip, image: Image, views: TTAConfig | None = None, *, present: Sequence[int] | None = None
) -> tuple[Float32[np.ndarray, "k h w"], Keys]:
    """Class probabilities of an image, of the classes that win somewhere.

    Args:
        model: trained; it is put in evaluation mode.
        image: RGB.
        views: left out, the paper's: 6 sizes and their mirror images through windows of 512.
        present: classes that may be there, the background among them if it may; the others are left out
            before the winners are looked for. The paper knows no tags here; None does as it does.

    Returns:
        Probabilities of the kept classes, one plane each in the order of the keys, not normalised again;
        and the keys.

    Raises:
        InputError: `present` is empty or names no class.
    """
    return keys_only(multiscale(forward_function(model), image, views), present)


def keys_only(
    probabilities: Float[Tensor, "k h w"], present: Sequence[int] | None = None
) -> tuple[Float32[np.ndarray, "keys h w"], Keys]:
    """Drop the planes of classes that win nowhere; of equals the first wins.

    Example:
        >>> planes, keys = keys_only(torch.tensor([[[0.2]], [[0.1]], [[0.7]]]))
        >>> planes.shape, keys
        ((1, 1, 1), (2,))
    """
    classes = len(probabilities)
    allowed = sorted(set(range(classes) if present is None else present))
    if not allowed or not 0 <= allowed[0] <= allowed[-1] < classes:
        raise InputError(f"present is {present}; give class numbers from 0 to {classes - 1}, at least one")
    chosen = probabilities[allowed]
    winners = torch.unique(chosen.argmax(dim=0)).tolist()
    return chosen[winners].float().cpu().numpy(), tuple(allowed[winner] for winner in winners)


def labels(
    probabilities: Float[np.ndarray, "k h w"], keys: Keys, image: Image, field: CrfSettings | None
) -> UInt8[np.ndarray, "h w"]:
    """The class of each pixel, after a dense CRF on the kept classes.

    Args:
        probabilities: as `predict` gives them; the field takes them as they are, not normalised.
        keys: their classes.
        image: RGB, of the same size.
        field: such as `CRF_SETTINGS["weakclip/voc"]`; None: no CRF.

    Raises:
        ShapeError: sizes that do not fit.
    """
    if len(probabilities) != len(keys) or probabilities.shape[1:] != image.shape[:2] or not keys:
        raise ShapeError(
            f"got planes of {probabilities.shape}, {len(keys)} keys and an image of {image.shape}; "
            "give one plane a key, of the image's size"
        )
    planes = torch.from_numpy(np.asarray(probabilities, np.float32))
    if field is not None and len(keys) > 1:
        planes = dense_crf(planes, image, field)
    best = planes.argmax(dim=0).numpy()
    found: UInt8[np.ndarray, "h w"] = np.array(keys, np.uint8)[best]
    return found


def pseudo_mask(
    model: WeakClip,
    image: Image,
    field: CrfSettings | None,
    views: TTAConfig | None = None,
    *,
    present: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """`predict`, then `labels`."""
    probabilities, keys = predict(model, image, views, present=present)
    return labels(probabilities, keys, image, field)
