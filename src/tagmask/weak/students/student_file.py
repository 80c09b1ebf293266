"""Save and load a trained student as one safetensors file that has everything to run it in its header.

student     name in the catalogue            words       JSON list, one per label
settings    JSON object, of `build_student`  background  "true": label 0 is the background
mean, std   JSON lists, of pixels in 0..1    multiple    divisor of the input's sides
format      "tagmask-student/1"              made_with   JSON object, versions, for information
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors.torch
import torch
from torch import nn

from tagmask import __version__
from tagmask.checks import check_choice
from tagmask.clip.archives import STUDENT_FORMAT, read_weights
from tagmask.clip.finite import check_finite
from tagmask.clip.hardware import choose_device
from tagmask.errors import InputError, WeightsError
from tagmask.files import write_bytes
from tagmask.printable import short_repr, shortened
from tagmask.strict_json import json_text
from tagmask.weak.fitting import misfits
from tagmask.weak.students.catalogue import STUDENTS, build_student
from tagmask.weak.students.kind import StudentKind

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "StudentCard",
    "TrainedStudent",
    "load_student",
    "save_student",
]

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
FORMAT = f"{STUDENT_FORMAT}/1"


@dataclass(frozen=True)
class StudentCard:
    """Description of a student: architecture, classes and preprocessing.

    Raises:
        InputError: an unknown student, fewer than two words, a repeated or empty word, or a std that is not
            positive.
    """

    student: str
    """Name in the catalogue."""
    words: tuple[str, ...]
    """Class name of each label."""
    background: bool
    """Whether label 0 is the background."""
    settings: Mapping[str, int | float] = field(default_factory=dict)
    """Settings of `build_student`."""
    mean: Triple = IMAGENET_MEAN
    """Subtracted from pixels in 0..1."""
    std: Triple = IMAGENET_STD
    """Divides pixels in 0..1 after the mean is subtracted."""

    def __post_init__(self) -> None:
        check_choice("student", self.student, tuple(STUDENTS))
        if len(self.words) < 2 or len(set(self.words)) < len(self.words) or not all(self.words):
            raise InputError(f"words are {self.words!r}. Give at least two, all different, none empty.")
        if min(self.std) <= 0:
            raise InputError(f"std is {self.std}. Give positive numbers.")
        if not all(map(isfinite, (*self.mean, *self.std))):
            raise InputError(f"mean is {self.mean} and std is {self.std}. Give finite numbers.")

    @property
    def kind(self) -> StudentKind:
        """The student's architecture."""
        return STUDENTS[self.student]


@dataclass(frozen=True, eq=False)
class TrainedStudent:
    """A network and its card."""

    card: StudentCard
    net: nn.Module = field(repr=False)


def save_student(path: Path, student: TrainedStudent) -> None:
    """Write a student to a file, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    card = student.card
    header = {
        "format": FORMAT,
        "student": card.student,
        "settings": json_text(dict(card.settings)),
        "words": json_text(card.words, ensure_ascii=False),
        "background": json_text(card.background),
        "mean": json_text(card.mean),
        "std": json_text(card.std),
        "multiple": json_text(card.kind.multiple),
        "made_with": json_text(_versions()),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.net.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, header))


def load_student(path: Path, *, device: str = "cpu") -> TrainedStudent:
    """Load a student, in evaluation mode and without gradients.

    Args:
        path: a file that `save_student` wrote.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device name.

    Raises:
        WeightsError: the file is absent, damaged, not a student, or from an incompatible version of this
            package or of transformers.
        InputError: an unknown device, or the student needs transformers, which is not installed.
    """
    target = choose_device(device)
    archive = read_weights(path)
    card = _card(path, archive.metadata)
    net = _unfilled(path, card)
    problems = misfits(net.state_dict(), archive.tensors)
    if problems:
        made_with = shortened(archive.metadata.get("made_with", "unknown versions"), 200)
        raise WeightsError(
            f"{path} does not fit the student {card.student!r} of this version ({problems}). "
            f"It was made with {made_with}. Install these, or train it again."
        )
    check_finite(archive.tensors, path)
    if card.settings:
        net = net.to_empty(device="cpu")
    net.load_state_dict(archive.tensors)
    return TrainedStudent(card, net.requires_grad_(False).eval().to(target))


def _unfilled(path: Path, card: StudentCard) -> nn.Module:
    """Build a student's network; one whose sizes the file decides uses no memory yet.

    Raises:
        WeightsError: settings out of range.
        InputError: transformers is needed and not installed.
    """
    # Initialisation must not advance the user's generator.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if card.settings else "cpu"):
        try:
            return build_student(card.student, len(card.words), weights=None, **card.settings)
        except (InputError, TypeError) as error:
            if not card.settings:
                raise
            raise WeightsError(f"{path} is damaged: {shortened(str(error), 200)}") from error


def _card(path: Path, header: Mapping[str, str]) -> StudentCard:
    if header.get("format") != FORMAT:
        found = short_repr(header.get("format"))
        raise WeightsError(
            f"{path} is not a student file of this version: its format is {found}, not "
            f"{FORMAT!r}. Give a file that `save_student` wrote."
        )
    try:
        settings = _read(header, "settings", dict)
        for name, value in settings.items():
            if not isinstance(value, int | float):
                raise ValueError(f"{shortened(name)} is {short_repr(value)}")
        card = StudentCard(
            student=header["student"],
            words=tuple(str(word) for word in _read(header, "words", list)),
            background=_read(header, "background", bool),
            settings=MappingProxyType(settings),
            mean=_triple(header, "mean"),
            std=_triple(header, "std"),
        )
        multiple = _read(header, "multiple", int)
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:  # InputError too
        reason = shortened(str(error), 200)
        raise WeightsError(f"{path} is damaged: its header cannot be read ({reason}).") from error
    if multiple != card.kind.multiple:
        raise WeightsError(
            f"{path} needs sides that are multiples of {shortened(multiple)}, but {card.student!r} takes "
            f"multiples of {card.kind.multiple} here. It was made by another version; train it again."
        )
    return card


def _read(header: Mapping[str, str], key: str, kind: type) -> Any:  # noqa: ANN401
    value = json.loads(header[key])
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {short_repr(header[key])}")
    return value


def _triple(header: Mapping[str, str], key: str) -> Triple:
    first, second, third = (float(number) for number in _read(header, key, list))
    return first, second, third


def _versions() -> dict[str, str]:
    versions = {"tagmask": __version__, "torch": torch.__version__}
    with suppress(PackageNotFoundError):
        versions["transformers"] = version("transformers")
    return versions
