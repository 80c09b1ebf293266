"""Engines: what runs the first blocks of the image tower in place of torch."""

from tagmask.clip.load import Clip
from tagmask.engines.support import check_supported
from tagmask.settings.engine import EngineSettings
from tagmask.settings.recipes import Recipe

__all__ = ["with_engine"]


def with_engine(clip: Clip, settings: EngineSettings | None, recipe: Recipe) -> Clip:
    """Return the model with the engine that a user chose.

    Args:
        clip: the frozen model.
        settings: of `engine_settings`; None keeps the engine that the model has.
        recipe: what the model will be used for.

    Raises:
        InputError: the method or the model cannot use the engine.
        ImageError: a photo to calibrate on cannot be read.
    """
    if settings is None:
        return clip
    if settings.name == "torch":
        return clip.with_engine(None)
    check_supported(recipe, len(clip.vision.blocks), settings.name)
    from tagmask.engines.openvino import OpenVinoBlocks

    return clip.with_engine(OpenVinoBlocks.of(clip, settings))
