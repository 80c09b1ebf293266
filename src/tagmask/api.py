"""The two objects that users call with images: `Tagger` and `Segmenter`.

Both take a frozen CLIP and words once, encode the words once, and are then called with images.
"""

import os
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import TypeVar, overload

import numpy as np
from jaxtyping import Float32

from tagmask.clip.finite import check_computed
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image
from tagmask.papers.clip_es import check_tags
from tagmask.pipelines import mask_pipeline, tag_pipeline
from tagmask.pipelines.adaptation import Adaptation, read_adaptation
from tagmask.pipelines.batching import batches, stream_batches
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.frozen import Frozen, RecipeArguments
from tagmask.pipelines.given_tags import tag_list, tag_lists
from tagmask.pipelines.head import Head, read_head
from tagmask.pipelines.labelled import to_segmentation
from tagmask.pipelines.thresholding import best_thresholds, tag_threshold, thresholds_of_image
from tagmask.pipelines.warnings import warn_depth, warn_unknown_words
from tagmask.resolve import tag_recipe, with_method
from tagmask.results import Segmentation, Tags, ignore_index_for
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe
from tagmask.types import Images

__all__ = ["Segmenter", "Tagger"]

Source = TypeVar("Source", bound=ImageSource)


class Tagger:
    """Tag images: find which of your words are in each image.

    The default method is TagCLIP. Give `words`, a `recipe`, or both.

    Args:
        clip: the frozen model, from `tagmask.load`.
        words: one text per class. Several names of one class are separated by a comma and a space:
            "dog, puppy" is one class, called "dog", with the score of its better name.
        recipe: settings of a paper's table, such as "tagclip/voc2012": a name from `tagmask.recipes()`, a
            `.toml` file, or a recipe object. With a recipe, `words` and `background` replace its names only.
        background: texts that compete with the words and never become tags, such as "wall" or "sky"; [] for
            none. Default: the recipe's; without a recipe, the list in the weights file or a built-in one,
            for methods that use background texts.
        as_: "published" reproduces the authors' program, including its apparent bugs; "corrected" turns
            those off; "printed" takes TagCLIP's formulas from its paper. Default: the recipe's choice.
        adapter: what another tagger of the same method learned from images (`Tagger.adaptation`), or the
            file it was saved in.
        **settings: `method=` selects another tagging method of `tagmask.methods()`, such as "clip-softmax".
            Every other keyword sets the recipe field of that name: `min_score=0.1` (lowest score of a tag),
            `top=3` (at most 3 tags), `tag_tau=0.5` (relative threshold, 0..1), `cwr=False`.

    Attributes:
        clip: the model given.
        recipe: the recipe in use, with every setting.
        adaptation: what the tagger learned from a set of images; None if nothing.

    Raises:
        InputError: unusable words, recipe or settings, or an adapter for another method, words or weights.
        TextTooLongError: a word longer than CLIP's context of 77 tokens.

    Example:
        >>> import tagmask
        >>> from tagmask.miniature.evaluation_scenes import unseen_scene
        >>> tagger = tagmask.Tagger(tagmask.load("miniature"), words=["cat", "fish", "car", "boat"])
        >>> tags = tagger(unseen_scene(1).image)
        >>> tags.names, tags.chosen, tags.scores.shape
        (('fish',), (1,), (4,))
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
        """The name of each class, in the order of `Tags.scores`."""
        return self._pipeline.words

    @overload
    def __call__(self, image: ImageSource) -> Tags: ...
    @overload
    def __call__(self, image: list[Source] | tuple[Source, ...]) -> list[Tags]: ...
    def __call__(self, image: ImageSource | list[Source] | tuple[Source, ...]) -> Tags | list[Tags]:
        """Tag one image, or a list of images in batches.

        An image's tags do not depend on the rest of the list, except with "sparc": unless adapted (`adapt`),
        it needs a list and compares the images of that list with each other.

        Args:
            image: a path, encoded bytes, a PIL image, or an RGB uint8 array (h, w, 3); or a list or tuple of
                these. Images may differ in size.

        Returns:
            The tags of the image; for a list or tuple, a list of tags in the same order.

        Raises:
            ImageError: an image cannot be read.
            InputError: the method must first see a set of images; call `adapt`.
        """
        if not isinstance(image, list | tuple):
            return self._to_tags(self._pipeline.score(_read([image]))[0])
        return [self._to_tags(scores) for scores in self._pipeline.score_set(map(_read, batches(image)))]

    def adapt(self, images: Iterable[ImageSource]) -> "Tagger":
        """Return a tagger adapted to a set of unlabelled images.

        Only for methods that need it: "piaa" learns an adapter, "sparc" collects score statistics. The result
        depends on the order of the images. They are read in batches, so the set may be larger than memory.

        Args:
            images: paths, encoded bytes, PIL images or RGB uint8 arrays (h, w, 3), in any iterable.

        Returns:
            A new tagger; this one is unchanged. Save what it learned with
            `tagmask.pipelines.adaptation.write_adaptation(tagger.adaptation, "file.safetensors")`.

        Raises:
            InputError: the method scores each image on its own, or there are too few images.
            ImageError: an image cannot be read.
        """
        return self._replaced(self.recipe, self._pipeline.adapt(map(_read, stream_batches(images))))

    def calibrate(
        self, images: Sequence[ImageSource], tags: Sequence[Sequence[int]], *, tagged: Sequence[Tags] = ()
    ) -> "Tagger":
        """Return a tagger with one threshold per word, learned from a few labelled images.

        Each word gets the threshold with the best F1 score on these images (`best_thresholds` defines it).
        Words that occur in no image or in every image keep the recipe's relative threshold.

        Args:
            images: labelled images, each as in a call.
            tags: for each image, its ground-truth classes: numbers from 0, as in `Tags.chosen`.
            tagged: for each image, this tagger's result, if you have it already.

        Returns:
            A new tagger; this one is unchanged. Its `recipe` holds the thresholds; save it with
            `tagmask.settings.files.write_recipe`.

        Raises:
            InputError: lists of different lengths, no images, or tags that are no class numbers.
            ImageError: an image cannot be read.
        """
        if len(images) != len(tags) or not len(images):
            raise InputError(
                f"Got {len(images)} images and {len(tags)} lists of tags. Give one list of tags per image."
            )
        truth = np.zeros((len(tags), len(self.words)), dtype=bool)
        for row, given in enumerate(tags):
            classes = tag_list(given) or ()
            check_tags(classes, len(self.words))
            truth[row, list(classes)] = True
        scores = np.stack([each.scores for each in (tagged or self(list(images)))])
        thresholds = best_thresholds(scores, truth)
        return self._replaced(replace(self.recipe, thresholds=thresholds), self.adaptation)

    def _replaced(self, recipe: TagRecipe, adaptation: Adaptation | None) -> "Tagger":
        tagger = copy(self)
        tagger.recipe, tagger.adaptation = recipe, adaptation
        tagger._pipeline = tag_pipeline(self.clip, recipe, adaptation)
        return tagger

    def _to_tags(self, scores: Float32[np.ndarray, " f"]) -> Tags:
        check_computed(scores, "The scores")
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
    """Mask images: find which pixels belong to which of your words.

    The default method is SCLIP. Give `words`, a `recipe`, or both.

    Args:
        clip: the frozen model, from `tagmask.load`.
        words: one text per class. Several names of one class are separated by a comma and a space:
            "dog, puppy" is one class, called "dog".
        recipe: settings of a paper's table, such as "sclip/voc21": a name from `tagmask.recipes()`, or a
            recipe object. With a recipe, `words` and `background` replace its names only.
        background: texts for everything that matches no word, such as "wall" or "sky". Their pixels get
            label 0, "background"; the words follow from label 1. [] for no background: labels then start
            with the first word at 0. Default: the recipe's; without a recipe, the list in the weights file or
            a built-in one.
        as_: "published" reproduces the authors' program, including its apparent bugs; "corrected" turns
            those off; "printed" takes TagCLIP's formulas from its paper. Default: the recipe's choice.
        head: what a few corrected masks taught, or its file, which `tagmask improve` writes. For dense
            methods, with the words, weights and settings it was fitted with; scores may then leave 0..1.
        **settings: `method=` selects another mask method of `tagmask.methods()`, such as "maskclip" or
            "cls-seg". Every other keyword sets the recipe field of that name: `among="tags"` (only the words
            that a tagger finds compete), `prob_thd=0.3` (pixels whose best probability, 0..1, is lower are
            background), `pamr_steps=10` (rounds of refinement), `crf="cls-seg"` (a dense CRF at the end).

    Attributes:
        clip: the model given.
        recipe: the recipe in use, with every setting.
        head: the head in use, if any.

    Raises:
        InputError: unusable words, recipe or settings, or a head for others.
        TextTooLongError: a word longer than CLIP's context of 77 tokens.

    Example:
        >>> import tagmask
        >>> from tagmask.miniature.evaluation_scenes import unseen_scene
        >>> segmenter = tagmask.Segmenter(tagmask.load("miniature"), words=["cat", "fish", "car", "boat"])
        >>> seg = segmenter(unseen_scene(1).image)
        >>> seg.words
        ('background', 'cat', 'fish', 'car', 'boat')
        >>> seg.labels.shape, list(seg.shares())[:2]
        ((320, 240), ['background', 'fish'])
    """

    def __init__(
        self,
        clip: Clip,
        words: Sequence[str] | None = None,
        *,
        recipe: str | MaskRecipe | TagFirstRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        head: str | os.PathLike[str] | Head | None = None,
        **settings: object,
    ) -> None:
        self.clip = clip
        self._arguments = RecipeArguments(recipe, words, background, as_, settings)
        self.recipe = self._arguments.resolve(clip)
        self.head = read_head(head) if isinstance(head, str | os.PathLike) else head
        self._pipeline = mask_pipeline(clip, self.recipe, self.head)
        warn_unknown_words(clip, self._pipeline.texts)
        if isinstance(self.recipe, MaskRecipe):
            warn_depth(clip, self.recipe)

    @property
    def words(self) -> tuple[str, ...]:
        """The name of each label; "background" first if there is one."""
        return self._pipeline.words

    @property
    def background(self) -> bool:
        """Whether label 0 is the background."""
        return self._pipeline.background

    @overload
    def __call__(
        self,
        image: ImageSource,
        *,
        tags: Sequence[int] | None = None,
        scores: bool = False,
        confidence: bool = False,
        cams: bool = False,
    ) -> Segmentation: ...
    @overload
    def __call__(
        self,
        image: list[Source] | tuple[Source, ...],
        *,
        tags: Sequence[Sequence[int] | None] | None = None,
        scores: bool = False,
        confidence: bool = False,
        cams: bool = False,
    ) -> list[Segmentation]: ...
    def __call__(
        self,
        image: ImageSource | list[Source] | tuple[Source, ...],
        *,
        tags: object = None,
        scores: bool = False,
        confidence: bool = False,
        cams: bool = False,
    ) -> Segmentation | list[Segmentation]:
        """Mask one image, or a list of images in batches.

        Args:
            image: a path, encoded bytes, a PIL image, or an RGB uint8 array (h, w, 3); or a list or tuple of
                these. Images may differ in size.
            tags: the classes in the image, counted from 0 without the background, as in `Tags.chosen`; no
                others are candidates, and no tagger runs. For a list of images, one such list per image.
            scores: also return the score of every class at every pixel, float32 (classes, h, w).
            confidence: also return how sure each class is: `Segmentation.confidence` and
                `Segmentation.class_confidence`.
            cams: also return the activation maps of the tags, float16 (tags, h, w): `Segmentation.cams`. Only
                for methods that mask tags, such as "cls-seg".

        Returns:
            The masks of the image, at its own size; for a list or tuple, a list in the same order.

        Raises:
            ImageError: an image cannot be read.
            InputError: a tag is repeated or is no class; the recipe needs tags and none are given; or the
                method has no activation maps.
        """
        if cams and not isinstance(self.recipe, TagFirstRecipe):
            raise InputError(f"{self.recipe.name} has no activation maps. Give method='cls-seg'.")
        if not isinstance(image, list | tuple):
            return self._mask([image], [tag_list(tags)], scores, confidence, cams)[0]
        lists = tag_lists(tags, len(image))
        groups = zip(batches(image), batches(lists), strict=True)
        return [
            seg for sources, given in groups for seg in self._mask(sources, given, scores, confidence, cams)
        ]

    def compare(
        self,
        image: ImageSource,
        methods: Sequence[str],
        *,
        tags: Sequence[int] | None = None,
        scores: bool = False,
    ) -> dict[str, Segmentation]:
        """Mask one image with several dense methods in one forward pass.

        The methods share all blocks of the image tower but the last.

        Args:
            image: a path, encoded bytes, a PIL image, or an RGB uint8 array (h, w, 3).
            methods: dense methods of `tagmask.methods()`: those that compare words with every pixel. Words,
                image size, windows and thresholds stay this segmenter's; each method's own settings are
                those of its recipe for the same data set, else its defaults.
            tags: as in a call.
            scores: as in a call.

        Returns:
            For each method, the result of a segmenter with `method=` set to it.

        Raises:
            InputError: a method is unknown or not dense, or this segmenter's method is not dense.
            ImageError: the image cannot be read.
        """
        pipeline = self._pipeline
        if not isinstance(pipeline, DensePipeline):
            raise InputError(
                f"{self.recipe.name} masks tags and has no last block to vary. "
                "Compare methods with a dense recipe, such as sclip/voc21."
            )
        if self.head is not None:
            raise InputError("A head corrects one method. Compare methods without it.")
        recipes = [with_method(pipeline.recipe, method) for method in methods]
        ignore_index = ignore_index_for(len(self.words))
        (results,) = pipeline.compare([read_image(image)], [tag_list(tags)], ignore_index, scores, recipes)
        segmentations = (to_segmentation(result, pipeline, self.clip.precision) for result in results)
        return dict(zip(methods, segmentations, strict=True))

    def freeze(self, image: ImageSource) -> Frozen:
        """Keep an image's frozen features, to mask it again: `frozen(words=["cat", "dog"], prob_thd=0.3)`.

        Raises:
            InputError: the method masks tags.
            ImageError: the image cannot be read.
        """
        return Frozen.of(self.clip, self._arguments, self._pipeline, self.head, read_image(image))

    def _mask(
        self,
        sources: Sequence[ImageSource],
        tags: Sequence[Sequence[int] | None],
        keep_scores: bool,
        confidence: bool,
        cams: bool,
    ) -> list[Segmentation]:
        ignore_index = ignore_index_for(len(self.words))
        images = [read_image(source) for source in sources]
        results = self._pipeline(images, tags, ignore_index, keep_scores, confidence)
        return [to_segmentation(result, self._pipeline, self.clip.precision, cams=cams) for result in results]


def _read(sources: Iterable[ImageSource]) -> Images:
    return [read_image(source) for source in sources]
