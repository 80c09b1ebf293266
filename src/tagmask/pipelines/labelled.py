"""The interface and the shared steps of the mask pipelines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from tagmask.confidence import WinningScores
from tagmask.dense.prompts import TextQuery
from tagmask.papers.clip_es import full_size_maps
from tagmask.purification import Purification
from tagmask.refine.crf import CRF_SETTINGS, caffe_wrapped, dense_crf
from tagmask.regions.proposals import Proposals
from tagmask.results import Segmentation, ignore_index_for
from tagmask.types import Image, Images

__all__ = ["LabelledImage", "MaskPipeline", "apply_crf", "spread_planes", "to_segmentation"]


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """The labels of one image."""

    labels: Integer[np.ndarray, "h w"]
    """int32, indices into the pipeline's `words`, or the ignore index."""
    scores: Float32[np.ndarray, "c h w"] | None
    """Score of every word per pixel, on request; 0 for words that did not compete."""
    tags: tuple[int, ...] | None
    """Classes that competed, counted without the background; None if all did."""
    winning: WinningScores | None = None
    """The greatest score of every pixel, on request."""
    maps: Float[Tensor, "K gh gw"] | None = None
    """Activation maps of the tags, 0..1, on the grid of patches; None if the method has none."""
    purification: Purification | None = None
    """Which words were dropped, if the recipe purifies."""


class MaskPipeline:
    """Labels every pixel of images, given their tags or not. Texts are encoded once, at construction."""

    words: tuple[str, ...]
    """The name of each label."""
    texts: tuple[str, ...]
    """Every text that images are compared with, for the warning of unknown words."""
    background: bool
    """Whether label 0 is the background."""

    @property
    def query(self) -> TextQuery | None:
        """Features of every name of the words and the background; None if it compares other texts."""
        raise NotImplementedError

    def __call__(
        self,
        images: Images,
        tags: Sequence[Sequence[int] | None],
        ignore_index: int,
        keep_scores: bool,
        keep_winning: bool = False,
        proposals: Sequence[Proposals | None] | None = None,
    ) -> list[LabelledImage]:
        """Label every pixel of every image.

        Args:
            images: upright RGB.
            tags: for each image, its classes, counted without the background; None if not given.
            ignore_index: the label of pixels of no class.
            keep_scores: also return the score of every class at every pixel.
            keep_winning: also return the greatest score of every pixel.
            proposals: for each image, regions that get one class each; None: every pixel has its own.

        Raises:
            InputError: a tag is repeated or is no class; or tags are needed and not given.
        """
        raise NotImplementedError


def to_segmentation(
    result: LabelledImage, pipeline: MaskPipeline, precision: str, *, cams: bool = False
) -> Segmentation:
    """Return the labels of an image as users get them.

    Args:
        result: of the pipeline, with the ignore index for its words.
        pipeline: that labelled the image.
        precision: of the matrix products.
        cams: keep the activation maps.
    """
    words, background = pipeline.words, pipeline.background
    labels = result.labels.astype(np.uint8 if ignore_index_for(len(words)) == 255 else np.uint16)
    size = (labels.shape[0], labels.shape[1])
    sure = None if result.winning is None else result.winning.summarise(labels, words, background)
    return Segmentation(
        words=words,
        labels=labels,
        scores=result.scores,
        background=background,
        precision=precision,
        tags=result.tags,
        class_confidence=None if sure is None else sure.class_confidence,
        confidence=None if sure is None else sure.confidence,
        cams=full_size_maps(result.maps, size) if cams and result.maps is not None else None,
        purification=result.purification,
    )


def apply_crf(
    planes: Float[Tensor, "k h w"], image: Image, settings: str, *, wrapped: bool
) -> Float[Tensor, "k h w"]:
    """Refine probabilities with a dense CRF.

    Args:
        planes: probabilities per class.
        image: upright RGB.
        settings: a name in `CRF_SETTINGS`.
        wrapped: as coded: pass the image with its dark pixels wrapped around to bright values.
    """
    return dense_crf(planes, caffe_wrapped(image) if wrapped else image, CRF_SETTINGS[settings])


def spread_planes(
    scores: Float32[np.ndarray, "k h w"] | None,
    classes: Sequence[int],
    words: Sequence[str],
    size: tuple[int, int],
    keep_scores: bool,
) -> Float32[np.ndarray, "c h w"] | None:
    """Put the planes of some classes at their indices in `words`; others are 0. None if not kept."""
    if not keep_scores:
        return None
    if scores is not None and list(classes) == list(range(len(words))):
        return scores
    full = np.zeros((len(words), *size), np.float32)
    if scores is not None and len(classes):
        full[list(classes)] = scores
    return full
