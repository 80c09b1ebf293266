"""Rank prompt templates by their sharpness on a set of images (`papers.clip_es_prompts`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.gradcam import patch_feature
from tagmask.dense.prompts import text_features
from tagmask.errors import InputError
from tagmask.papers import clip_es, cls_seg
from tagmask.papers.clip_es_prompts import sharpness, tag_probabilities
from tagmask.pipelines.tagging import TagclipPipeline
from tagmask.settings.recipes import ORIGAMI, TagFirstRecipe
from tagmask.settings.words import read_list
from tagmask.types import Image

__all__ = ["ImageSharpness", "PromptSelection", "RankedTemplate", "default_candidates"]


@dataclass(frozen=True, eq=False)
class ImageSharpness:
    """What one image says about the templates."""

    tags: tuple[int, ...]
    sharpness: Float64[Tensor, " t"] | None
    """Of each template; None for an image of fewer than two tags."""


@dataclass(frozen=True)
class RankedTemplate:
    """A template and its sharpness: the lower, the better."""

    template: str
    sharpness: float
    """Sum over the images."""


def default_candidates() -> tuple[str, ...]:
    """Return CLIP-ES's template, and those that TagCLIP averages: CLIP's 80 for ImageNet, and 5 more."""
    return (ORIGAMI, *read_list("prompts_tag85"))


class PromptSelection:
    """Compares templates image by image. One forward pass of an image serves all templates.

    Args:
        clip: the frozen model.
        recipe: of a method that masks tags: words, background, and the tagger for images without given tags.
            Its own templates are not used.
        templates: the candidates, each with "{}" for the word.

    Raises:
        InputError: no templates, or one without "{}".
        TextTooLongError: a template with a word has more than 77 tokens.
    """

    def __init__(self, clip: Clip, recipe: TagFirstRecipe, templates: Sequence[str]) -> None:
        self.clip, self.recipe, self.templates = clip, recipe, tuple(templates)
        for template in self.templates:
            if "{}" not in template:
                raise InputError(f"Template {template!r} has no {{}}. Put {{}} where the word goes.")
        names = (*(recipe.prompts or clip_es.fuse_names(recipe.words)), *recipe.background)
        # Whole sentences in one call, so that progress is that of all templates.
        sentences = [template.replace("{}", name) for template in self.templates for name in names]
        self._texts = text_features(clip, sentences, ("{}",)).unflatten(0, (-1, len(names)))
        self._tagger = TagclipPipeline(clip, recipe.tagger) if recipe.tagger else None

    @torch.inference_mode()
    def measure(self, image: Image, given: Sequence[int] | None = None) -> ImageSharpness:
        """Return one image's part of the sharpness of each template.

        Args:
            image: upright RGB.
            given: its tags; None: the recipe's tagger finds them.

        Raises:
            InputError: a tag is repeated or out of range, or the recipe needs tags.
        """
        clip_es.check_tags(given or (), len(self.recipe.words))
        settings = self.recipe.variant
        if given is not None:
            tags = tuple(given)
            if len(tags) < 2:
                return ImageSharpness(tags, None)
            tower = clip_es.encode_image(self.clip, image, settings, attention=False)
        elif self._tagger is None:
            raise InputError(f"{self.recipe.name} needs the image's tags. Give them.")
        else:
            tagger = self._tagger
            features = cls_seg.extract_shared_features(self.clip, image, tagger.settings, settings)
            tags = tagger.choose(cls_seg.tag_scores(self.clip, features, tagger.query, tagger.settings))
            tower = features.tower
        if len(tags) < 2:
            return ImageSharpness(tags, None)
        probabilities = tag_probabilities(
            patch_feature(tower), self._competing(tags), len(tags), self.clip.logit_scale
        )
        return ImageSharpness(tags, sharpness(probabilities).cpu())

    def _competing(self, tags: Sequence[int]) -> Float[Tensor, "t q e"]:
        """The texts of the softmax under each template: the image's tags, then the background."""
        background = range(len(self.recipe.words), self._texts.shape[1])
        texts: Tensor = self._texts[:, [*tags, *background]]
        return texts

    def ranked(self, total: Float64[Tensor, " t"]) -> list[RankedTemplate]:
        """Return the templates with the sum of `ImageSharpness.sharpness`, the best first."""
        found = zip(self.templates, total.tolist(), strict=True)
        return sorted((RankedTemplate(*each) for each in found), key=lambda each: each.sharpness)
