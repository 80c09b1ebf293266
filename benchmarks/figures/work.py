"""What several figures need while they are made: the model, the scenes, and what was measured so far."""

from collections.abc import Iterable
from functools import cached_property

import tagmask
from tagmask.bench.miniature.ground_truth import scenes
from tagmask.bench.miniature.run import Measurements, measure_setups
from tagmask.bench.miniature.setups import Setup
from tagmask.clip.load import Clip

__all__ = ["COUNT", "PRECISION", "Work"]

COUNT = 100
"""Number of test scenes in the tables."""
PRECISION = "bfloat16"
"""Of the tables' matrix products. Fixed, so that they do not depend on the machine."""


class Work:
    """Loads and measures on demand; a setup that several tables share is measured once.

    Args:
        count: number of test scenes.
    """

    def __init__(self, count: int = COUNT) -> None:
        self._count = count
        self._measured: Measurements | None = None

    @cached_property
    def clip(self) -> Clip:
        """The bundled model."""
        return tagmask.load("miniature", device="cpu", precision=PRECISION)

    def measure(self, setups: Iterable[Setup]) -> Measurements:
        """Measure the setups that were not measured before, and return all measurements."""
        known = self._measured or Measurements((), scenes(self._count), {}, {})
        self._measured = measure_setups(self.clip, known.scenes, setups, known)
        return self._measured
