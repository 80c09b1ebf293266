"""Warnings about words or methods that do not suit the weights."""

import logging
from collections.abc import Sequence

from tagmask.catalogue import dense_rule, method_of
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec
from tagmask.pipelines.labelled import MaskPipeline
from tagmask.pipelines.tagging import TagPipeline
from tagmask.pipelines.word_checks import check_words
from tagmask.settings.recipes import MaskRecipe, Recipe, TagFirstRecipe

__all__ = ["warn_depth", "warn_unknown_words", "warn_words"]

_LOG = logging.getLogger(__name__)
_DEFAULT_LAYERS = 12
"""Layers of the image tower that the methods were designed for (ViT-B)."""
_SHOWN = 3
"""Findings in a warning."""


def warn_words(clip: Clip, recipe: Recipe, pipeline: MaskPipeline | TagPipeline, *, own: bool) -> None:
    """Warn, once each, of words that the weights do not know, and of words that compete (`word_checks`).

    Args:
        clip: the weights.
        recipe: has the words and the background.
        pipeline: compares them with images.
        own: whether the words are a user's; a paper's are used as they are.
    """
    warn_unknown_words(clip, pipeline.texts)
    if not own:
        return
    found = check_words(clip, recipe.words, recipe.background, pipeline.query).findings
    if found:
        shown = "; ".join(finding.text for finding in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        _LOG.warning(
            "Words that compete: %s%s. `tagmask words check` shows what to give instead.", shown, more
        )


def warn_unknown_words(clip: Clip, texts: Sequence[str]) -> None:
    """Warn of words that the weights were not trained on, if the weights file lists its words."""
    known = clip.known_words
    if known is None:
        return
    unknown = [text for text in texts if not known.issuperset(text.casefold().split())]
    if unknown:
        shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        _LOG.warning(
            "%s was not trained on: %s. Its results for them are meaningless. It knows %d words, see "
            "`tagmask doctor --words`; weights such as ViT-B-16.pt know nearly all words.",
            clip.name,
            shown,
            len(known),
        )


def warn_depth(clip: Clip, recipe: MaskRecipe | TagFirstRecipe) -> None:
    """Warn if a dense method is weaker or uses other layers on towers deeper than it was designed for."""
    layers = len(clip.vision.blocks)
    if layers <= _DEFAULT_LAYERS or not isinstance(recipe, MaskRecipe):
        return
    method = method_of(recipe)
    if method.large:
        _LOG.warning(
            "%s is weaker on large weights (published: %s). Use sc-clip, which is not.",
            recipe.method,
            method.large,
        )
    rule = dense_rule(recipe.method, layers, recipe.variant)
    if (rule.capture != CaptureSpec() or rule.depth > 1) and not getattr(
        recipe.variant, "absolute_layers", False
    ):
        _LOG.warning(
            "%s refers to layers of a 12-layer tower; %s has %d. Layers at the same relative depth are used. "
            "For the same layer numbers, give absolute_layers=True or as_='published'.",
            recipe.method,
            clip.name,
            layers,
        )
