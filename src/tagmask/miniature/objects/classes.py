"""What a class of objects in the miniature world is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tagmask.miniature.draw import Colour, Part

__all__ = ["ObjectClass", "Style"]

Style = Callable[[Colour, np.random.Generator], list[Part]]
"""Draws one object of a class: its main colour in, its parts out."""


@dataclass(frozen=True)
class ObjectClass:
    """A word and the ways of drawing what it names."""

    name: str
    styles: tuple[Style, ...]
    """The last one is never trained on."""
    synonyms: tuple[str, ...] = ()
    """Other words for it that captions use."""
    tilt: float = 0.03
    """Largest rotation in turns, to either side; 0.5 is any."""
