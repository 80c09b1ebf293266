"""What the pipelines that mask have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from tagmask.refine.crf import CRF_SETTINGS, caffe_wrapped, dense_crf
from tagmask.types import Image, Images

__all__ = ["LabelledImage", "MaskPipeline", "apply_crf", "spread_planes"]


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image's labels."""

    labels: Integer[np.ndarray, "h w"]
    """int32, by the pipeline's `words`."""
    scores: Float32[np.ndarray, "c h w"] | None
    """Of every word, on request; 0 where a word did not compete."""
    tags: tuple[int, ...] | None
    """Classes that competed, counted without the background; None where all did."""


class MaskPipeline:
    """From images, and an image's tags where the caller knows them, to labels. Texts are encoded once."""

    words: tuple[str, ...]
    """What each label is called."""
    texts: tuple[str, ...]
    """Every text that images are compared with."""
    background: bool
    """Label 0 is the background."""

    def __call__(
        self, images: Images, tags: Sequence[Sequence[int] | None], ignore_index: int, keep_scores: bool
    ) -> list[LabelledImage]:
        """Label every pixel of every image.

        Args:
            images: upright RGB.
            tags: for each image its classes, counted without the background; None: not known.
            ignore_index: the label of pixels that are no class.
            keep_scores: also return the score of every class at every pixel.

        Raises:
            InputError: tags that are repeated or name no class; or none, where they are needed.
        """
        raise NotImplementedError


def apply_crf(
    planes: Float[Tensor, "k h w"], image: Image, settings: str, *, wrapped: bool
) -> Float[Tensor, "k h w"]:
    """Probabilities after a dense CRF, whose settings are named."""
    return dense_crf(planes, caffe_wrapped(image) if wrapped else image, CRF_SETTINGS[settings])


def spread_planes(
    scores: Float32[np.ndarray, "k h w"] | None,
    kept: Sequence[int],
    words: Sequence[str],
    size: tuple[int, int],
    wanted: bool,
) -> Float32[np.ndarray, "c h w"] | None:
    """Planes of some classes at their places among all."""
    if not wanted:
        return None
    if scores is not None and list(kept) == list(range(len(words))):
        return scores
    full = np.zeros((len(words), *size), np.float32)
    if scores is not None and len(kept):
        full[list(kept)] = scores
    return full
