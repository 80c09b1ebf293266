"""`Tagger`: which of your words are in an image."""

import os
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import TypeVar, overload

import numpy as np
from jaxtyping import Float32

from tagmask.clip.finite import check_computed
from tagmask.clip.load import Clip, as_clip
from tagmask.engines import with_engine
from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image
from tagmask.papers.clip_es import check_tags
from tagmask.pipelines import tag_pipeline
from tagmask.pipelines.adaptation import Adaptation, read_adaptation
from tagmask.pipelines.background_choice import with_chosen_background
from tagmask.pipelines.batching import batches, stream_batches
from tagmask.pipelines.given_tags import tag_list
from tagmask.pipelines.thresholding import best_thresholds
from tagmask.pipelines.warnings import warn_words
from tagmask.resolve import tag_recipe
from tagmask.results import Tags, named
from tagmask.settings.engine import EngineSettings, engine_settings
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Images

__all__ = ["Source", "Tagger", "read_images"]

Source = TypeVar("Source", bound=ImageSource)
"""One of the forms in which an image is given, the same for a whole list."""


class Tagger:
    """Tag images: find which of your words are in each image.

    The default method is TagCLIP. Give `words`, a `recipe`, or both.

    Args:
        clip: the frozen model, from `tagmask.load`; or the name or path of weights, as `load` takes it.
        words: one text per class. Several names of one class are separated by a comma and a space:
            "dog, puppy" is one class, called "dog", with the score of its better name.
        recipe: settings of a paper's table, such as "tagclip/voc2012": a name from `tagmask.recipes()`, a
            `.toml` file, or a recipe object. With a recipe, `words` and `background` replace its names only.
        background: texts that compete with the words and never become tags, such as "wall" or "sky"; [] for
            none; "auto" for 64 that are chosen to be unlike the words. Default: the recipe's; without a
            recipe, the list in the weights file or a built-in one, for methods that use background texts.
        as_: "published" reproduces the authors' program, including its apparent bugs; "corrected" turns
            those off; "printed" takes TagCLIP's formulas from its paper. Default: the recipe's choice.
        adapter: what another tagger of the same method learned from images (`Tagger.adaptation`), or the
            file it was saved in.
        engine: what runs the first blocks of the image tower, as for a `Segmenter`. Default: that of `clip`.
        **settings: `method=` selects another tagging method of `tagmask.methods()`, such as "clip-softmax".
            Every other keyword sets the recipe field of that name: `min_score=0.1` (lowest score of a tag),
            `top=3` (at most 3 tags), `tag_tau=0.5` (relative threshold, 0..1), `cwr=False`.

    Attributes:
        clip: the model, with the engine.
        recipe: the recipe in use, with every setting.
        adaptation: what the tagger learned from a set of images; None if nothing.

    Raises:
        InputError: unusable words, recipe or settings, an adapter for another method, words or weights, or an
            engine that cannot be used.
        TextTooLongError: a word longer than CLIP's context of 77 tokens.

    Example:
        >>> import tagmask
        >>> from tagmask.miniature.evaluation_scenes import unseen_scene
        >>> tagger = tagmask.Tagger(tagmask.load("miniature"), words=["cat", "hat", "car", "chair"])
        >>> tags = tagger(unseen_scene(2).image)
        >>> tags.names, tags.chosen, tags.scores.shape
        (('hat', 'chair'), (1, 3), (4,))
    """

    def __init__(
        self,
        clip: Clip | str | os.PathLike[str],
        words: Sequence[str] | None = None,
        *,
        recipe: str | os.PathLike[str] | TagRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        adapter: str | os.PathLike[str] | Adaptation | None = None,
        engine: str | EngineSettings | None = None,
        **settings: object,
    ) -> None:
        chosen, clip = engine_settings(engine), as_clip(clip)
        resolved = tag_recipe(recipe, words, background, as_, settings, clip.background)
        self.recipe = with_chosen_background(clip, resolved, background)
        self.clip = clip = with_engine(clip, chosen, self.recipe)
        self.adaptation = read_adaptation(adapter) if isinstance(adapter, str | os.PathLike) else adapter
        self._pipeline = tag_pipeline(clip, self.recipe, self.adaptation)
        warn_words(clip, self.recipe, self._pipeline, own=words is not None)

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
            return self._to_tags(self._pipeline.score([read_image(image)])[0])
        return [
            self._to_tags(scores) for scores in self._pipeline.score_set(map(read_images, batches(image)))
        ]

    def __repr__(self) -> str:
        return f"Tagger({self.recipe.name}: {named(self.words)})"

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
        return self._replaced(self.recipe, self._pipeline.adapt(map(read_images, stream_batches(images))))

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
        least = self._pipeline.least_score(scores)
        learned = [least if threshold is None else threshold for threshold in self.recipe.thresholds]
        return Tags(
            words=self.words,
            scores=scores,
            chosen=self._pipeline.choose(scores),
            threshold=least,
            precision=self.clip.lowest_precision,
            thresholds=tuple(np.array(learned, np.float32).tolist()) or None,
        )


def read_images(sources: Iterable[ImageSource]) -> Images:
    """Read a batch of images."""
    return [read_image(source) for source in sources]
