"""Pseudo-masks: multi-scale predictions of a trained WeakCLIP, refined by a dense CRF."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CrfSettings, dense_crf
from tagmask.types import Image
from tagmask.weak.model import WeakClip
from tagmask.weak.multiscale import ForwardFunction, TTAConfig, multiscale

__all__ = ["Keys", "forward_function", "keys_only", "labels", "predict", "pseudo_mask"]

Keys = tuple[int, ...]
"""Predicted classes, ascending."""


def forward_function(model: WeakClip) -> ForwardFunction:
    """Build the forward function for `multiscale`, in evaluation mode; texts are encoded only once."""
    model.eval()
    with torch.inference_mode():
        texts = model.encode_texts()

    def forward(windows: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k _ _"]:
        with torch.inference_mode():
            return model.head(model.features(model.normalise(windows)), texts).logits

    return forward


def predict(
    model: WeakClip, image: Image, views: TTAConfig | None = None, *, present: Sequence[int] | None = None
) -> tuple[Float32[np.ndarray, "k h w"], Keys]:
    """Predict class probabilities of an image, for the classes that win at some pixel.

    Args:
        model: trained; it is set to evaluation mode.
        image: RGB.
        views: default: the paper's, 6 scales with flips and windows of 512.
        present: candidate classes, including the background if allowed; all others are dropped before the
            argmax. None: all classes, as in the paper, which uses no tags here.

    Returns:
        Probabilities of the predicted classes, one plane per key, not renormalised; and the keys.

    Raises:
        InputError: `present` is empty or has a class out of range.
    """
    return keys_only(multiscale(forward_function(model), image, views), present)


def keys_only(
    probabilities: Float[Tensor, "k h w"], present: Sequence[int] | None = None
) -> tuple[Float32[np.ndarray, "keys h w"], Keys]:
    """Drop the planes of classes that win at no pixel; of equal values the first wins.

    Example:
        >>> planes, keys = keys_only(torch.tensor([[[0.2]], [[0.1]], [[0.7]]]))
        >>> planes.shape, keys
        ((1, 1, 1), (2,))
    """
    classes = len(probabilities)
    allowed = sorted(set(range(classes) if present is None else present))
    if not allowed or not 0 <= allowed[0] <= allowed[-1] < classes:
        raise InputError(f"present is {present}. Give at least one class index from 0 to {classes - 1}.")
    chosen = probabilities[allowed]
    winners = torch.unique(chosen.argmax(dim=0)).tolist()
    return chosen[winners].float().cpu().numpy(), tuple(allowed[winner] for winner in winners)


def labels(
    probabilities: Float[np.ndarray, "k h w"], keys: Keys, image: Image, field: CrfSettings | None
) -> UInt8[np.ndarray, "h w"]:
    """Label each pixel, after a dense CRF on the predicted classes.

    Args:
        probabilities: from `predict`; the CRF takes them as they are, not renormalised.
        keys: their classes.
        image: RGB, of the same size.
        field: CRF settings, such as `CRF_SETTINGS["weakclip/voc"]`; None: no CRF.

    Raises:
        ShapeError: the sizes do not match.
    """
    if len(probabilities) != len(keys) or probabilities.shape[1:] != image.shape[:2] or not keys:
        raise ShapeError(
            f"Got planes {probabilities.shape}, {len(keys)} keys and an image {image.shape}. "
            "Give one plane per key, at the image's size."
        )
    planes = torch.from_numpy(np.asarray(probabilities, np.float32))
    if field is not None and len(keys) > 1:
        planes = dense_crf(planes, image, field)
    best = planes.argmax(dim=0).numpy()
    labels: UInt8[np.ndarray, "h w"] = np.array(keys, np.uint8)[best]
    return labels


def pseudo_mask(
    model: WeakClip,
    image: Image,
    field: CrfSettings | None,
    views: TTAConfig | None = None,
    *,
    present: Sequence[int] | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """Predict the mask of an image: `predict`, then `labels`."""
    probabilities, keys = predict(model, image, views, present=present)
    return labels(probabilities, keys, image, field)
