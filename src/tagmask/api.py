"""Load once, call with images: `Tagger` and `Segmenter`."""

import logging
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np

from tagmask.clip.load import Clip
from tagmask.dense.attention import METHODS
from tagmask.dense.prompts import split_names, text_features
from tagmask.images import ImageSource, read_image
from tagmask.papers.sclip import check_windows, segment
from tagmask.papers.tagclip import choose_tags, score_images, tag_cut
from tagmask.results import Segmentation, Tags, nothing_label
from tagmask.settings.lookup import mask_recipe, tag_recipe
from tagmask.settings.tables import MaskRecipe, TagRecipe

__all__ = ["Segmenter", "Tagger", "methods"]

_IMAGES_TOGETHER = 8

_LOG = logging.getLogger(__name__)

Source = TypeVar("Source", bound=ImageSource)


def methods() -> dict[str, str]:
    """Every method by name, with a line on what it does and where it comes from."""
    dense = {name: f"{method.summary} ({method.source})" for name, method in METHODS.items()}
    return {**dense, "tagclip": "tags from refined patch scores (TagCLIP, Lin et al., AAAI 2024)"}


class Tagger:
    """Says which words are in an image.

    Args:
        clip: from `tagmask.load`.
        words: one a class; "dog, puppy" is one class with two names.
        recipe: a paper's settings, by name or as changed by you; `words` and `background` then replace
            that recipe's names only.
        background: names that compete with the words and are never tags; [] for none.
        as_: "published" keeps what the authors' program does where it looks unintended, "corrected" does not.
        **settings: any field of the recipe by name, such as `min_score=0.1`, `top=3`, `cwr=False`.

    Raises:
        InputError: unusable words, recipe or settings.
        TextTooLongError: a word that does not fit CLIP's 77 tokens.
    """

    def __init__(
        self,
        clip: Clip,
        words: Sequence[str] | None = None,
        *,
        recipe: str | TagRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        **settings: object,
    ) -> None:
        self.clip = clip
        self.recipe = tag_recipe(recipe, words, background, as_, settings, clip.background)
        self._names = split_names([*self.recipe.words, *self.recipe.background])
        _say_unknown(clip, self._names.texts)
        self._texts = text_features(clip, self._names.texts, self.recipe.templates)

    @property
    def words(self) -> tuple[str, ...]:
        """What each class is called."""
        return self._names.classes[: len(self.recipe.words)]

    @overload
    def __call__(self, image: ImageSource) -> Tags: ...
    @overload
    def __call__(self, image: list[Source] | tuple[Source, ...]) -> list[Tags]: ...
    def __call__(self, image: ImageSource | list[Source] | tuple[Source, ...]) -> Tags | list[Tags]:
        """Tag one image, or a list of images together.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3); or a list or tuple of these.

        Raises:
            ImageError: an image that cannot be read.
        """
        if isinstance(image, list | tuple):
            return [tags for group in _grouped(image) for tags in self._tag(group)]
        return self._tag([image])[0]

    def _tag(self, sources: Sequence[ImageSource]) -> list[Tags]:
        recipe = self.recipe
        images = [read_image(source) for source in sources]
        found = score_images(self.clip, images, self._names, self._texts, len(recipe.words), recipe)
        return [
            Tags(
                words=self.words,
                scores=scores,
                chosen=choose_tags(scores, recipe.tag_tau, min_score=recipe.min_score, top=recipe.top),
                cut=tag_cut(scores, recipe.tag_tau),
                precision=self.clip.precision,
            )
            for scores in found
        ]


class Segmenter:
    """Says where the words are in an image.

    Args:
        clip: from `tagmask.load`.
        words: one a class; "dog, puppy" is one class with two names.
        recipe: a paper's settings, by name or as changed by you; `words` and `background` then replace
            that recipe's names only.
        background: names of what is none of the words, which becomes label 0; [] for no background.
        as_: "published" keeps what the authors' program does where it looks unintended, "corrected" does not.
        **settings: any field of the recipe by name, such as `method="maskclip"`, `prob_thd=0.3`,
            `pamr_steps=10`.

    Raises:
        InputError: unusable words, recipe or settings.
        TextTooLongError: a word that does not fit CLIP's 77 tokens.
    """

    def __init__(
        self,
        clip: Clip,
        words: Sequence[str] | None = None,
        *,
        recipe: str | MaskRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        **settings: object,
    ) -> None:
        self.clip = clip
        self.recipe = mask_recipe(recipe, words, background, as_, settings, clip.background)
        check_windows(clip, self.recipe)
        behind = [", ".join(self.recipe.background)] if self.recipe.background else []
        self._names = split_names([*behind, *self.recipe.words])
        _say_unknown(clip, self._names.texts)
        self._texts = text_features(clip, self._names.texts, self.recipe.templates)

    @property
    def words(self) -> tuple[str, ...]:
        """What each label is called."""
        named = self._names.classes
        return ("background", *named[1:]) if self.recipe.background else named

    @overload
    def __call__(self, image: ImageSource, *, scores: bool = False) -> Segmentation: ...
    @overload
    def __call__(
        self, image: list[Source] | tuple[Source, ...], *, scores: bool = False
    ) -> list[Segmentation]: ...
    def __call__(
        self, image: ImageSource | list[Source] | tuple[Source, ...], *, scores: bool = False
    ) -> Segmentation | list[Segmentation]:
        """Mask one image, or a list of images together.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3); or a list or tuple of these.
            scores: also keep every class's score at every pixel, float32 (classes, h, w).

        Raises:
            ImageError: an image that cannot be read.
        """
        if isinstance(image, list | tuple):
            return [found for group in _grouped(image) for found in self._mask(group, scores)]
        return self._mask([image], scores)[0]

    def _mask(self, sources: Sequence[ImageSource], keep_scores: bool) -> list[Segmentation]:
        nothing = nothing_label(len(self.words))
        has_background = bool(self.recipe.background)
        found = segment(
            self.clip,
            [read_image(source) for source in sources],
            self._names,
            self._texts,
            self.recipe,
            background=has_background,
            nothing=nothing,
            keep_scores=keep_scores,
        )
        dtype = np.uint8 if nothing == 255 else np.uint16
        return [
            Segmentation(
                words=self.words,
                labels=labels.astype(dtype),
                scores=scores,
                background=has_background,
                precision=self.clip.precision,
            )
            for labels, scores in found
        ]


def _say_unknown(clip: Clip, texts: Sequence[str]) -> None:
    """Say which words the weights cannot know, where their file tells what they saw."""
    known = clip.known_words
    if known is None:
        return
    strange = [text for text in texts if not known.issuperset(text.casefold().split())]
    if strange:
        shown = ", ".join(strange[:8]) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
        _LOG.warning(
            "%s never saw: %s. What it answers about them means nothing; it knows %d words, "
            "listed by `tagmask doctor --words`, and weights such as ViT-B-16.pt know nearly all.",
            clip.name,
            shown,
            len(known),
        )


def _grouped(images: Sequence[Source]) -> list[Sequence[Source]]:
    return [images[start : start + _IMAGES_TOGETHER] for start in range(0, len(images), _IMAGES_TOGETHER)]
