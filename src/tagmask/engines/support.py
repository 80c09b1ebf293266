"""Which methods leave an engine something to run: blocks before the first whose attention map they read."""

from tagmask.catalogue import dense_rule, method_of
from tagmask.errors import InputError
from tagmask.papers.clip_es import captured
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.settings.recipes import MaskRecipe, Recipe, TagFirstRecipe

__all__ = ["check_supported"]


def check_supported(recipe: Recipe, layers: int, engine: str) -> None:
    """Refuse a method that reads the attention map of the first block, so that torch must run them all.

    TagCLIP does too, and CLS-SEG with its tags; but its re-identification is a second pass, which reads none.

    Args:
        recipe: the method and its settings.
        layers: of the image tower.
        engine: its name, for the message.

    Raises:
        InputError: nothing is left for the engine.
    """
    if layers < 2:
        raise InputError(f"These weights have one layer, of which {engine} can run none. Use deeper weights.")
    if _blocks(recipe, layers) == 0:
        purifies = isinstance(recipe, MaskRecipe) and recipe.purifies
        what = "purify" if purifies else f"{recipe.method} with these settings"
        raise InputError(
            f"{engine} can run blocks whose attention maps are not read, but {what} reads those of every "
            "block. Leave the engine out, or choose another method."
        )


def _blocks(recipe: Recipe, layers: int) -> int:
    """Number of blocks that an engine can run."""
    if isinstance(recipe, TagFirstRecipe):
        if recipe.tagger is not None:
            return _blocks(recipe.tagger, layers)
        return captured(recipe.variant, layers).blocks_before_attention(layers)
    if isinstance(recipe, MaskRecipe):
        rule = dense_rule(recipe.method, layers, recipe.variant)
        return 0 if recipe.purifies else rule.capture.blocks_before_attention(layers)
    if isinstance(recipe.variant, TagclipSettings):
        return layers - 1 if recipe.variant.cwr or not recipe.variant.dmar else 0
    return 0 if method_of(recipe).kind == "freecp" else layers - 1
