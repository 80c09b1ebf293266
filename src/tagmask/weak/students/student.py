"""A trained student, called like a `Segmenter`: pictures in, `Segmentation`s out."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, overload

from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image
from tagmask.results import Segmentation
from tagmask.weak.students.evaluate import EVALUATIONS, EvaluationSettings, predict
from tagmask.weak.students.student_file import TrainedStudent, load_student

__all__ = ["Student"]

Source = TypeVar("Source", bound=ImageSource)


class Student:
    """Says where its words are in a picture. Needs no CLIP and no words: both are in its training.

    Args:
        trained: network and card.
        settings: how pictures are looked at; by default once, at their own size.
        **changes: any field of the settings by name, such as `flip=True`, `crf="weakclip/student-voc"`.

    Raises:
        InputError: unknown or unusable settings.
    """

    def __init__(
        self, trained: TrainedStudent, settings: EvaluationSettings | None = None, **changes: object
    ) -> None:
        base = settings or EVALUATIONS["plain"]
        unknown = sorted(changes.keys() - vars(base).keys())
        if unknown:
            raise InputError(f"there is no setting {unknown[0]!r}; give one of {', '.join(vars(base))}")
        self.trained = trained
        self.settings = replace(base, **changes)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto", **changes: object) -> "Student":
        """Read a student's file.

        Args:
            path: as `save_student` wrote it.
            device: "auto" (CUDA, then MPS, then CPU) or a torch device name.
            **changes: fields of `EvaluationSettings`.

        Raises:
            WeightsError: the file cannot be used.
            InputError: an unknown device or setting.
        """
        return cls(load_student(Path(path), device=device), None, **changes)

    @property
    def words(self) -> tuple[str, ...]:
        """What each label is called."""
        return self.trained.card.words

    @property
    def background(self) -> bool:
        """Whether label 0 is the background."""
        return self.trained.card.background

    @overload
    def __call__(self, image: ImageSource, *, scores: bool = False) -> Segmentation: ...
    @overload
    def __call__(
        self, image: list[Source] | tuple[Source, ...], *, scores: bool = False
    ) -> list[Segmentation]: ...
    def __call__(
        self, image: ImageSource | list[Source] | tuple[Source, ...], *, scores: bool = False
    ) -> Segmentation | list[Segmentation]:
        """Mask one image, or a list of images one after another.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3); or a list or tuple of these.
            scores: also keep every class's score at every pixel, float32 (classes, h, w).

        Raises:
            ImageError: an image that cannot be read.
        """
        if isinstance(image, list | tuple):
            return self._mask(image, scores)
        return self._mask([image], scores)[0]

    def _mask(self, sources: Sequence[ImageSource], scores: bool) -> list[Segmentation]:
        found = []
        for source in sources:
            said = predict(self.trained, read_image(source), self.settings, keep_scores=scores)
            found.append(
                Segmentation(
                    words=self.words,
                    labels=said.labels,
                    scores=said.scores,
                    background=self.background,
                    precision="float32",
                )
            )
        return found
