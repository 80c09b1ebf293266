"""What is said aloud when weights, words and methods do not go well together."""

import logging
from collections.abc import Sequence

from tagmask.catalogue import dense_rule, method_of
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec
from tagmask.settings.recipes import MaskRecipe

__all__ = ["warn_depth", "warn_unknown_words"]

_LOG = logging.getLogger(__name__)
_USUAL_LAYERS = 12


def warn_unknown_words(clip: Clip, texts: Sequence[str]) -> None:
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


def warn_depth(clip: Clip, recipe: MaskRecipe) -> None:
    """Say what is known to be different on towers that are deeper than those the methods were made for."""
    layers = len(clip.vision.blocks)
    if layers <= _USUAL_LAYERS:
        return
    method = method_of(recipe)
    if method.large:
        _LOG.warning(
            "%s is weaker on large weights (published: %s); sc-clip is not.", recipe.method, method.large
        )
    rule = dense_rule(recipe.method, layers, recipe.variant)
    if (rule.capture != CaptureSpec() or rule.depth > 1) and not getattr(
        recipe.variant, "absolute_layers", False
    ):
        _LOG.warning(
            "%s names layers of a 12-layer tower; %s has %d, of which those at the same share of the depth "
            "are read (absolute_layers=True, or as_='published', reads the same numbers).",
            recipe.method,
            clip.name,
            layers,
        )
