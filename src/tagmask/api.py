"""The two objects that users call with images: `Segmenter`, and `Tagger` of its own file.

Both take a frozen CLIP and words once, encode the words once, and are then called with images.
"""

import os
from collections.abc import Sequence
from typing import overload

from tagmask.clip.load import Clip, as_clip
from tagmask.engines import with_engine
from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image
from tagmask.pipelines import describe, mask_pipeline
from tagmask.pipelines.batching import batches
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.frozen import Frozen, RecipeArguments
from tagmask.pipelines.given_tags import tag_list, tag_lists
from tagmask.pipelines.head import Head, read_head
from tagmask.pipelines.labelled import to_segmentation
from tagmask.pipelines.warnings import warn_depth, warn_words
from tagmask.proposals.given import ProposalsLike, proposals_of_each, read_given
from tagmask.resolve import with_method
from tagmask.results import Segmentation, ignore_index_for, named
from tagmask.settings.engine import EngineSettings, engine_settings
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.tagger import Source, Tagger, read_images

__all__ = ["Segmenter", "Tagger"]


class Segmenter:
    """Mask images: find which pixels belong to which of your words.

    The default method is SCLIP. Give `words`, a `recipe`, or both.

    Args:
        clip: the frozen model, from `tagmask.load`; or the name or path of weights, as `load` takes it.
        words: one text per class. Several names of one class are separated by a comma and a space:
            "dog, puppy" is one class, called "dog".
        recipe: settings of a paper's table, such as "sclip/voc21": a name from `tagmask.recipes()`, or a
            recipe object. With a recipe, `words` and `background` replace its names only.
        background: texts for everything that matches no word, such as "wall" or "sky". Their pixels get
            label 0, "background"; the words follow from label 1. [] for no background: labels then start
            with the first word at 0. "auto" for 64 texts that are chosen to be unlike the words. Default: the
            recipe's; without a recipe, the list in the weights file or a built-in one.
        as_: "published" reproduces the authors' program, including its apparent bugs; "corrected" turns
            those off; "printed" takes TagCLIP's formulas from its paper. Default: the recipe's choice.
        descriptions: sentences for each word, or unit features (words, width), for `purify` to decide between
            words that share a region. Default: the words' own features.
        head: what a few corrected masks taught, or its file, which `tagmask improve` writes. For dense
            methods, with the words, weights and settings it was fitted with; scores may then leave 0..1.
        **settings: `method=` selects another mask method of `tagmask.methods()`, such as "maskclip" or
            "cls-seg". Every other keyword sets the recipe field of that name: `among="tags"` (only the words
            that a tagger finds compete), `threshold=0.3` (pixels whose best probability, 0..1, is lower are
            background: the field `prob_thd`), `refine="tlp"` (refinement along the image's edges: "none",
            "pamr", "tlp" or "crf"), `pamr_steps=10` (rounds of PAMR), `crf="cls-seg"` (a dense CRF at the
            end), `purify=True` (drop words of which there is no trace).

    Attributes:
        clip: the model, with the engine.
        recipe: the recipe in use, with every setting.
        descriptions: the descriptions in use; None for the words' own features.
        head: the head in use, if any.

    Raises:
        InputError: unusable words, recipe or settings, a head for others, or an engine that cannot be used.
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
        clip: Clip | str | os.PathLike[str],
        words: Sequence[str] | None = None,
        *,
        recipe: str | MaskRecipe | TagFirstRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        descriptions: object = None,
        head: str | os.PathLike[str] | Head | None = None,
        engine: str | EngineSettings | None = None,
        **settings: object,
    ) -> None:
        chosen, clip = engine_settings(engine), as_clip(clip)
        self._arguments = RecipeArguments(recipe, words, background, as_, settings)
        self.recipe = self._arguments.resolve(clip)
        self.clip = clip = with_engine(clip, chosen, self.recipe)
        self.descriptions = describe(clip, self.recipe, descriptions)
        self.head = read_head(head) if isinstance(head, str | os.PathLike) else head
        self._pipeline = mask_pipeline(clip, self.recipe, self.descriptions, self.head)
        warn_words(clip, self.recipe, self._pipeline, own=words is not None)
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
        proposals: ProposalsLike | None = None,
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
        proposals: Sequence[ProposalsLike | None] | None = None,
    ) -> list[Segmentation]: ...
    def __call__(
        self,
        image: ImageSource | list[Source] | tuple[Source, ...],
        *,
        tags: object = None,
        scores: bool = False,
        confidence: bool = False,
        cams: bool = False,
        proposals: object = None,
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
            proposals: regions of another program, each of which gets the class of its mean scores: a file
                (`tagmask.proposals.files`), a boolean array (n, h, w), an index map (h, w), or a list of COCO
                annotations or of what SAM's mask generator gives. For a list of images, one of these or None
                per image. `scores` stay those of the pixels.

        Returns:
            The masks of the image, at its own size; for a list or tuple, a list in the same order.

        Raises:
            ImageError: an image cannot be read.
            InputError: a tag is repeated or is no class; the recipe needs tags and none are given; the
                method has no activation maps; or proposals that do not fit the image.
        """
        if cams and not isinstance(self.recipe, TagFirstRecipe):
            raise InputError(f"{self.recipe.name} has no activation maps. Give method='cls-seg'.")
        if not isinstance(image, list | tuple):
            return self._mask([image], [tag_list(tags)], scores, confidence, cams, [proposals])[0]
        lists, regions = tag_lists(tags, len(image)), proposals_of_each(proposals, len(image))
        groups = zip(batches(image), batches(lists), batches(regions), strict=True)
        results = (
            self._mask(sources, given, scores, confidence, cams, each) for sources, given, each in groups
        )
        return [segmentation for batch in results for segmentation in batch]

    def __repr__(self) -> str:
        return f"Segmenter({self.recipe.name}: {named(self.words)})"

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
        segmentations = (to_segmentation(result, pipeline, self.clip.lowest_precision) for result in results)
        return dict(zip(methods, segmentations, strict=True))

    def freeze(self, image: ImageSource, *, file: str | os.PathLike[str] | None = None) -> Frozen:
        """Keep an image's frozen features, to mask it again: `frozen(words=["cat", "dog"], prob_thd=0.3)`.

        Args:
            image: as in a call.
            file: features that `Frozen.save` wrote; the tower does not run then. A file that is absent,
                damaged, or of another image, other weights or other settings is not used.

        Raises:
            InputError: the method masks tags.
            ImageError: the image cannot be read.
        """
        return Frozen.of(self.clip, self._arguments, self._pipeline, self.head, read_image(image), file)

    def _mask(
        self,
        sources: Sequence[ImageSource],
        tags: Sequence[Sequence[int] | None],
        keep_scores: bool,
        confidence: bool,
        cams: bool,
        proposals: Sequence[object],
    ) -> list[Segmentation]:
        ignore_index = ignore_index_for(len(self.words))
        images = read_images(sources)
        regions = [read_given(each, image) for each, image in zip(proposals, images, strict=True)]
        results = self._pipeline(images, tags, ignore_index, keep_scores, confidence, regions)
        return [
            to_segmentation(result, self._pipeline, self.clip.lowest_precision, cams=cams)
            for result in results
        ]
