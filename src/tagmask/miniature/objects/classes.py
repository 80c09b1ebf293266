"""The object class of the miniature data set."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tagmask.miniature.draw import Colour, Part

__all__ = ["ObjectClass", "Style"]

Style = Callable[[Colour, np.random.Generator], list[Part]]
"""Draws one object of a class in the given main colour."""


@dataclass(frozen=True)
class ObjectClass:
    """An object word and its drawing styles."""

    name: str
    styles: tuple[Style, ...]
    """The last one is excluded from training."""
    synonyms: tuple[str, ...] = ()
    """Other words for it in captions."""
    tilt: float = 0.03
    """Maximum rotation in turns, in both directions; 0.5 allows any."""
