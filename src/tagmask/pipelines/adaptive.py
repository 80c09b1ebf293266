"""Tagging methods that need a set of images first: PIAA learns an adapter, SPARC collects score statistics.

`adapt` returns what they learned as an `Adaptation`, which can be saved in a file.
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
            raise InputError("Got one word; piaa contrasts words with each other. Give two or more.")
        self._adapter = None
        if learned is not None:
            _check(learned, self._blank())
            weight, bias = (torch.from_numpy(learned.arrays[name]).to(clip.device) for name in _ADAPTER)
            self._adapter = piaa.Adapter(weight, bias)

    @torch.inference_mode()
    def score(self, images: Images) -> Scores:
        """Return the score of each class in each image.

        Raises:
            InputError: the pipeline is not adapted yet.
        """
        adapter = self._adapter
        if adapter is None:
            raise InputError(
                "piaa needs a set of images before it can tag any. Use the tagger that tagger.adapt(images) "
                "returns (tagmask tag DIR --adapt)."
            )
        clip, query, settings = self.clip, self.query, self._settings

        def score(pixels: Pixels) -> Float[Tensor, "b q"]:
            features = piaa_encoders.encode(clip, pixels, settings.encoder)
            return piaa.score(features.patches, features.class_tokens, query.features, adapter, settings)

        return score_batches(clip, query, images, settings, score)

    @torch.inference_mode()
    def adapt(self, groups: Iterable[Images]) -> Adaptation:
        """Fit an adapter to a stream of images; memory use does not grow with their number."""
        clip, texts, settings = self.clip, self.query.features, self._settings
        bank = piaa.empty_bank(texts)
        for images in groups:
            patches: dict[int, Float[Tensor, "p e"]] = {}
            for indices, pixels in batches(clip, images, settings):
                features = piaa_encoders.encode(clip, pixels, settings.encoder)
                patches.update(zip(indices, features.patches, strict=True))
            for index in sorted(patches):  # in the order given, which breaks ties between equal entropies
                bank = piaa.grow(bank, patches[index], texts, settings)
        fitted = piaa.adapt(bank, texts, settings)
        self._warn(fitted)
        weight, bias = (part.cpu().numpy() for part in (fitted.adapter.weight, fitted.adapter.bias))
        return replace(self._blank(), arrays=dict(zip(_ADAPTER, (weight, bias), strict=True)))

    def _blank(self) -> Adaptation:
        texts = (*self.texts, "", *self.recipe.templates, self._settings.encoder)
        return Adaptation("piaa", texts, self.clip.text_fingerprint, {})

    def _warn(self, fitted: piaa.Fitted) -> None:
        unseen = [self.texts[i] for i in (fitted.seen == 0).nonzero().flatten().tolist()]
        if unseen:
            _LOG.warning("No patch matches %s best; it is known by its text alone.", _join(unseen))
        emptied = (fitted.kept == 0) & (fitted.seen > 0)
        names = [self.texts[i] for i in emptied.nonzero().flatten().tolist()]
        if names:
            fallback = "its text" if self._settings.compat else "the mean of its first patches"
            _LOG.warning("The refinement kept no patch of %s; each falls back to %s.", _join(names), fallback)


_ADAPTER = ("weight", "bias")


class SparcPipeline(TagPipeline):
    """SPARC: scores relative to the statistics of a set of images."""

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
        """Return the score of each class in each image.

        Raises:
            InputError: the pipeline is not adapted yet.
        """
        if self._reference is None:
            raise InputError(
                "sparc compares images with each other. Give a list of images, or use the tagger that "
                "tagger.adapt(images) returns (tagmask tag DIR --method sparc --adapt)."
            )
        return self._scores(self._cosines(images), self._reference)

    def score_set(self, groups: Iterable[Images]) -> Scores:
        """Return scores by the learned statistics; if not adapted, by the statistics of these images."""
        if self._reference is not None:
            return super().score_set(groups)
        cosines = _concatenate([self._cosines(images) for images in groups])
        return self._scores(cosines, sparc.learn(cosines, self._mentions))

    def adapt(self, groups: Iterable[Images]) -> Adaptation:
        """Collect the statistics of a set of images."""
        cosines = _concatenate([self._cosines(images) for images in groups])
        reference = sparc.learn(cosines, self._mentions)
        arrays = {name: getattr(reference, name) for name in _STATISTICS}
        return replace(self._blank(), arrays={**arrays, "directions": np.concatenate(reference.directions)})

    def _scores(self, cosines: sparc.Cosines, reference: sparc.Reference) -> Scores:
        scores = sparc.apply(cosines, self._mentions, reference, self._settings)[:, : self.query.foreground]
        return list(scores.astype(np.float32))

    @torch.inference_mode()
    def _cosines(self, images: Images) -> sparc.Cosines:
        clip, query = self.clip, self.query
        tokens: dict[int, Tensor] = {}
        for indices, pixels in batches(clip, images, self._settings):
            tokens.update(zip(indices, class_token(encode_image(clip, pixels)), strict=True))
        class_tokens = torch.stack([tokens[index] for index in range(len(images))])
        single, plain = (
            merge_names((class_tokens @ texts.T).T, query.names).T for texts in (query.features, self._plain)
        )
        return sparc.Cosines(*(x.cpu().numpy() for x in (single, plain, class_tokens @ self._compounds.T)))

    def _blank(self) -> Adaptation:
        texts = (*self.texts, "", *self._sentences, "", self._settings.plain, *self.recipe.templates)
        return Adaptation("sparc", texts, self.clip.text_fingerprint, {})


_STATISTICS = ("single_mean", "single_sd", "compound_mean", "compound_sd")


def _concatenate(parts: Sequence[sparc.Cosines]) -> sparc.Cosines:
    if not parts:
        raise InputError("Got no images. Give two or more.")
    names = ("ensemble", "plain", "compound")
    return sparc.Cosines(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _reference(arrays: Mapping[str, np.ndarray], mentions: Bool[np.ndarray, "k c"]) -> sparc.Reference:
    ends = np.cumsum(mentions.sum(axis=0) + 1)[:-1]
    directions = tuple(np.split(arrays["directions"], ends))
    return sparc.Reference(**{name: arrays[name] for name in _STATISTICS}, directions=directions)


def _check(learned: Adaptation, expected: Adaptation) -> None:
    for part, what in (("method", "by another method"), ("texts", "for other words or templates")):
        if getattr(learned, part) != getattr(expected, part):
            raise InputError(f"The adapter was learned {what}. Use the original ones, or adapt again.")
    if learned.weights != expected.weights:
        raise InputError(
            "The adapter was learned with other weights or precision. Use those, or adapt again."
        )


def _join(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
