"""Load once, call with images: `Tagger` and `Segmenter`."""

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import TypeVar, overload

import numpy as np
from jaxtyping import Float32

from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image
from tagmask.papers.clip_es import check_tags
from tagmask.pipelines import LabelledImage, mask_pipeline, tag_pipeline
from tagmask.pipelines.adaptation import Adaptation, read_adaptation
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.thresholding import best_thresholds, tag_threshold, thresholds_of_image
from tagmask.pipelines.warnings import warn_depth, warn_unknown_words
from tagmask.resolve import mask_recipe, tag_recipe, with_method
from tagmask.results import Segmentation, Tags, ignore_index_for
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe
from tagmask.types import Images

__all__ = ["Segmenter", "Tagger"]

_IMAGES_TOGETHER = 8


Source = TypeVar("Source", bound=ImageSource)
Item = TypeVar("Item")


class Tagger:
    """Says which words are in an image.

    Args:
        clip: from `tagmask.load`.
        words: one a class; "dog, puppy" is one class with two names.
        recipe: a paper's settings, by name, in a file (`.toml`) or as changed by you; `words` and
            `background` then replace that recipe's names only.
        background: names that compete with the words and are never tags; [] for none.
        as_: "published" keeps what the authors' program does where it looks unintended, "corrected" does not.
        adapter: what another tagger of this method has learned (`adaptation`), or the file it was kept in.
        **settings: `method="clip-softmax"` and the others of `tagmask.methods()` that give tags; any field of
            the recipe by name, such as `min_score=0.1`, `top=3`, `cwr=False`.

    Raises:
        InputError: unusable words, recipe or settings, or an adapter that does not belong to them.
        TextTooLongError: a word that does not fit CLIP's 77 tokens.
    """

    def __init__(
        self,
        clip: Clip,
        words: Sequence[str] | None = None,
        *,
        recipe: str | os.PathLike[str] | TagRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        adapter: str | os.PathLike[str] | Adaptation | None = None,
        **settings: object,
    ) -> None:
        self.clip = clip
        self.recipe = tag_recipe(recipe, words, background, as_, settings, clip.background)
        self.adaptation = read_adaptation(adapter) if isinstance(adapter, str | os.PathLike) else adapter
        self._pipeline = tag_pipeline(clip, self.recipe, self.adaptation)
        warn_unknown_words(clip, self._pipeline.texts)

    @property
    def words(self) -> tuple[str, ...]:
        """What each class is called."""
        return self._pipeline.words

    @overload
    def __call__(self, image: ImageSource) -> Tags: ...
    @overload
    def __call__(self, image: list[Source] | tuple[Source, ...]) -> list[Tags]: ...
    def __call__(self, image: ImageSource | list[Source] | tuple[Source, ...]) -> Tags | list[Tags]:
        """Tag one image, or a list of images together.

        An image's tags do not depend on the others of the list, but for one method: "sparc" compares images,
        so without `adapt` it wants a list, and takes that for the set to compare with.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3); or a list or tuple of these.

        Raises:
            ImageError: an image that cannot be read.
            InputError: a method that looks at a set of images first, and has not (`adapt`).
        """
        if not isinstance(image, list | tuple):
            return self._chosen(self._pipeline.score(_read([image]))[0])
        return [self._chosen(scores) for scores in self._pipeline.score_set(map(_read, _grouped(image)))]

    def adapt(self, images: Iterable[ImageSource]) -> "Tagger":
        """A tagger that has looked at a set of images: "piaa" learns from them, "sparc" compares with them.

        Nobody needs to say what is in them. The result depends on the set and its order, not on how it is
        read; images are read a few at a time, so the set may be larger than memory.

        Args:
            images: paths, bytes, PIL images or arrays, in any iterable.

        Returns:
            A new tagger; this one is as it was. Keep what it learned with
            `tagmask.pipelines.adaptation.write_adaptation(tagger.adaptation, "file.safetensors")`.

        Raises:
            InputError: a method that looks at one image at a time, or too few images.
            ImageError: an image that cannot be read.
        """
        return self._with(self.recipe, self._pipeline.adapt(map(_read, _chunks(images))))

    def calibrate(
        self, images: Sequence[ImageSource], tags: Sequence[Sequence[int]], *, tagged: Sequence[Tags] = ()
    ) -> "Tagger":
        """A tagger whose words have thresholds of their own, learned from a few labelled images.

        Per word, the threshold of the greatest F1 on these images
        (`tagmask.pipelines.thresholding.best_thresholds` has the rule). Words that none or all of the images
        have keep the default. The new tagger's `recipe` holds the thresholds; keep it with
        `tagmask.settings.files.write_recipe`.

        Args:
            images: as for tagging.
            tags: of each image, the classes in it, counted from 0.
            tagged: of each image, what this tagger said of it, if that is known already.

        Raises:
            InputError: lists of different lengths, no images, or tags that name no class.
        """
        if len(images) != len(tags) or not len(images):
            raise InputError(
                f"got {len(images)} images and tags of {len(tags)}; give one list of tags an image"
            )
        truth = np.zeros((len(tags), len(self.words)), dtype=bool)
        for row, given in enumerate(tags):
            found = _one_list(given) or ()
            check_tags(found, len(self.words))
            truth[row, list(found)] = True
        scores = np.stack([each.scores for each in (tagged or self(list(images)))])
        thresholds = best_thresholds(scores, truth)
        return self._with(replace(self.recipe, thresholds=thresholds), self.adaptation)

    def _with(self, recipe: TagRecipe, learned: Adaptation | None) -> "Tagger":
        other = copy(self)
        other.recipe, other.adaptation = recipe, learned
        other._pipeline = tag_pipeline(self.clip, recipe, learned)
        return other

    def _chosen(self, scores: Float32[np.ndarray, " f"]) -> Tags:
        recipe = self.recipe
        rule = (scores, recipe.tag_tau, recipe.thresholds)
        return Tags(
            words=self.words,
            scores=scores,
            chosen=self._pipeline.choose(scores),
            threshold=tag_threshold(scores, recipe.tag_tau),
            precision=self.clip.precision,
            thresholds=tuple(thresholds_of_image(*rule).tolist()) if recipe.thresholds else None,
        )


class Segmenter:
    """Says where the words are in an image.

    Args:
        clip: from `tagmask.load`.
        words: one a class; "dog, puppy" is one class with two names.
        recipe: a paper's settings, by name or as changed by you; `words` and `background` then replace
            that recipe's names only.
        background: names of what is none of the words, which becomes label 0; [] for no background.
        as_: "published" keeps what the authors' program does where it looks unintended, "corrected" does not.
        **settings: any field of the recipe by name, such as `method="maskclip"`, `method="cls-seg"`,
            `among="tags"`, `prob_thd=0.3`, `pamr_steps=10`, `crf="cls-seg"`.

    Raises:
        InputError: unusable words, recipe or settings.
        TextTooLongError: a word that does not fit CLIP's 77 tokens.
    """

    def __init__(
        self,
        clip: Clip,
        words: Sequence[str] | None = None,
        *,
        recipe: str | MaskRecipe | TagFirstRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        **settings: object,
    ) -> None:
        self.clip = clip
        self.recipe = mask_recipe(recipe, words, background, as_, settings, clip.background)
        self._pipeline = mask_pipeline(clip, self.recipe)
        warn_unknown_words(clip, self._pipeline.texts)
        if isinstance(self.recipe, MaskRecipe):
            warn_depth(clip, self.recipe)

    @property
    def words(self) -> tuple[str, ...]:
        """What each label is called."""
        return self._pipeline.words

    @property
    def background(self) -> bool:
        """Whether label 0 is the background."""
        return self._pipeline.background

    @overload
    def __call__(
        self, image: ImageSource, *, tags: Sequence[int] | None = None, scores: bool = False
    ) -> Segmentation: ...
    @overload
    def __call__(
        self,
        image: list[Source] | tuple[Source, ...],
        *,
        tags: Sequence[Sequence[int] | None] | None = None,
        scores: bool = False,
    ) -> list[Segmentation]: ...
    def __call__(
        self,
        image: ImageSource | list[Source] | tuple[Source, ...],
        *,
        tags: object = None,
        scores: bool = False,
    ) -> Segmentation | list[Segmentation]:
        """Mask one image, or a list of images together.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3); or a list or tuple of these.
            tags: classes that are in the image, counted from 0 without the background, as in `Tags.chosen`:
                no others are looked for, and no tagger runs. For a list of images, a list of these.
            scores: also keep every class's score at every pixel, float32 (classes, h, w).

        Raises:
            ImageError: an image that cannot be read.
            InputError: tags that are repeated or name no class; or none, where the recipe has no tagger.
        """
        if not isinstance(image, list | tuple):
            return self._mask([image], [_one_list(tags)], scores)[0]
        lists = _lists(tags, len(image))
        groups = zip(_grouped(image), _grouped(lists), strict=True)
        return [found for group, known in groups for found in self._mask(group, known, scores)]

    def compare(
        self,
        image: ImageSource,
        methods: Sequence[str],
        *,
        tags: Sequence[int] | None = None,
        scores: bool = False,
    ) -> dict[str, Segmentation]:
        """Mask one image under several methods, which share one pass through all blocks but the last.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3).
            methods: names from `tagmask.methods()` that compare words with pixels. Sizes, windows,
                thresholds and words stay this segmenter's; a method's own numbers are those of its recipe
                for the same data set, if it has one.
            tags: as in a call.
            scores: as in a call.

        Returns:
            For each method what a segmenter with `method=` set to it would give.

        Raises:
            InputError: a method that is unknown or masks tags, or a segmenter that does.
        """
        own = self._pipeline
        if not isinstance(own, DensePipeline):
            raise InputError(
                f"{self.recipe.name} masks tags and has no last block to vary; compare with a recipe such as "
                "sclip/voc21"
            )
        recipes = [with_method(own.recipe, method) for method in methods]
        ignore_index = ignore_index_for(len(self.words))
        (found,) = own.compared([read_image(image)], [_one_list(tags)], ignore_index, scores, recipes)
        return {method: self._result(masked) for method, masked in zip(methods, found, strict=True)}

    def _mask(
        self, sources: Sequence[ImageSource], tags: Sequence[Sequence[int] | None], keep_scores: bool
    ) -> list[Segmentation]:
        ignore_index = ignore_index_for(len(self.words))
        found = self._pipeline([read_image(source) for source in sources], tags, ignore_index, keep_scores)
        return [self._result(masked) for masked in found]

    def _result(self, masked: LabelledImage) -> Segmentation:
        dtype = np.uint8 if ignore_index_for(len(self.words)) == 255 else np.uint16
        return Segmentation(
            words=self.words,
            labels=masked.labels.astype(dtype),
            scores=masked.scores,
            background=self._pipeline.background,
            precision=self.clip.precision,
            tags=masked.tags,
        )


def _one_list(tags: object) -> Sequence[int] | None:
    """Tags of one image, as plain numbers (NumPy's are taken too)."""
    if tags is None:
        return None
    if isinstance(tags, str) or not isinstance(tags, Iterable) or getattr(tags, "ndim", 1) != 1:
        raise InputError(f"tags are {tags!r}; give a list of class numbers, as in tags=[0, 5]")
    numbers: list[int] = []
    for tag in tags:
        if isinstance(tag, bool) or not isinstance(tag, int | np.integer):
            raise InputError(f"tags hold {tag!r}; give class numbers, as in tags=[0, 5]")
        numbers.append(int(tag))
    return numbers


def _lists(tags: object, images: int) -> Sequence[Sequence[int] | None]:
    if tags is None:
        return [None] * images
    if isinstance(tags, str) or not isinstance(tags, Sequence) or len(tags) != images:
        raise InputError(
            f"tags of {images} images are {tags!r}; give one list an image, as in tags=[[0, 5], [2]]"
        )
    return [_one_list(each) for each in tags]


def _read(sources: Iterable[ImageSource]) -> Images:
    return [read_image(source) for source in sources]


def _chunks(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    left = iter(items)
    while chunk := list(islice(left, _IMAGES_TOGETHER)):
        yield chunk


def _grouped(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _IMAGES_TOGETHER] for start in range(0, len(items), _IMAGES_TOGETHER)]
