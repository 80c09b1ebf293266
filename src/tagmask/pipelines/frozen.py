"""An image's frozen features, kept to mask it again with other words or settings."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32

from tagmask.clip.load import Clip
from tagmask.dense.frozen_windows import FrozenWindows
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.pipelines.background_choice import with_chosen_background
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.frozen_files import encode_features, read_features
from tagmask.pipelines.given_tags import tag_list
from tagmask.pipelines.head import Head, feature_settings
from tagmask.pipelines.labelled import MaskPipeline, to_segmentation
from tagmask.resolve import mask_recipe
from tagmask.results import Segmentation, ignore_index_for
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.settings.refinement import expand_names
from tagmask.types import Image

__all__ = ["Frozen", "RecipeArguments"]

_PURIFIES = (
    "Purification needs the attention of all layers, which is not kept. Mask the image with a Segmenter."
)


@dataclass(frozen=True, eq=False)
class RecipeArguments:
    """What a user asked a `Segmenter` for."""

    recipe: str | MaskRecipe | TagFirstRecipe | None
    words: Sequence[str] | None
    background: Sequence[str] | None
    as_: str | None
    settings: Mapping[str, object]

    def resolve(
        self,
        clip: Clip,
        words: Sequence[str] | None = None,
        background: Sequence[str] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> MaskRecipe | TagFirstRecipe:
        """Return the recipe, with other words, background or settings than at first where they are given."""
        background = self.background if background is None else background
        resolved = mask_recipe(
            self.recipe,
            self.words if words is None else words,
            background,
            self.as_,
            {**expand_names(self.settings), **expand_names(settings)},
            clip.background,
        )
        return with_chosen_background(clip, resolved, background)


@dataclass(frozen=True, eq=False)
class Frozen:
    """One image, past the frozen tower; call it to mask the image. Made by `Segmenter.freeze`.

    A call gives what a new `Segmenter` with its words and settings would give, bit for bit in float32. It
    does not run the tower: it compares with the words, refines and applies the thresholds. Methods whose last
    block reads the words keep the features before it, and run that block again.

    Example:
        >>> import tagmask
        >>> from tagmask.miniature.evaluation_scenes import unseen_scene
        >>> segmenter = tagmask.Segmenter(tagmask.load("miniature"), words=["cat", "fish", "car", "boat"])
        >>> frozen = segmenter.freeze(unseen_scene(1).image)
        >>> frozen().words, frozen(words=["fish", "tree"], prob_thd=0.3).words
        (('background', 'cat', 'fish', 'car', 'boat'), ('background', 'fish', 'tree'))
    """

    image: Image = field(repr=False)
    """Upright RGB."""
    clip: Clip = field(repr=False)
    _arguments: RecipeArguments = field(repr=False)
    _pipeline: DensePipeline = field(repr=False)
    _head: Head | None = field(repr=False)
    _windows: FrozenWindows = field(repr=False)
    is_stored: bool = False
    """Whether the features were read from a file, which holds them in float16."""

    @classmethod
    def of(
        cls,
        clip: Clip,
        arguments: RecipeArguments,
        pipeline: MaskPipeline,
        head: Head | None,
        image: Image,
        file: str | os.PathLike[str] | None = None,
    ) -> "Frozen":
        """Run the tower on an image, or read what it gave from a file.

        Args:
            clip: the frozen model.
            arguments: from which the pipeline's recipe was resolved.
            pipeline: of a dense method.
            head: that the pipeline uses.
            image: upright RGB.
            file: that `save` wrote. It is not used if it is absent, damaged, or of another image or other
                features.

        Raises:
            InputError: the method masks tags.
        """
        if not isinstance(pipeline, DensePipeline):
            raise InputError(
                "A method that masks tags keeps no features to compare with words. Give a dense method."
            )
        if pipeline.recipe.purifies:
            raise InputError(_PURIFIES)
        stored = None if file is None else read_features(file, clip, pipeline.recipe, image)
        if stored is not None:
            with suppress(ValueError):
                windows = pipeline.freeze(image, stored)
                return cls(image, clip, arguments, pipeline, head, windows, is_stored=True)
        return cls(image, clip, arguments, pipeline, head, pipeline.freeze(image))

    @property
    def nbytes(self) -> int:
        """Memory that it holds, in bytes: the features and the image."""
        return self._windows.nbytes + self.image.nbytes

    def encode(self) -> bytes:
        """Return the content of a file with the features, in float16; `Segmenter.freeze` reads it.

        Raises:
            InputError: a feature is too large for float16.
        """
        return encode_features(self.clip, self._pipeline.recipe, self.image, self._windows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the features to a file, for `segmenter.freeze(image, file=path)`.

        Raises:
            InputError: a feature is too large for float16.
            OutputError: the file cannot be written.
        """
        write_bytes(path, self.encode())

    def __call__(
        self,
        words: Sequence[str] | None = None,
        *,
        background: Sequence[str] | None = None,
        tags: Sequence[int] | None = None,
        scores: bool = False,
        confidence: bool = False,
        **settings: object,
    ) -> Segmentation:
        """Mask the image.

        Args:
            words: one text per class; None: those of the segmenter.
            background: background texts; None: as the segmenter chose them.
            tags: as in a call of a `Segmenter`.
            scores: also return the score of every class at every pixel.
            confidence: also return how sure each class is.
            **settings: of the recipe, such as `prob_thd=0.3` or `pamr_steps=10`. Those that decide the
                features, such as `method` and `short_side`, cannot change.

        Raises:
            InputError: unusable words or settings, or settings that need other features; or the segmenter has
                a head, which is for its words only.
        """
        pipeline = self._pipeline
        if words is not None or background is not None or settings:
            recipe = self._arguments.resolve(self.clip, words, background, settings)
            if recipe != pipeline.recipe:
                pipeline = DensePipeline(self.clip, self._checked(recipe), head=self._head)
        ignore_index = ignore_index_for(len(pipeline.words))
        result = pipeline.label_frozen(
            self.image, self._windows, tag_list(tags), ignore_index, scores, confidence
        )
        return to_segmentation(result, pipeline, self.clip.lowest_precision)

    def margins(self) -> Float32[np.ndarray, "h w"]:
        """Return the score of the best class less that of the next, 0..1, before a CRF; 1 with one class."""
        return self._pipeline.frozen_margins(self._windows)

    def without_head(self) -> "Frozen":
        """The same features without the segmenter's head, to mask the image with other words."""
        if self._head is None:
            return self
        pipeline = DensePipeline(self.clip, self._pipeline.recipe)
        return replace(self, _pipeline=pipeline, _head=None)

    def _checked(self, recipe: MaskRecipe | TagFirstRecipe) -> MaskRecipe:
        if not isinstance(recipe, MaskRecipe):
            raise InputError(f"The features were kept for {self._pipeline.recipe.method}. Freeze again.")
        if recipe.purifies:
            raise InputError(_PURIFIES)
        kept, needed = feature_settings(self._pipeline.recipe), feature_settings(recipe)
        differ = [name for name in needed if needed[name] != kept.get(name)]
        if differ:
            raise InputError(
                f"The features were kept for another {differ[0]}: {kept.get(differ[0])}, not "
                f"{needed[differ[0]]}. Freeze the image again with it."
            )
        return recipe
