"""Two ways from images and words to labels: compare words with pixels, or tag first and mask the tags.

A masker is made once from a recipe: its texts are encoded then. It is called with images, and with an image's
tags where the caller knows them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.decisions import choose
from tagmask.dense.maps import CosineMaps
from tagmask.dense.prompts import Names, split_names, text_features
from tagmask.errors import InputError
from tagmask.papers import clip_es, cls_seg, sclip, sclip_windows
from tagmask.papers.tagclip import score_images
from tagmask.refine.crf import CRF_SETTINGS, caffe_wrapped, dense_crf
from tagmask.refine.pamr import pamr
from tagmask.settings.kinds import MaskRecipe, TagMaskRecipe, TagRecipe, own_tags
from tagmask.types import Image, Images

__all__ = ["Masked", "Masker", "TagSource", "masker"]


@dataclass(frozen=True, eq=False)
class Masked:
    """One image's labels."""

    labels: Integer[np.ndarray, "h w"]
    """int32, by the masker's `words`."""
    scores: Float32[np.ndarray, "c h w"] | None
    """Of every word, on request; 0 where a word was not in the running."""
    tags: tuple[int, ...] | None
    """Classes that were in the running, counted without the background; None where all were."""


class TagSource:
    """Finds an image's tags with a recipe."""

    def __init__(self, clip: Clip, recipe: TagRecipe) -> None:
        self.clip, self.recipe = clip, recipe
        names = split_names([*recipe.words, *recipe.background])
        texts = text_features(clip, names.texts, recipe.templates)
        self.tagging = cls_seg.Tagging(names, texts, len(recipe.words), recipe)

    @property
    def words(self) -> tuple[str, ...]:
        """What each class is called."""
        return self.tagging.names.classes[: self.tagging.foreground]

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is asked with."""
        return self.tagging.names.texts

    def score(self, images: Images) -> list[Float32[np.ndarray, " f"]]:
        """Final score of each class in each image."""
        asked = self.tagging
        return score_images(self.clip, images, asked.names, asked.texts, asked.foreground, asked.settings)

    def choose(self, scores: Float32[np.ndarray, " f"]) -> tuple[int, ...]:
        """Classes taken as present."""
        recipe = self.recipe
        return choose(scores, recipe.tag_tau, recipe.thresholds, min_score=recipe.min_score, top=recipe.top)


# -- Every word with every pixel -----------------------------------------------------------------------------


class DenseMasker:
    """SCLIP and its kin; all words, or those of the image's tags, compete in every pixel."""

    def __init__(self, clip: Clip, recipe: MaskRecipe) -> None:
        sclip_windows.check_windows(clip, recipe)
        self.clip, self.recipe = clip, recipe
        self.background = bool(recipe.background)
        behind = [", ".join(recipe.background)] if recipe.background else []
        self._names = split_names([*behind, *recipe.words])
        self._features = text_features(clip, self._names.texts, recipe.templates)
        self.texts = self._names.texts
        named = self._names.classes
        self.words = ("background", *named[1:]) if self.background else named
        self._tagger = None
        if recipe.among == "tags":
            self._tagger = TagSource(clip, recipe.tagger or own_tags(recipe.words, recipe.background))

    @torch.inference_mode()
    def __call__(
        self, images: Images, tags: Sequence[Sequence[int] | None], nothing: int, keep_scores: bool
    ) -> list[Masked]:
        """Label every pixel of every image."""
        return [masked for (masked,) in self.compared(images, tags, nothing, keep_scores, [self.recipe])]

    @torch.inference_mode()
    def compared(
        self,
        images: Images,
        tags: Sequence[Sequence[int] | None],
        nothing: int,
        keep_scores: bool,
        recipes: Sequence[MaskRecipe],
    ) -> list[tuple[Masked, ...]]:
        """Label every pixel under each of several recipes, which differ from this masker's in method only.

        All of them read one pass through the blocks before the last.
        """
        chosen = self._chosen(images, tags)
        all_maps = sclip_windows.shared_cosine_maps(self.clip, images, self._features, recipes)
        return [
            tuple(
                self._label(image, maps, found, nothing, keep_scores, recipe)
                for maps, recipe in zip(each, recipes, strict=True)
            )
            for image, each, found in zip(images, all_maps, chosen, strict=True)
        ]

    def _chosen(self, images: Images, tags: Sequence[Sequence[int] | None]) -> list[tuple[int, ...] | None]:
        for given in tags:
            clip_es.check_tags(given or (), len(self.recipe.words))
        known = [None if given is None else tuple(given) for given in tags]
        asked = [image for image, given in zip(images, known, strict=True) if given is None]
        if self._tagger is None or not asked:
            return known
        found = iter([self._tagger.choose(scores) for scores in self._tagger.score(asked)])
        return [next(found) if given is None else given for given in known]

    def _label(
        self,
        image: Image,
        maps: CosineMaps,
        tags: tuple[int, ...] | None,
        nothing: int,
        keep_scores: bool,
        recipe: MaskRecipe,
    ) -> Masked:
        names = self._names
        kept = list(range(len(self.words)))
        if tags is not None:
            kept = sorted({tag + self.background for tag in tags} | ({0} if self.background else set()))
            rows = [i for i, owner in enumerate(names.owners) if owner in set(kept)]
            names = Names(
                tuple(names.classes[c] for c in kept),
                tuple(names.texts[i] for i in rows),
                tuple(kept.index(names.owners[i]) for i in rows),
            )
            maps = replace(maps, cosines=maps.cosines[rows])
        if not kept:  # nothing is in the running, and there is no background to be
            empty = np.full(maps.size, nothing, np.int32)
            return Masked(empty, _spread(None, kept, self.words, maps.size, keep_scores), tags)
        labels, scores = sclip.label(
            maps,
            names,
            recipe,
            background=self.background,
            nothing=nothing,
            keep_scores=keep_scores or recipe.crf is not None,
        )
        if recipe.crf is not None and scores is not None:
            labels, scores = self._agreed(image, labels, scores, nothing, recipe)
        table = np.full(nothing + 1, nothing, np.int32)
        table[: len(kept)] = kept
        full = _spread(scores, kept, self.words, maps.size, keep_scores)
        return Masked(table[labels], full, tags)

    def _agreed(
        self,
        image: Image,
        labels: Integer[np.ndarray, "h w"],
        scores: Float32[np.ndarray, "k h w"],
        nothing: int,
        recipe: MaskRecipe,
    ) -> tuple[Integer[np.ndarray, "h w"], Float32[np.ndarray, "k h w"]]:
        """After the CRF. Pixels that were unsure (`prob_thd`) speak for the background, if there is one."""
        planes = torch.from_numpy(scores)
        unsure = planes.amax(dim=0) < recipe.prob_thd
        if self.background:
            planes[0][unsure] = recipe.prob_thd
        agreed = _crf(planes, image, recipe.crf or "", wrapped=False)
        best = agreed.max(dim=0).indices.to(torch.int32).numpy()
        if not self.background:
            best = np.where(labels == nothing, np.int32(nothing), best)
        return best, agreed.numpy()


# -- Tags first ----------------------------------------------------------------------------------------------


class TagMasker:
    """CLS-SEG and CLIP-ES: an image's tags, given or found, and a mask of each."""

    def __init__(self, clip: Clip, recipe: TagMaskRecipe) -> None:
        self.clip, self.recipe = clip, recipe
        self.background = recipe.background_power is not None
        prompts = recipe.prompts or clip_es.fuse_names(recipe.words)
        self.texts = tuple(dict.fromkeys((*split_names(recipe.words).texts, *prompts, *recipe.background)))
        features = text_features(clip, (*prompts, *recipe.background), recipe.templates)
        self._texts = clip_es.ClassTexts(features[: len(prompts)], features[len(prompts) :])
        named = split_names(recipe.words).classes
        self.words = ("background", *named) if self.background else named
        self._tagger = TagSource(clip, recipe.tagger) if recipe.tagger else None

    @torch.inference_mode()
    def __call__(
        self, images: Images, tags: Sequence[Sequence[int] | None], nothing: int, keep_scores: bool
    ) -> list[Masked]:
        """Label every pixel of every image."""
        for given in tags:
            clip_es.check_tags(given or (), len(self.recipe.words))
        return [
            self._mask(image, given, nothing, keep_scores) for image, given in zip(images, tags, strict=True)
        ]

    def _mask(self, image: Image, given: Sequence[int] | None, nothing: int, keep_scores: bool) -> Masked:
        tags, maps = self._maps(image, given)
        size = (image.shape[0], image.shape[1])
        recipe = self.recipe
        if recipe.pamr_steps or recipe.crf:
            probabilities = torch.from_numpy(clip_es.crf_probabilities(maps, size, recipe))
            if recipe.pamr_steps and len(probabilities):
                guide = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
                probabilities = pamr(
                    probabilities, guide, steps=recipe.pamr_steps, dilations=recipe.pamr_dilations
                )
            if recipe.crf and len(probabilities):
                probabilities = _crf(probabilities, image, recipe.crf, wrapped=recipe.crf_wrapped)
            planes: Float32[np.ndarray, "k h w"] | None = probabilities.numpy()
            # The cut is for what a CRF is sure of; other probabilities do not sum to 1.
            cut = recipe if recipe.crf else replace(recipe, confidence=None)
            labels, _ = clip_es.crf_labels(probabilities.numpy(), tags, cut, nothing=nothing)
        else:
            labels, planes = clip_es.label(maps, size, tags, recipe, nothing=nothing, keep_scores=keep_scores)
        kept = [tag + self.background for tag in tags]
        kept = [0, *kept] if self.background else kept
        return Masked(labels, _spread(planes, kept, self.words, size, keep_scores), tags)

    def _maps(
        self, image: Image, given: Sequence[int] | None
    ) -> tuple[tuple[int, ...], Float[Tensor, "K gh gw"]]:
        recipe = self.recipe
        if given is None:
            if self._tagger is None:
                raise InputError(
                    f"{recipe.name} masks tags that are known; give them, as in segmenter(image, tags=[0, 5])"
                )
            tagging = self._tagger.tagging
            look = cls_seg.look_once(self.clip, image, tagging.settings, recipe)
            tags = self._tagger.choose(cls_seg.tag_scores(self.clip, look, tagging))
            return tags, cls_seg.maps_of_tags(self.clip, image, look, tags, self._texts, recipe)
        if not len(given):
            return (), self._texts.foreground.new_zeros(0, 1, 1)
        state = clip_es.look(self.clip, image, recipe)
        return tuple(given), clip_es.tag_maps(self.clip, state, self._texts, given, recipe)


Masker = DenseMasker | TagMasker
"""Both have `words`, what each label is called; `texts`, all that is asked with; `background`: label 0 is."""


def masker(clip: Clip, recipe: MaskRecipe | TagMaskRecipe) -> Masker:
    """The masker of a recipe."""
    return TagMasker(clip, recipe) if isinstance(recipe, TagMaskRecipe) else DenseMasker(clip, recipe)


# -- Both ----------------------------------------------------------------------------------------------------


def _crf(
    planes: Float[Tensor, "k h w"], image: Image, settings: str, *, wrapped: bool
) -> Float[Tensor, "k h w"]:
    return dense_crf(planes, caffe_wrapped(image) if wrapped else image, CRF_SETTINGS[settings])


def _spread(
    scores: Float32[np.ndarray, "k h w"] | None,
    kept: Sequence[int],
    words: Sequence[str],
    size: tuple[int, int],
    wanted: bool,
) -> Float32[np.ndarray, "c h w"] | None:
    """Planes of some classes at their places among all."""
    if not wanted:
        return None
    if scores is not None and list(kept) == list(range(len(words))):
        return scores
    full = np.zeros((len(words), *size), np.float32)
    if scores is not None and len(kept):
        full[list(kept)] = scores
    return full
