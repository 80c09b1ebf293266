"""A trained student with the interface of a `Segmenter`: images in, `Segmentation`s out."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, overload

from tagmask.checks import check_choice
from tagmask.images import ImageSource, read_image
from tagmask.results import Segmentation, named
from tagmask.types import Image
from tagmask.weak.students.evaluate import EVALUATIONS, EvaluationSettings, predict
from tagmask.weak.students.student_file import TrainedStudent, load_student

__all__ = ["Student"]

Source = TypeVar("Source", bound=ImageSource)


class Student:
    """Segment images into the words of its training. Needs no CLIP and no words at run time.

    Args:
        trained: a file that `tagmask train student` wrote; or network and card.
        settings: inference settings; default: one forward pass at the image's size.
        device: where to load a file: "auto" (CUDA, then MPS, then CPU) or a torch device name.
        **changes: any field of the settings by name, such as `flip=True`, `crf="weakclip/student-voc"`.

    Raises:
        WeightsError: the file cannot be used.
        InputError: an unknown device, or unknown or invalid settings.
    """

    def __init__(
        self,
        trained: TrainedStudent | str | os.PathLike[str],
        settings: EvaluationSettings | None = None,
        *,
        device: str = "auto",
        **changes: object,
    ) -> None:
        base = settings or EVALUATIONS["plain"]
        for name in changes:
            check_choice("setting", name, tuple(vars(base)))
        if not isinstance(trained, TrainedStudent):
            trained = load_student(Path(trained), device=device)
        self.trained: TrainedStudent = trained
        self.settings = replace(base, **changes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"Student({self.trained.card.student}: {named(self.words)})"

    @property
    def words(self) -> tuple[str, ...]:
        """Class name of each label."""
        return self.trained.card.words

    @property
    def background(self) -> bool:
        """Whether label 0 is the background."""
        return self.trained.card.background

    @overload
    def __call__(
        self, image: ImageSource, *, scores: bool = False, confidence: bool = False
    ) -> Segmentation: ...
    @overload
    def __call__(
        self, image: list[Source] | tuple[Source, ...], *, scores: bool = False, confidence: bool = False
    ) -> list[Segmentation]: ...
    def __call__(
        self,
        image: ImageSource | list[Source] | tuple[Source, ...],
        *,
        scores: bool = False,
        confidence: bool = False,
    ) -> Segmentation | list[Segmentation]:
        """Segment one image, or a list of images one after another.

        Args:
            image: path, encoded bytes, PIL image, or uint8 array (h, w, 3); or a list or tuple of these.
            scores: also return the score of every class at every pixel, float32 (classes, h, w).
            confidence: also return how sure each class is: `Segmentation.confidence` and
                `Segmentation.class_confidence`.

        Raises:
            ImageError: an image cannot be read.
        """
        if isinstance(image, list | tuple):
            return self._segment(image, scores, confidence)
        return self._segment([image], scores, confidence)[0]

    def _segment(self, sources: Sequence[ImageSource], scores: bool, confidence: bool) -> list[Segmentation]:
        return [self._masked(read_image(source), scores, confidence) for source in sources]

    def _masked(self, image: Image, scores: bool, confidence: bool) -> Segmentation:
        found = predict(self.trained, image, self.settings, keep_scores=scores, keep_winning=confidence)
        labels = found.labels
        sure = None if found.winning is None else found.winning.summarise(labels, self.words, self.background)
        return Segmentation(
            words=self.words,
            labels=labels,
            scores=found.scores,
            background=self.background,
            precision="float32",
            class_confidence=None if sure is None else sure.class_confidence,
            confidence=None if sure is None else sure.confidence,
        )
