"""Validation of a model during its training, on a data set or on a folder of images and masks."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagmask.bench.metrics import ConfusionMatrix
from tagmask.data.catalogue import open_dataset, split_of
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, TagmaskError
from tagmask.weak.validation import Counts, SegmentFunction

__all__ = ["DataSetValidation", "open_validation"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DataSetValidation:
    """Images of a data set to validate on, with one forward pass each.

    Images that cannot be read are left out, with a warning.
    """

    dataset: Dataset
    name: str
    every: int
    """Steps between two validations."""
    samples: Sequence[Sample]

    @property
    def identity(self) -> str:
        """The images, by the hash of their ids."""
        ids = "\n".join(sample.id for sample in self.samples).encode("utf-8", "surrogateescape")
        return f"{self.name}, {len(self.samples)} images ({hashlib.sha256(ids).hexdigest()[:12]})"

    def check(self, words: Sequence[str]) -> None:
        """Check that a model has the data set's classes.

        Raises:
            InputError: the numbers of classes differ, or both name the same classes in another order.
        """
        classes = self.dataset.classes
        if len(words) != len(classes):
            raise InputError(
                f"The model has {len(words)} classes, {self.name} has {len(classes)}. Validate on images "
                "with the model's classes."
            )
        if set(words) == set(classes) and tuple(words) != classes:
            raise InputError(
                f"{self.name} numbers the model's classes in another order: {', '.join(classes)}. Give the "
                "words in that order."
            )

    def counts(self, segment: SegmentFunction, first: int, step: int) -> Counts:
        """Count pixels by true and predicted class, of every `step`-th image from `first` on."""
        classes = len(self.dataset.classes)
        matrix = ConfusionMatrix(classes, self.dataset.ignore)
        for sample in self.samples[first::step]:
            try:
                if sample.read_mask is None:
                    raise InputError("It has no mask.")
                image, truth = sample.read_image(), sample.read_mask()
                matrix.update(segment(image), truth)
            except (TagmaskError, OSError) as error:
                _LOG.warning("Not validated: %s: %s", sample.id, error)
        counts: Counts = np.zeros((classes, classes + 1), np.int64)
        for true, predicted, pixels in matrix.cells():
            counts[true, predicted] = pixels
        return counts

    def miou(self, counts: Counts) -> float:
        """Mean IoU in percent, over the classes in the ground truth or the predictions."""
        matrix = ConfusionMatrix(len(self.dataset.classes), self.dataset.ignore)
        true, predicted = np.nonzero(counts)
        matrix.add(zip(true.tolist(), predicted.tolist(), counts[true, predicted].tolist(), strict=True))
        return 100 * matrix.miou()


def open_validation(what: str, root: Path | None, every: int, most: int | None = None) -> DataSetValidation:
    """Open the images to validate on.

    Args:
        what: "DATASET" or "DATASET/SPLIT"; or a folder with classes.txt, images/ and masks/.
        root: the data set's folder; None if it needs none.
        every: steps between two validations.
        most: use at most so many images, evenly spaced; None: all.

    Raises:
        InputError: an unknown data set or split, a missing folder, or images without published masks.
    """
    if Path(what).is_dir():
        name, dataset = what, open_dataset("folder", Path(what))
    else:
        data, _, split = what.partition("/")
        split = split_of(data, split or None)
        name, dataset = f"{data} {split}", open_dataset(data, root or Path(), split)
    if not dataset.classes or not dataset.labelled:
        raise InputError(f"{name} has no masks to validate on. Give a data set or a folder with masks.")
    samples, count = dataset.samples, len(dataset.samples)
    if most is not None and most < count:
        samples = [samples[i * count // most] for i in range(most)]
    return DataSetValidation(dataset, name, every, samples)
