"""Fit a head to masks: of a few corrected images, or of the method itself where it is confident.

Every cell of the grid of patches of the scaled image is a row. Its feature, its scores and its true shares
are means over its pixels of what the pipeline has there: the stitched unit patch features, the probabilities
of the classes, the corrected mask. So the fit is that of the pixels' scores, on a coarser grid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer, UInt8
from torch import Tensor

from tagmask.dense.frozen_windows import FrozenWindows
from tagmask.dense.labels import class_scores
from tagmask.errors import InputError, ShapeError
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.head import Head
from tagmask.pipelines.ridge import NormalEquations, PatchRows, Validation, validate
from tagmask.types import Image

__all__ = ["FittedHead", "HeadFitting", "confident", "fit_to_itself", "patch_rows", "pool_matrix"]

LEFT_OUT = 32
"""Most images that are left out to choose the penalty, evenly spaced."""
ROUNDS = 2
"""Rounds of self-training."""
LEAST_GAIN = 0.01
"""Agreement with refined masks that self-training must gain on images left out, as mean IoU. In one run on 16
drawn scenes, smaller gains went with no gain in truth."""
_REFINING = 10
"""Iterations of PAMR on the masks that self-training learns from, unless the recipe has more."""


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head, and what is known of it."""

    head: Head
    validation: Validation
    """On images that were left out of the fit."""


class HeadFitting:
    """Fits a head image by image; memory does not grow with their number, but for those that are left out.

    Args:
        pipeline: of the method whose scores are corrected, without a head.
        images: number of images to come.

    Raises:
        InputError: there is no image.
    """

    def __init__(self, pipeline: DensePipeline, images: int) -> None:
        if images < 1:
            raise InputError("There are no corrected masks to learn from. Correct at least one image.")
        self._pipeline = pipeline
        self._images = images
        width = pipeline.clip.geometry.embed
        self._equations = NormalEquations(width, len(pipeline.words))
        self._left_out: list[PatchRows] = []

    def add(self, image: Image, labels: Integer[np.ndarray, "_ _"]) -> None:
        """Add an image and its mask.

        Args:
            image: upright RGB.
            labels: indices into the pipeline's words; other values are pixels of unknown class.

        Raises:
            ShapeError: they differ in size.
        """
        if labels.shape != image.shape[:2]:
            raise ShapeError(
                f"The mask is {labels.shape}, but its image is {image.shape[:2]} (h, w). Give equal sizes."
            )
        self.add_rows(patch_rows(self._pipeline, self._pipeline.freeze(image), labels))

    def add_rows(self, rows: PatchRows) -> None:
        """Add the patches of an image."""
        number = self._equations.images
        self._equations.add(rows)
        kept = min(LEFT_OUT, self._images)
        if number * kept // self._images != (number + 1) * kept // self._images:
            self._left_out.append(rows)

    def fit(self, least_gain: float = 0.0) -> FittedHead:
        """Choose the penalty, and fit.

        Args:
            least_gain: mean IoU that images left out must gain for any correction to be made.

        Raises:
            InputError: no image was added.
        """
        if not self._equations.images:
            raise InputError("None of the masks could be used. Correct them, or others.")
        validation = validate(self._equations, self._left_out, least_gain)
        matrix = self._equations.solve(validation.penalty)
        clip, recipe = self._pipeline.clip, self._pipeline.recipe
        images = self._equations.images
        head = Head.of(matrix, clip, recipe, penalty=validation.penalty, images=images)
        return FittedHead(head, validation)


def fit_to_itself(
    pipeline: DensePipeline, images: Iterable[UInt8[np.ndarray, "_ _ 3"]], rounds: int = ROUNDS
) -> FittedHead:
    """Fit a head to the method's own results, refined along the edges of the images, in rounds.

    A round masks the images with PAMR, and fits a head to these masks where they are confident: the half of
    the pixels of each class in each image with the greatest scores. The next round starts from the masks with
    that head. No person is involved, so nothing tells whether masks are right. The validation says how far
    images that were left out come closer to their refined masks. A head that gains less than `LEAST_GAIN`
    there is dropped, and the penalty is then infinite: a recipe that is refined already has little to learn
    from itself.

    Args:
        pipeline: of the method, without a head.
        images: upright RGB; the features of all are held in memory.
        rounds: at least 1.

    Raises:
        InputError: there are no images.
    """
    given = list(images)
    if not given:
        raise InputError("There are no images to learn from.")
    frozen = [pipeline.freeze(image) for image in given]
    recipe = pipeline.recipe
    refined = replace(
        recipe, pamr_steps=max(recipe.pamr_steps, _REFINING), crf=None, among="words", tagger=None
    )
    head: Head | None = None
    for _ in range(rounds):
        teacher = DensePipeline(pipeline.clip, refined, head=head)
        fitting = HeadFitting(pipeline, len(given))
        for image, features in zip(given, frozen, strict=True):
            ignored = len(pipeline.words)
            labelled = teacher.label_frozen(image, features, None, ignored, False, keep_winning=True)
            assert labelled.winning is not None  # as asked for
            labels = confident(labelled.labels, labelled.winning.plane, ignored)
            fitting.add_rows(patch_rows(pipeline, features, labels))
        fitted = fitting.fit(LEAST_GAIN)
        head = fitted.head
    return fitted


def confident(
    labels: Integer[np.ndarray, "h w"], scores: Float[np.ndarray, "h w"], ignored: int, share: float = 0.5
) -> Integer[np.ndarray, "h w"]:
    """Keep the labels of each class's pixels with the greatest scores, and ignore the others.

    Args:
        labels: class of each pixel.
        scores: of that class.
        ignored: the label of the others.
        share: of the pixels of each class, those that are kept.

    Example:
        >>> confident(np.array([[1, 1, 2]]), np.array([[0.4, 0.9, 0.2]]), ignored=9)
        array([[9, 1, 2]])
    """
    kept = np.full_like(labels, ignored)
    for label in np.unique(labels):
        of_class = labels == label
        kept[of_class & (scores >= np.quantile(scores[of_class], 1 - share))] = label
    return kept


def patch_rows(
    pipeline: DensePipeline, frozen: FrozenWindows, labels: Integer[np.ndarray, "h w"] | None = None
) -> PatchRows:
    """The patches of an image, with its mask.

    All words compete, whatever the recipe restricts them to.

    Args:
        pipeline: of the method, without a head.
        frozen: the image's features.
        labels: indices into the pipeline's words; other values are pixels of unknown class. None: no mask;
            `truth` is then 0.
    """
    recipe, query = pipeline.recipe, pipeline.query
    maps = frozen.maps(query.features, recipe.logit_scale)
    patch = pipeline.clip.vision.patch
    cells = max(frozen.pixels.shape[-2] // patch, 1), max(frozen.pixels.shape[-1] // patch, 1)
    device = maps.cosines.device
    rows, columns = (pool_matrix(*each).to(device) for each in zip(frozen.size, cells, strict=True))
    classes = len(pipeline.words)
    scores, truth = (torch.zeros(classes, *cells, device=device) for _ in range(2))
    weights = torch.zeros(cells, device=device)
    for top, bottom, strip in class_scores(maps, query.names, recipe):
        pixels = strip.isfinite().all(dim=0).float()
        if labels is not None:
            part = torch.from_numpy(labels[top:bottom].astype(np.int64)).to(device)
            pixels *= (part >= 0) & (part < classes)
            found = torch.nn.functional.one_hot(part.clamp(0, classes - 1), classes).permute(2, 0, 1)
            truth += rows[:, top:bottom] @ (found * pixels) @ columns.T
        scores += rows[:, top:bottom] @ (strip.nan_to_num(0.0) * pixels) @ columns.T
        weights += rows[:, top:bottom] @ pixels @ columns.T
    features = (rows @ frozen.down) @ frozen.features(query.features, recipe.logit_scale).nan_to_num(0.0)
    features = features @ (columns @ frozen.across).T
    known = weights.clamp(min=1e-9)

    def by_patch(planes: Float[Tensor, "planes gh gw"]) -> Float32[Tensor, "p planes"]:
        return planes.flatten(1).T.float().cpu().contiguous()

    return PatchRows(
        by_patch(features), by_patch(scores / known), by_patch(truth / known), by_patch(weights[None])[:, 0]
    )


def pool_matrix(pixels: int, cells: int) -> Float32[Tensor, "cells pixels"]:
    """Average pixels over cells along one axis; where there are fewer pixels than cells, they repeat.

    Example:
        >>> pool_matrix(4, 2)
        tensor([[0.5000, 0.5000, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.5000, 0.5000]])
    """
    index, cell = torch.arange(pixels), torch.arange(cells)[:, None]
    first, last = cell * pixels // cells, -(-(cell + 1) * pixels // cells)
    inside = ((index >= first) & (index < last)).float()
    return inside / inside.sum(dim=1, keepdim=True)
