"""Taggers that answer for each image alone: TagCLIP, and the methods of one forward pass and a formula."""

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
from tagmask.pipelines.thresholding import choose
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Images, Pixels

__all__ = ["OnePassPipeline", "Scores", "TagPipeline", "TagclipPipeline", "score_batches"]

Scores = list[Float32[np.ndarray, " f"]]
"""For each image the score of each foreground class."""


class TagPipeline:
    """From images to scores. Texts are encoded once."""

    def __init__(self, clip: Clip, recipe: TagRecipe) -> None:
        self.clip, self.recipe = clip, recipe
        self.query = text_query(clip, recipe.words, recipe.background, recipe.templates)

    @property
    def words(self) -> tuple[str, ...]:
        """What each class is called."""
        return self.query.words

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that images are compared with."""
        return self.query.texts

    def choose(self, scores: Float32[np.ndarray, " f"]) -> tuple[int, ...]:
        """Classes taken as present."""
        recipe = self.recipe
        return choose(scores, recipe.tag_tau, recipe.thresholds, min_score=recipe.min_score, top=recipe.top)

    def score(self, images: Images) -> Scores:
        """Score of each class in each image.

        Raises:
            InputError: a method that needs a set of images first, and has seen none.
        """
        raise NotImplementedError

    def score_set(self, groups: Iterable[Images]) -> Scores:
        """Scores of a list of images, which come a few at a time."""
        return list(chain.from_iterable(self.score(images) for images in groups))

    def adapt(self, groups: Iterable[Images]) -> Adaptation:
        """What a set of images teaches.

        Raises:
            InputError: a method that takes each image alone.
        """
        raise InputError(
            f"{self.recipe.name} takes each image alone and learns nothing from a set; "
            "give method='piaa' or method='sparc'"
        )


class TagclipPipeline(TagPipeline):
    """TagCLIP."""

    @property
    def settings(self) -> TagclipSettings:
        """TagCLIP's own numbers."""
        return cast(TagclipSettings, self.recipe.variant)

    def score(self, images: Images) -> Scores:
        """See `TagPipeline`."""
        query = self.query
        return score_images(self.clip, images, query.names, query.features, query.foreground, self.settings)


class OnePassPipeline(TagPipeline):
    """CLIP, DPT and CLIP Surgery: one forward pass and a formula."""

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
    """Scores of images of any sizes, in their order; those of one size share batches."""
    found: dict[int, Float32[np.ndarray, " f"]] = {}
    for places, pixels in batches(clip, images, settings):
        found.update(zip(places, query.by_class(score(pixels)), strict=True))
    return [found[place] for place in range(len(images))]
