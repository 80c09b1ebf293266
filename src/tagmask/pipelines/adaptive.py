"""Taggers that need a set of images first: SPARC compares with them, PIAA learns from them.

They score by what they have learned (`adapt`), which is a value that can be kept in a file.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.dense.prompts import merge_names, text_features
from tagmask.errors import InputError
from tagmask.papers import piaa, piaa_encoders, sparc
from tagmask.papers.preprocessing import batches, encode_image
from tagmask.pipelines.adaptation import Adaptation
from tagmask.pipelines.tagging import Scores, TagPipeline, score_batches
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Images, Pixels

__all__ = ["PiaaPipeline", "SparcPipeline"]

_LOG = logging.getLogger(__name__)


class PiaaPipeline(TagPipeline):
    """PIAA: an adapter learned from a bank of patches."""

    def __init__(self, clip: Clip, recipe: TagRecipe, learned: Adaptation | None = None) -> None:
        super().__init__(clip, recipe)
        self._settings = cast(piaa.PiaaSettings, recipe.variant)
        if len(self.texts) < 2:
            raise InputError("got one word; piaa tells words from each other: give two or more")
        self._adapter = None
        if learned is not None:
            _check(learned, self._blank())
            weight, bias = (torch.from_numpy(learned.arrays[name]).to(clip.device) for name in _ADAPTER)
            self._adapter = piaa.Adapter(weight, bias)

    @torch.inference_mode()
    def score(self, images: Images) -> Scores:
        """Score of each class in each image.

        Raises:
            InputError: nothing was learned yet.
        """
        adapter = self._adapter
        if adapter is None:
            raise InputError(
                "piaa looks at a set of images before it tags any; call tagger.adapt(images) and use what it "
                "returns (tagmask tag DIR --adapt)"
            )
        clip, query, settings = self.clip, self.query, self._settings

        def score(pixels: Pixels) -> Float[Tensor, "b q"]:
            seen = piaa_encoders.encode(clip, pixels, settings.encoder)
            return piaa.score(seen.patches, seen.class_tokens, query.features, adapter, settings)

        return score_batches(clip, query, images, settings, score)

    @torch.inference_mode()
    def adapt(self, groups: Iterable[Images]) -> Adaptation:
        """An adapter for the images that come by; memory does not grow with their number."""
        clip, texts, settings = self.clip, self.query.features, self._settings
        bank = piaa.empty_bank(texts)
        for images in groups:
            seen: dict[int, Float[Tensor, "p e"]] = {}
            for places, pixels in batches(clip, images, settings):
                seen.update(
                    zip(places, piaa_encoders.encode(clip, pixels, settings.encoder).patches, strict=True)
                )
            for place in sorted(seen):  # in the order given, which decides between equal entropies
                bank = piaa.grow(bank, seen[place], texts, settings)
        fitted = piaa.adapt(bank, texts, settings)
        self._say(fitted)
        weight, bias = (part.cpu().numpy() for part in (fitted.adapter.weight, fitted.adapter.bias))
        return replace(self._blank(), arrays=dict(zip(_ADAPTER, (weight, bias), strict=True)))

    def _blank(self) -> Adaptation:
        texts = (*self.texts, "", *self.recipe.templates, self._settings.encoder)
        return Adaptation("piaa", texts, self.clip.text_fingerprint, {})

    def _say(self, fitted: piaa.Fitted) -> None:
        unseen = [self.texts[i] for i in (fitted.seen == 0).nonzero().flatten().tolist()]
        if unseen:
            _LOG.warning("no patch looks most like %s; known by the text alone", _listed(unseen))
        emptied = (fitted.kept == 0) & (fitted.seen > 0)
        names = [self.texts[i] for i in emptied.nonzero().flatten().tolist()]
        if names:
            place = "its text" if self._settings.compat else "the mean of its first patches"
            _LOG.warning("the refinement kept no patch of %s; each falls back to %s", _listed(names), place)


_ADAPTER = ("weight", "bias")


class SparcPipeline(TagPipeline):
    """SPARC: scores by the statistics of a set of images."""

    def __init__(self, clip: Clip, recipe: TagRecipe, learned: Adaptation | None = None) -> None:
        super().__init__(clip, recipe)
        self._settings = settings = cast(sparc.SparcSettings, recipe.variant)
        names, classes = self.query.names, len(self.query.names.classes)
        self._plain = text_features(clip, names.texts, (settings.plain,))
        sentences = settings.compounds
        if sentences is None:
            sentences = sparc.pairs(names.classes, settings.plain, settings.neighbours)
        self._sentences = sentences
        self._compounds = text_features(clip, sentences, ("{}",)) if sentences else self._plain[:0]
        mentions = sparc.match(sentences, names.texts)
        owners = np.array(names.owners)
        self._mentions = np.stack([mentions[:, owners == c].any(axis=1) for c in range(classes)], axis=1)
        self._reference = None
        if learned is not None:
            _check(learned, self._blank())
            self._reference = _reference(learned.arrays, self._mentions)

    def score(self, images: Images) -> Scores:
        """Score of each class in each image.

        Raises:
            InputError: nothing was learned yet.
        """
        if self._reference is None:
            raise InputError(
                "sparc compares images with each other; give a list of them, or call tagger.adapt(images) "
                "and use what it returns (tagmask tag DIR --method sparc --adapt)"
            )
        return self._scores(self._cosines(images), self._reference)

    def score_set(self, groups: Iterable[Images]) -> Scores:
        """Scores by what was learned; without that, by the statistics of these same images."""
        if self._reference is not None:
            return super().score_set(groups)
        found = _joined([self._cosines(images) for images in groups])
        return self._scores(found, sparc.learn(found, self._mentions))

    def adapt(self, groups: Iterable[Images]) -> Adaptation:
        """The statistics of the images that come by."""
        found = _joined([self._cosines(images) for images in groups])
        reference = sparc.learn(found, self._mentions)
        arrays = {name: getattr(reference, name) for name in _STATISTICS}
        return replace(self._blank(), arrays={**arrays, "directions": np.concatenate(reference.directions)})

    def _scores(self, found: sparc.Cosines, reference: sparc.Reference) -> Scores:
        scores = sparc.apply(found, self._mentions, reference, self._settings)[:, : self.query.foreground]
        return list(scores.astype(np.float32))

    @torch.inference_mode()
    def _cosines(self, images: Images) -> sparc.Cosines:
        clip, query = self.clip, self.query
        tokens: dict[int, Tensor] = {}
        for places, pixels in batches(clip, images, self._settings):
            tokens.update(zip(places, class_token(encode_image(clip, pixels)), strict=True))
        seen = torch.stack([tokens[place] for place in range(len(images))])
        single, plain = (
            merge_names((seen @ texts.T).T, query.names).T for texts in (query.features, self._plain)
        )
        return sparc.Cosines(*(x.cpu().numpy() for x in (single, plain, seen @ self._compounds.T)))

    def _blank(self) -> Adaptation:
        texts = (*self.texts, "", *self._sentences, "", self._settings.plain, *self.recipe.templates)
        return Adaptation("sparc", texts, self.clip.text_fingerprint, {})


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


def _check(learned: Adaptation, own: Adaptation) -> None:
    for part, what in (("method", "by another method"), ("texts", "for other words or sentences")):
        if getattr(learned, part) != getattr(own, part):
            raise InputError(f"the adapter was learned {what}; give what it was made with, or adapt again")
    if learned.weights != own.weights:
        raise InputError("the adapter was learned with other weights or precision; use those, or adapt again")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
