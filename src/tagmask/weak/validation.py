"""Validation during training: mIoU on images with known masks, and the best model so far.

    FOLDER/validation.csv      a row per validation: step, mIoU
    FOLDER/best.safetensors    the model of the best row

A checkpoint is written after each validation, so that a run that resumes repeats a validation or goes on
behind it. Validation changes neither the model nor the randomness of later steps.
"""

import logging
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from tagmask.types import Image
from tagmask.weak.train_log import TrainLog, read_log

__all__ = ["BEST_FILE", "VALIDATION_FILE", "BestModel", "Counts", "SegmentFunction", "Validation"]

BEST_FILE = "best.safetensors"
VALIDATION_FILE = "validation.csv"

SegmentFunction: TypeAlias = Callable[[Image], UInt8[np.ndarray, "_ _"] | UInt16[np.ndarray, "_ _"]]
"""Label every pixel of an image, with one forward pass at one scale."""

Counts: TypeAlias = Int64[np.ndarray, "_ _"]
"""Pixels by true and predicted class."""

_LOG = logging.getLogger(__name__)


@runtime_checkable
class Validation(Protocol):
    """Images with known masks to validate on."""

    @property
    def name(self) -> str:
        """What people call the images."""
        ...

    @property
    def identity(self) -> str:
        """Which images they are; a run that resumes must validate on the same ones."""
        ...

    @property
    def every(self) -> int:
        """Steps between two validations."""
        ...

    def check(self, words: Sequence[str]) -> None:
        """Check before the first step that a model with these classes can be validated."""

    def counts(self, segment: SegmentFunction, first: int, step: int) -> Counts:
        """Count pixels of every `step`-th image, from `first` on; processes share the images this way."""
        ...

    def miou(self, counts: Counts) -> float:
        """Mean IoU in percent, of the counts of all images; NaN if there is nothing to score."""
        ...


class BestModel:
    """Records validations, and keeps the best model.

    Args:
        folder: run folder.
        done: steps done; later rows are removed, since their steps will be repeated.
        name: of the images, for messages.

    Raises:
        InputError: `validation.csv` cannot be read.
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, done: int, name: str) -> None:
        self._folder, self._name = folder, name
        self._log = TrainLog(folder, done, file=VALIDATION_FILE)
        rows = [(row["miou"], int(row["step"])) for row in read_log(folder, VALIDATION_FILE)]
        known = [row for row in rows if not isnan(row[0])]
        self._best = max(known, key=lambda row: row[0], default=None)

    def add(self, step: int, miou: float, save: Callable[[Path], None]) -> None:
        """Record a validation, and save the model if it is the best so far.

        Args:
            step: steps done.
            miou: in percent.
            save: writes the model to a file, atomically.

        Raises:
            OutputError: a file cannot be written.
        """
        best = self._best
        if not isnan(miou) and (best is None or miou > best[0]):
            save(self._folder / BEST_FILE)  # first: the file is then at least as good as its row says
            self._best = (miou, step)
            compared = "the best so far" if best is not None else "the first"
        else:
            compared = f"the best is {best[0]:.2f}, after step {best[1]}" if best else "nothing was scored"
        self._log.add(step, {"miou": miou})
        self._log.flush()
        _LOG.info("Validation after step %d: mIoU %.2f on %s, %s", step, miou, self._name, compared)
