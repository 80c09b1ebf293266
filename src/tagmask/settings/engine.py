"""What runs the first blocks of the image tower, and in what precision."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tagmask.checks import check_choice, check_installed
from tagmask.errors import InputError
from tagmask.images import ImageSource

__all__ = ["ENGINES", "EngineSettings", "engine_settings"]

ENGINES = ("torch", "openvino")


@dataclass(frozen=True, eq=False)
class EngineSettings:
    """An engine, for `Segmenter(engine=...)` and `Tagger(engine=...)`."""

    name: str = "torch"
    """"torch" or "openvino"."""
    precision: str | None = None
    """"int8": the products of the first blocks with their weights in 8 bits, "openvino" only. None: the
    precision of the weights as loaded, which in any case is that of everything else."""
    images: Sequence[ImageSource] = field(default=(), repr=False)
    """Photos like those to be processed, from which int8 takes the ranges of its numbers."""

    def __post_init__(self) -> None:
        check_choice("engine", self.name, ENGINES)
        if self.precision is not None:
            check_choice("precision of an engine", self.precision, ("int8",))
        if self.precision and self.name != "openvino":
            raise InputError(f"{self.name} does not compute in int8. Give the engine 'openvino'.")
        if self.precision and not len(self.images):
            raise InputError("int8 is calibrated on photos, and none are given. Give 16 or more.")
        if len(self.images) and not self.precision:
            raise InputError("Photos to calibrate on have no effect without precision='int8'.")

    def check_installed(self) -> None:
        """Check that the packages of the engine are installed.

        Raises:
            InputError: one is not.
        """
        if self.name == "openvino":
            check_installed("The engine openvino", "openvino", "openvino")
        if self.precision:
            check_installed("Calibrating int8", "openvino", "nncf")


def engine_settings(engine: str | EngineSettings | None) -> EngineSettings | None:
    """Return the settings of an engine given by name, checked before any work; None stays None.

    Raises:
        InputError: no such engine, or it is not installed.
    """
    if engine is None:
        return None
    settings = EngineSettings(engine) if isinstance(engine, str) else engine
    settings.check_installed()
    return settings
