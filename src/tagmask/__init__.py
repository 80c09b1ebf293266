"""Tag your images, then mask your tags: with words, with a frozen CLIP, with no training.

clip = tagmask.load("ViT-B-16.pt")
tags = tagmask.Tagger(clip, words=["cat", "dog, puppy"])("photo.jpg")
seg = tagmask.Segmenter(clip, words=["cat", "dog, puppy"])("photo.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tagmask.errors import TagmaskError

if TYPE_CHECKING:
    from tagmask.api import Segmenter, Tagger, methods
    from tagmask.clip.load import Clip, load
    from tagmask.results import Segmentation, Tags
    from tagmask.settings.lookup import recipe, recipes

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "Segmentation",
    "Segmenter",
    "Tagger",
    "TagmaskError",
    "Tags",
    "load",
    "methods",
    "recipe",
    "recipes",
]

_HOMES = {
    "Clip": "tagmask.clip.load",
    "Segmentation": "tagmask.results",
    "Segmenter": "tagmask.api",
    "Tagger": "tagmask.api",
    "Tags": "tagmask.results",
    "load": "tagmask.clip.load",
    "methods": "tagmask.api",
    "recipe": "tagmask.settings.lookup",
    "recipes": "tagmask.settings.lookup",
}


def __getattr__(name: str) -> object:
    # Resolved on first use: importing tagmask must not import torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
