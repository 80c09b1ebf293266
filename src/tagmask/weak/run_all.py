"""From words and images to an exported student: every step in a folder of its own, none done twice.

    OUT/seeds  OUT/weakclip  OUT/pseudo  OUT/student  OUT/export/student.onnx  OUT/report.html

All that the steps will need is checked before the first one.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tagmask import __version__
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.files import file_hash, write_bytes
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.runtime.tag_files import read_tags
from tagmask.weak.config import TrainConfig
from tagmask.weak.export import check_onnx, export_onnx, missing_packages
from tagmask.weak.loop import MODEL_FILE, Report
from tagmask.weak.mask_folder import MaskOutcome, MaskSource, write_masks
from tagmask.weak.prechecks import check_student, check_weakclip, pairs_of, words_for
from tagmask.weak.run_folder import open_run_folder
from tagmask.weak.seeds import SeedOptions, seed_source
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.student import Student
from tagmask.weak.students.student_file import load_student
from tagmask.weak.summary import run_page

__all__ = ["Progress", "RunFolders", "RunOptions", "RunResult", "Silent", "masks_written", "run_all"]

_LOG = logging.getLogger(__name__)

STEPS = ("seeds", "WeakCLIP", "pseudo-masks", "student", "export", "report")


@runtime_checkable
class Progress(Protocol):
    """What is called as a run goes on."""

    def begin(self, number: int, steps: int, name: str) -> None:
        """A step begins; they are counted from 1."""

    def masks(self, outcomes: Iterable[MaskOutcome], total: int, folder: Path) -> Iterable[MaskOutcome]:
        """Pass on what became of each image."""

    def training(self, what: str) -> AbstractContextManager[Callable[[Report], None]]:
        """For the length of a training: give what is called now and then with how it stands."""

    def made(self, path: Path) -> None:
        """A step has made a file."""


class Silent:
    """Progress that nobody watches."""

    def begin(self, number: int, steps: int, name: str) -> None:
        """Do nothing."""

    def masks(self, outcomes: Iterable[MaskOutcome], total: int, folder: Path) -> Iterable[MaskOutcome]:
        """Pass them on."""
        return outcomes

    def training(self, what: str) -> AbstractContextManager[Callable[[Report], None]]:
        """Do nothing with reports."""
        return nullcontext(lambda report: None)

    def made(self, path: Path) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class RunFolders:
    """Where each step works."""

    out: Path

    @property
    def seeds(self) -> Path:
        """Masks that WeakCLIP learns from."""
        return self.out / "seeds"

    @property
    def weakclip(self) -> Path:
        """WeakCLIP's run."""
        return self.out / "weakclip"

    @property
    def pseudo(self) -> Path:
        """Masks that the student learns from."""
        return self.out / "pseudo"

    @property
    def student(self) -> Path:
        """The student's run."""
        return self.out / "student"

    @property
    def onnx(self) -> Path:
        """The exported student."""
        return self.out / "export" / "student.onnx"

    @property
    def report(self) -> Path:
        """The page on all steps."""
        return self.out / "report.html"


@dataclass(frozen=True)
class RunOptions:
    """What each step is given, all of it resolved."""

    images: Path
    """Folder of images."""
    out: Path
    seeds: SeedOptions
    weakclip: TrainConfig
    """With its folders (see `RunFolders`) and CLIP's weights."""
    student: TrainConfig
    """With its folders."""
    pseudo: PseudoSettings
    device: str = "auto"
    """Of pseudo-masks and report, as `tagmask.load` takes it."""
    precision: str = "auto"
    """Of pseudo-masks, likewise."""


@dataclass(frozen=True)
class RunResult:
    """What came of a run."""

    images: int
    failed: int
    """Images of which no seed could be made."""
    student: Path
    onnx: Path | None
    """None: not exported, for lack of packages."""
    report: Path
    seconds: Mapping[str, float]
    """Of each step."""


def run_all(options: RunOptions, clip: Callable[[], Clip], progress: Progress | None = None) -> RunResult:
    """Do every step that is not done.

    Args:
        options: of all steps.
        clip: loads the CLIP that makes the seeds, the same weights as WeakCLIP's.
        progress: called as the run goes on.

    Raises:
        TagmaskError: what a step cannot work with, as far as possible before the first one; what was done
            before is kept.
    """
    progress = progress or Silent()
    folders = RunFolders(options.out)
    images, source = _checked(options, clip)
    tags_file = options.seeds.tags_file
    tags = None if tags_file is None else read_tags(tags_file, len(source.words) - 1)
    missing = missing_packages()
    if missing:
        _LOG.warning(
            "the student will not be exported: %s is not installed (pip install 'tagmask[export]', then "
            "tagmask export %s student.onnx)",
            ", ".join(missing),
            folders.student / MODEL_FILE,
        )
    seconds: dict[str, float] = {}

    @contextmanager
    def step(number: int) -> Iterator[None]:
        name = STEPS[number - 1]
        progress.begin(number, len(STEPS), name)
        began = time.monotonic()
        yield
        seconds[name] = time.monotonic() - began

    with step(1):
        failed = masks_written(images, source, folders.seeds, progress)
    del source  # and the CLIP in it
    with step(2), progress.training("WeakCLIP") as watch:
        progress.made(train_weakclip(options.weakclip, folders.weakclip, watch))
    with step(3):
        pseudo = pseudo_source(
            folders.weakclip, options.pseudo, device=options.device, precision=options.precision, tags=tags
        )
        masks_written(images, pseudo, folders.pseudo, progress)
        del pseudo
    with step(4), progress.training("student") as watch:
        student = train_student(options.student, folders.student, watch)
        progress.made(student)
    with step(5):
        if not missing:
            _export(student, folders.onnx)
            progress.made(folders.onnx)
    with step(6):
        _write_report(images, options, folders, seconds)
        progress.made(folders.report)
    onnx = None if missing else folders.onnx
    return RunResult(len(images), failed, student, onnx, folders.report, seconds)


def masks_written(images: list[FoundImage], source: MaskSource, folder: Path, progress: Progress) -> int:
    """Write the masks of all images; return how many images failed.

    Raises:
        TagmaskError: see `write_masks`.
    """
    outcomes = progress.masks(write_masks(images, source, folder), len(images), folder)
    return sum(outcome.result is None for outcome in outcomes)


def _checked(options: RunOptions, clip: Callable[[], Clip]) -> tuple[list[FoundImage], MaskSource]:
    """The images and what makes their seeds, once nothing that is known by now stands against any step."""
    if not options.images.is_dir():
        raise InputError(f"{options.images} is no folder; give the folder that holds the images")
    images = _outside(find_images([options.images]), options.out)
    for config in (options.weakclip, options.student):
        pairs_of(config)
    loaded: list[Clip] = []

    def load_once() -> Clip:
        loaded[:] = loaded or [clip()]
        return loaded[0]

    source = seed_source(images, options.seeds, load_once)
    for config, folder in ((options.weakclip, "seeds"), (options.student, "pseudo")):
        words_for(config, source.words, options.out / folder)
    check_weakclip(options.weakclip, options.weakclip.model.words or source.words, load_once().geometry)
    check_student(options.student, options.student.model.words or source.words)
    return images, source


def _outside(images: list[FoundImage], out: Path) -> list[FoundImage]:
    """Refuse an `out` among the images, where masks would be taken for images."""
    inside = out.resolve()
    if any(inside in image.path.resolve().parents for image in images):
        raise InputError(f"{out} lies among the images; choose an --out outside their folder")
    return images


def _export(student: Path, file: Path) -> None:
    with open_run_folder(file.parent, "export", {"student": file_hash(student)}, {}) as stage:
        if not stage.finished:
            trained = load_student(student)
            export_onnx(trained, file)
            stage.finish(difference=check_onnx(file, trained))


def _write_report(
    images: list[FoundImage], options: RunOptions, folders: RunFolders, seconds: Mapping[str, float]
) -> None:
    student = Student.load(folders.student / MODEL_FILE, device=options.device)
    page = run_page(
        images,
        {"seeds": folders.seeds, "pseudo-masks": folders.pseudo},
        {"WeakCLIP": folders.weakclip, "student": folders.student},
        student,
        {
            "Words": ", ".join(student.words),
            "Images": str(len(images)),
            "Weights": options.weakclip.model.weights,
            "Student": student.trained.card.student,
            "Time": ", ".join(f"{name} {spent:.0f} s" for name, spent in seconds.items()),
            "Version": f"tagmask {__version__}",
        },
    )
    write_bytes(folders.report, page.encode())
