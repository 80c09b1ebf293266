"""From a recipe to something that scores images: one class for each way of getting to the scores.

Most methods look at an image and are done. SPARC and PIAA first look at a set of images (`learn`), and score
by what they have learnt.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.dense.prompts import Names, merge_names, split_names, text_features
from tagmask.errors import InputError
from tagmask.maskers import TagSource
from tagmask.papers import clip_surgery_tags, clip_tags, dpt, piaa, piaa_encoders, sparc
from tagmask.papers.inputs import InputSettings, batches, look
from tagmask.settings.adaptations import Adaptation
from tagmask.settings.kinds import AnyTagRecipe, TagRecipe
from tagmask.settings.taggers import (
    ClipTagRecipe,
    DptRecipe,
    PiaaRecipe,
    SparcRecipe,
    SurgeryTagRecipe,
)
from tagmask.types import Images, Pixels, TextFeatures

__all__ = ["Scorer", "scorer"]

Scores = list[Float32[np.ndarray, " f"]]
Look = Callable[[Clip, Pixels, TextFeatures, AnyTagRecipe], Float[Tensor, "b q"]]

_LOG = logging.getLogger(__name__)

_ONE_LOOK: Mapping[type[AnyTagRecipe], object] = MappingProxyType(
    {ClipTagRecipe: clip_tags.score, DptRecipe: dpt.score, SurgeryTagRecipe: clip_surgery_tags.score}
)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a recipe asks with: foreground classes, then background ones."""

    clip: Clip
    recipe: AnyTagRecipe
    names: Names
    texts: TextFeatures

    @property
    def foreground(self) -> int:
        return len(self.recipe.words)

    @property
    def words(self) -> tuple[str, ...]:
        """What each class is called."""
        return self.names.classes[: self.foreground]

    def by_class(self, scores: Float[Tensor, "b q"]) -> Float32[np.ndarray, "b f"]:
        """Scores of texts to those of foreground classes: the best of each class's names."""
        merged = merge_names(scores.T.float(), self.names)[: self.foreground]
        return np.ascontiguousarray(merged.T.cpu().numpy())


def _asked(clip: Clip, recipe: AnyTagRecipe) -> _Asked:
    names = split_names([*recipe.words, *recipe.background])
    return _Asked(clip, recipe, names, text_features(clip, names.texts, recipe.templates))


def _gathered(
    asked: _Asked, images: Images, settings: InputSettings, score: Callable[[Pixels], Float[Tensor, "b q"]]
) -> Scores:
    """Scores of images of any sizes, in their order."""
    found: dict[int, Float32[np.ndarray, " f"]] = {}
    for places, pixels in batches(asked.clip, images, settings):
        found.update(zip(places, asked.by_class(score(pixels)), strict=True))
    return [found[place] for place in range(len(images))]


class OneLook:
    """CLIP, DPT and CLIP Surgery: one pass and a formula."""

    def __init__(self, clip: Clip, recipe: AnyTagRecipe) -> None:
        self._asked = _asked(clip, recipe)
        self.words, self.texts = self._asked.words, self._asked.names.texts

    @torch.inference_mode()
    def score(self, images: Images) -> Scores:
        """Score of each class in each image."""
        asked, recipe = self._asked, self._asked.recipe
        way = cast(Look, _ONE_LOOK[type(recipe)])
        settings = cast(InputSettings, recipe)
        return _gathered(asked, images, settings, lambda pixels: way(asked.clip, pixels, asked.texts, recipe))


# -- Methods that look at a set of images first --------------------------------------------------------------


class Piaa:
    """PIAA: an adapter learnt from a bank of patches."""

    def __init__(self, clip: Clip, recipe: PiaaRecipe, learnt: Adaptation | None = None) -> None:
        self._asked, self._recipe = _asked(clip, recipe), recipe
        self.words, self.texts = self._asked.words, self._asked.names.texts
        if len(self.texts) < 2:
            raise InputError("got one word; piaa tells words from each other: give two or more")
        self._adapter = None
        if learnt is not None:
            _check(learnt, self._blank())
            weight, bias = (torch.from_numpy(learnt.arrays[name]).to(clip.device) for name in _ADAPTER)
            self._adapter = piaa.Adapter(weight, bias)

    @torch.inference_mode()
    def score(self, images: Images) -> Scores:
        """Score of each class in each image.

        Raises:
            InputError: nothing was learnt yet.
        """
        adapter = self._adapter
        if adapter is None:
            raise InputError(
                "piaa looks at a set of images before it tags any; call tagger.adapt(images) and use what it "
                "returns (tagmask tag DIR --adapt)"
            )
        asked, recipe = self._asked, self._recipe

        def score(pixels: Pixels) -> Float[Tensor, "b q"]:
            seen = piaa_encoders.see(asked.clip, pixels, recipe.encoder)
            return piaa.score(seen.patches, seen.class_tokens, asked.texts, adapter, recipe)

        return _gathered(asked, images, recipe, score)

    @torch.inference_mode()
    def learn(self, groups: Iterable[Images]) -> Adaptation:
        """An adapter for the images that come by; memory does not grow with their number."""
        asked, recipe = self._asked, self._recipe
        bank = piaa.empty_bank(asked.texts)
        for images in groups:
            seen: dict[int, Float[Tensor, "p e"]] = {}
            for places, pixels in batches(asked.clip, images, recipe):
                seen.update(
                    zip(places, piaa_encoders.see(asked.clip, pixels, recipe.encoder).patches, strict=True)
                )
            for place in sorted(seen):  # in the order given, which decides between equal entropies
                bank = piaa.grow(bank, seen[place], asked.texts, recipe)
        fitted = piaa.adapt(bank, asked.texts, recipe)
        self._say(fitted)
        weight, bias = (part.cpu().numpy() for part in (fitted.adapter.weight, fitted.adapter.bias))
        return replace(self._blank(), arrays=dict(zip(_ADAPTER, (weight, bias), strict=True)))

    def _blank(self) -> Adaptation:
        asked = (*self.texts, "", *self._recipe.templates, self._recipe.encoder)
        return Adaptation("piaa", asked, self._asked.clip.text_fingerprint, {})

    def _say(self, fitted: piaa.Fitted) -> None:
        unseen = [self.texts[i] for i in (fitted.seen == 0).nonzero().flatten().tolist()]
        if unseen:
            _LOG.warning("no patch looks most like %s; known by the text alone", _listed(unseen))
        emptied = (fitted.kept == 0) & (fitted.seen > 0)
        names = [self.texts[i] for i in emptied.nonzero().flatten().tolist()]
        if names:
            place = "its text" if self._recipe.compat else "the mean of its first patches"
            _LOG.warning("the refinement kept no patch of %s; each falls back to %s", _listed(names), place)


_ADAPTER = ("weight", "bias")


class Sparc:
    """SPARC: scores by the statistics of a set of images."""

    def __init__(self, clip: Clip, recipe: SparcRecipe, learnt: Adaptation | None = None) -> None:
        self._asked, self._recipe = _asked(clip, recipe), recipe
        self.words, self.texts = self._asked.words, self._asked.names.texts
        names, classes = self._asked.names, len(self._asked.names.classes)
        self._plain = text_features(clip, names.texts, (recipe.plain,))
        sentences = recipe.compounds
        if sentences is None:
            sentences = sparc.pairs(names.classes, recipe.plain, recipe.neighbours)
        self._sentences = sentences
        self._compounds = text_features(clip, sentences, ("{}",)) if sentences else self._plain[:0]
        mentions = sparc.match(sentences, names.texts)
        owners = np.array(names.owners)
        self._mentions = np.stack([mentions[:, owners == c].any(axis=1) for c in range(classes)], axis=1)
        self._reference = None
        if learnt is not None:
            _check(learnt, self._blank())
            self._reference = _reference(learnt.arrays, self._mentions)

    def score(self, images: Images) -> Scores:
        """Score of each class in each image.

        Raises:
            InputError: nothing was learnt yet.
        """
        if self._reference is None:
            raise InputError(
                "sparc compares images with each other; give a list of them, or call tagger.adapt(images) "
                "and use what it returns (tagmask tag DIR --method sparc --adapt)"
            )
        return self._scores(self._cosines(images), self._reference)

    def score_together(self, groups: Iterable[Images]) -> Scores:
        """Score of each class in each image, by the statistics of these same images."""
        found = _joined([self._cosines(images) for images in groups])
        return self._scores(found, sparc.learn(found, self._mentions))

    def learn(self, groups: Iterable[Images]) -> Adaptation:
        """The statistics of the images that come by."""
        found = _joined([self._cosines(images) for images in groups])
        reference = sparc.learn(found, self._mentions)
        arrays = {name: getattr(reference, name) for name in _STATISTICS}
        return replace(self._blank(), arrays={**arrays, "directions": np.concatenate(reference.directions)})

    def _scores(self, found: sparc.Cosines, reference: sparc.Reference) -> Scores:
        scores = sparc.apply(found, self._mentions, reference, self._recipe)[:, : self._asked.foreground]
        return list(scores.astype(np.float32))

    @torch.inference_mode()
    def _cosines(self, images: Images) -> sparc.Cosines:
        asked, clip = self._asked, self._asked.clip
        tokens: dict[int, Tensor] = {}
        for places, pixels in batches(clip, images, self._recipe):
            tokens.update(zip(places, class_token(look(clip, pixels)), strict=True))
        seen = torch.stack([tokens[place] for place in range(len(images))])
        single, plain = (
            merge_names((seen @ texts.T).T, asked.names).T for texts in (asked.texts, self._plain)
        )
        return sparc.Cosines(*(x.cpu().numpy() for x in (single, plain, seen @ self._compounds.T)))

    def _blank(self) -> Adaptation:
        recipe = self._recipe
        asked = (*self.texts, "", *self._sentences, "", recipe.plain, *recipe.templates)
        return Adaptation("sparc", asked, self._asked.clip.text_fingerprint, {})


_STATISTICS = ("single_mean", "single_sd", "compound_mean", "compound_sd")


def _joined(parts: Sequence[sparc.Cosines]) -> sparc.Cosines:
    if not parts:
        raise InputError("got no images; give two or more")
    names = ("ensemble", "plain", "compound")
    return sparc.Cosines(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _reference(arrays: Mapping[str, np.ndarray], mentions: Bool[np.ndarray, "k c"]) -> sparc.Reference:
    ends = np.cumsum(mentions.sum(axis=0) + 1)[:-1]
    directions = tuple(np.split(arrays["directions"], ends))
    return sparc.Reference(**{name: arrays[name] for name in _STATISTICS}, directions=directions)


# -- All -----------------------------------------------------------------------------------------------------


Scorer = TagSource | OneLook | Piaa | Sparc
"""All have `words`, `texts` and `score`; those that learn also `learn`."""


def scorer(clip: Clip, recipe: AnyTagRecipe, learnt: Adaptation | None = None) -> Scorer:
    """What scores images by a recipe.

    Raises:
        InputError: something learnt by another method, for other words or with other weights.
    """
    if isinstance(recipe, PiaaRecipe):
        return Piaa(clip, recipe, learnt)
    if isinstance(recipe, SparcRecipe):
        return Sparc(clip, recipe, learnt)
    if learnt is not None:
        raise InputError(
            f"an adapter of {learnt.method} is of no use to {recipe.name}; give method={learnt.method!r}"
        )
    return TagSource(clip, recipe) if isinstance(recipe, TagRecipe) else OneLook(clip, recipe)


def _check(learnt: Adaptation, own: Adaptation) -> None:
    for part, what in (("method", "by another method"), ("asked", "for other words or sentences")):
        if getattr(learnt, part) != getattr(own, part):
            raise InputError(f"the adapter was learnt {what}; give what it was made with, or adapt again")
    if learnt.weights != own.weights:
        raise InputError("the adapter was learnt with other weights or precision; use those, or adapt again")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
