"""Load once, call with images: `Tagger` and `Segmenter`."""

import logging
from collections.abc import Iterable, Sequence
from typing import TypeVar, overload

import numpy as np

from tagmask.checks import check_choice
from tagmask.clip.load import Clip
from tagmask.dense.features import Keep
from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image
from tagmask.maskers import DenseMasker, Masked, TagSource, masker
from tagmask.papers.tagclip import tag_cut
from tagmask.results import Segmentation, Tags, nothing_label
from tagmask.settings.kinds import MaskRecipe, TagMaskRecipe, TagRecipe
from tagmask.settings.lookup import mask_recipe, tag_recipe, with_method
from tagmask.variants.catalogue import METHODS, dense_rule

__all__ = ["Segmenter", "Tagger", "methods"]

_IMAGES_TOGETHER = 8
_USUAL_LAYERS = 12

_LOG = logging.getLogger(__name__)

Source = TypeVar("Source", bound=ImageSource)
Item = TypeVar("Item")


def methods() -> dict[str, str]:
    """Every method by name, with a line on what it does and where it comes from."""
    dense = {name: f"{method.summary} ({method.source})" for name, method in METHODS.items()}
    return {
        **dense,
        "cls-seg": "tags, then a mask of each by Grad-CAM and affinity (CLS-SEG, in TagCLIP, Lin et al., "
        "AAAI 2024, with CLIP-ES, Lin et al., CVPR 2023)",
        "tagclip": "tags from refined patch scores (TagCLIP, Lin et al., AAAI 2024)",
    }


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
        self._source = TagSource(clip, self.recipe)
        _say_unknown(clip, self._source.tagging.names.texts)

    @property
    def words(self) -> tuple[str, ...]:
        """What each class is called."""
        return self._source.words

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
        images = [read_image(source) for source in sources]
        return [
            Tags(
                words=self.words,
                scores=scores,
                chosen=self._source.choose(scores),
                cut=tag_cut(scores, self.recipe.tag_tau),
                precision=self.clip.precision,
            )
            for scores in self._source.score(images)
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
        recipe: str | MaskRecipe | TagMaskRecipe | None = None,
        background: Sequence[str] | None = None,
        as_: str | None = None,
        **settings: object,
    ) -> None:
        self.clip = clip
        self.recipe = mask_recipe(recipe, words, background, as_, settings, clip.background)
        self._masker = masker(clip, self.recipe)
        _say_unknown(clip, self._masker.texts)
        if isinstance(self.recipe, MaskRecipe):
            _say_depth(clip, self.recipe)

    @property
    def words(self) -> tuple[str, ...]:
        """What each label is called."""
        return self._masker.words

    @property
    def background(self) -> bool:
        """Whether label 0 is the background."""
        return self._masker.background

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
        own = self._masker
        if not isinstance(own, DenseMasker):
            raise InputError(
                f"{self.recipe.name} masks tags and has no last block to vary; compare with a recipe such as "
                "sclip/voc21"
            )
        for method in methods:
            check_choice("method", method, tuple(METHODS))
        recipes = [with_method(own.recipe, method) for method in methods]
        nothing = nothing_label(len(self.words))
        (found,) = own.compared([read_image(image)], [_one_list(tags)], nothing, scores, recipes)
        return {method: self._result(masked) for method, masked in zip(methods, found, strict=True)}

    def _mask(
        self, sources: Sequence[ImageSource], tags: Sequence[Sequence[int] | None], keep_scores: bool
    ) -> list[Segmentation]:
        nothing = nothing_label(len(self.words))
        found = self._masker([read_image(source) for source in sources], tags, nothing, keep_scores)
        return [self._result(masked) for masked in found]

    def _result(self, masked: Masked) -> Segmentation:
        dtype = np.uint8 if nothing_label(len(self.words)) == 255 else np.uint16
        return Segmentation(
            words=self.words,
            labels=masked.labels.astype(dtype),
            scores=masked.scores,
            background=self._masker.background,
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


def _say_depth(clip: Clip, recipe: MaskRecipe) -> None:
    """Say what is known to be different on towers that are deeper than those the methods were made for."""
    layers = len(clip.vision.blocks)
    if layers <= _USUAL_LAYERS:
        return
    method = METHODS[recipe.method]
    if method.large:
        _LOG.warning(
            "%s is weaker on large weights (published: %s); sc-clip is not.", recipe.method, method.large
        )
    rule = dense_rule(recipe.method, recipe, layers)
    if (rule.mid != Keep() or rule.depth > 1) and not recipe.absolute_layers:
        _LOG.warning(
            "%s names layers of a 12-layer tower; %s has %d, of which those at the same share of the depth "
            "are read (absolute_layers=True, or as_='published', reads the same numbers).",
            recipe.method,
            clip.name,
            layers,
        )


def _grouped(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _IMAGES_TOGETHER] for start in range(0, len(items), _IMAGES_TOGETHER)]
