"""Tag your images, then mask your tags: with words and a frozen CLIP, without training.

clip = tagmask.load("ViT-B-16:openai")
tags = tagmask.Tagger(clip, words=["cat", "dog, puppy"])("photo.jpg")
seg = tagmask.Segmenter(clip, words=["cat", "dog, puppy"])("photo.jpg")
print(tags.names, seg.shares())
seg.save("mask.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tagmask.errors import TagmaskError

if TYPE_CHECKING:
    from tagmask.api import Segmenter, Tagger
    from tagmask.catalogue import describe_methods as methods
    from tagmask.catalogue import register_method
    from tagmask.clip.load import Clip, load
    from tagmask.data.catalogue import register_dataset
    from tagmask.resolve import recipe, recipes
    from tagmask.results import Segmentation, Tags
    from tagmask.runs.reader import Run
    from tagmask.weak.students.student import Student

__version__ = "0.1.0"

__all__ = [
    "Clip",
    "Run",
    "Segmentation",
    "Segmenter",
    "Student",
    "Tagger",
    "TagmaskError",
    "Tags",
    "load",
    "methods",
    "recipe",
    "recipes",
    "register_dataset",
    "register_method",
]

_LAZY_NAMES = {
    "Clip": ("tagmask.clip.load", "Clip"),
    "Run": ("tagmask.runs.reader", "Run"),
    "Segmentation": ("tagmask.results", "Segmentation"),
    "Segmenter": ("tagmask.api", "Segmenter"),
    "Student": ("tagmask.weak.students.student", "Student"),
    "Tagger": ("tagmask.api", "Tagger"),
    "Tags": ("tagmask.results", "Tags"),
    "load": ("tagmask.clip.load", "load"),
    "methods": ("tagmask.catalogue", "describe_methods"),
    "recipe": ("tagmask.resolve", "recipe"),
    "recipes": ("tagmask.resolve", "recipes"),
    "register_dataset": ("tagmask.data.catalogue", "register_dataset"),
    "register_method": ("tagmask.catalogue", "register_method"),
}


def __getattr__(name: str) -> object:
    # Imported on first use: importing tagmask must not import torch.
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY_NAMES[name]
    value: object = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
