"""What several figures need while they are made: the model, the scenes, and what was measured so far."""

from collections.abc import Iterable
from functools import cached_property

import tagmask
from tagmask.bench.miniature.ground_truth import scenes
from tagmask.bench.miniature.run import Measurements, Setup, measure_setups
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
        self._measured = Measurements((), scenes(count), {}, {})

    @cached_property
    def clip(self) -> Clip:
        """The bundled model."""
        return tagmask.load("miniature", device="cpu", precision=PRECISION)

    def measure(self, setups: Iterable[Setup]) -> Measurements:
        """Measure the setups that were not measured before, and return all measurements."""
        self._measured = measure_setups(self.clip, self._measured.scenes, setups, self._measured)
        return self._measured
