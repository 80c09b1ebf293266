"""Tagging methods that score each image on its own: TagCLIP, and formulas on one forward pass."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from tagmask.catalogue import method_of
from tagmask.clip.load import Clip
from tagmask.dense.prompts import TextQuery, text_query
from tagmask.errors import InputError
from tagmask.papers.preprocessing import InputSettings, batches
from tagmask.papers.tagclip import TagclipSettings, score_images
from tagmask.pipelines.adaptation import Adaptation
from tagmask.pipelines.thresholding import choose, tag_threshold
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Images, Pixels

__all__ = ["OnePassPipeline", "Scores", "TagPipeline", "TagclipPipeline", "score_batches"]

Scores = list[Float32[np.ndarray, " f"]]
"""For each image, the score of each foreground class."""


class TagPipeline:
    """Scores images. Texts are encoded once, at construction."""

    def __init__(self, clip: Clip, recipe: TagRecipe) -> None:
        self.clip, self.recipe = clip, recipe
        self.query = text_query(clip, recipe.words, recipe.background, recipe.templates)

    @property
    def words(self) -> tuple[str, ...]:
        """The name of each class."""
        return self.query.words

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that images are compared with, background included."""
        return self.query.texts

    def least_score(self, scores: Float32[np.ndarray, " f"]) -> float:
        """Return the score that a tag without a learned threshold must exceed."""
        return tag_threshold(scores, self.recipe.tag_tau)

    def choose(self, scores: Float32[np.ndarray, " f"]) -> tuple[int, ...]:
        """Return the classes that are present, by the recipe's thresholds."""
        recipe = self.recipe
        return choose(scores, recipe.tag_tau, recipe.thresholds, min_score=recipe.min_score, top=recipe.top)

    def score(self, images: Images) -> Scores:
        """Return the score of each class in each image.

        Raises:
            InputError: the method needs a set of images first (`adapt`).
        """
        raise NotImplementedError

    def score_set(self, groups: Iterable[Images]) -> Scores:
        """Return the scores of all images of a stream of batches."""
        return list(chain.from_iterable(self.score(images) for images in groups))

    def adapt(self, groups: Iterable[Images]) -> Adaptation:
        """Learn from a stream of batches of unlabelled images.

        Raises:
            InputError: the method scores each image on its own.
        """
        raise InputError(
            f"{self.recipe.name} scores each image on its own and cannot adapt. "
            "Give method='piaa' or method='sparc'."
        )


class TagclipPipeline(TagPipeline):
    """TagCLIP."""

    @property
    def settings(self) -> TagclipSettings:
        """TagCLIP's settings."""
        return cast(TagclipSettings, self.recipe.variant)

    def score(self, images: Images) -> Scores:
        """See `TagPipeline`."""
        query = self.query
        return score_images(self.clip, images, query.names, query.features, query.foreground, self.settings)


class OnePassPipeline(TagPipeline):
    """CLIP, DPT and CLIP Surgery: a formula on one forward pass."""

    @torch.inference_mode()
    def score(self, images: Images) -> Scores:
        """See `TagPipeline`."""
        formula, settings = method_of(self.recipe).score, self.recipe.variant
        assert formula is not None  # methods of this kind have one

        def score(pixels: Pixels) -> Float[Tensor, "b q"]:
            return cast(Tensor, formula(self.clip, pixels, self.query.features, settings))

        return score_batches(self.clip, self.query, images, cast(InputSettings, settings), score)


def score_batches(
    clip: Clip,
    query: TextQuery,
    images: Images,
    settings: InputSettings,
    score: Callable[[Pixels], Float[Tensor, "b q"]],
) -> Scores:
    """Return the scores of images of any sizes, in their order; images of one size share batches.

    Args:
        clip: the frozen model.
        query: the texts and their classes.
        images: upright RGB.
        settings: how images are resized.
        score: from preprocessed pixels to a score per text.
    """
    scores: dict[int, Float32[np.ndarray, " f"]] = {}
    for indices, pixels in batches(clip, images, settings):
        scores.update(zip(indices, query.by_class(score(pixels)), strict=True))
    return [scores[index] for index in range(len(images))]
