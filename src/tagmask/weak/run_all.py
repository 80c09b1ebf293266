"""The whole pipeline, from words and images to an exported student; finished steps are skipped.

    OUT/seeds  OUT/weakclip  OUT/pseudo  OUT/student  OUT/export/student.onnx  OUT/report.html

With seeds of an MCTformer, its training comes first, in OUT/mctformer.

The inputs of all steps are checked before the first one.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tagmask import __version__
from tagmask.checks import missing_packages
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.files import file_hash, write_bytes
from tagmask.runs.folder import RunFolder
from tagmask.runs.ownership import leave_out_outputs
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Work, produce
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.runtime.tag_files import read_tags
from tagmask.weak.config import TrainConfig
from tagmask.weak.export import check_onnx, export_onnx
from tagmask.weak.loop import MODEL_FILE, Report
from tagmask.weak.mask_folder import MaskSource, mask_work, open_masks
from tagmask.weak.mctformer_steps import check_mctformer, train_mctformer
from tagmask.weak.prechecks import check_student, check_weakclip, pairs_of, words_for
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.seeds import seed_source
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.student import Student
from tagmask.weak.students.student_file import load_student
from tagmask.weak.summary import run_page
from tagmask.weak.training_folder import open_training
from tagmask.weak.validation import Validation

__all__ = ["Progress", "RunFolders", "RunOptions", "RunResult", "Silent", "run_all", "write_all_masks"]

_LOG = logging.getLogger(__name__)

MCTFORMER_STEP = "MCTformer"
STEPS = ("seeds", "WeakCLIP", "pseudo-masks", "student", "export", "report")


@runtime_checkable
class Progress(Protocol):
    """Progress callbacks of a run."""

    def begin(self, number: int, steps: int, name: str) -> None:
        """Called when a step begins; `number` counts from 1."""

    def masks(self, run: RunFolder, plan: Plan, work: Work) -> int:
        """Called to compute the masks of a plan, with `produce`; returns how many images failed."""

    def training(self, what: str) -> AbstractContextManager[Callable[[Report], None]]:
        """Return a context manager for one training; it yields the callback for progress reports."""

    def written(self, path: Path) -> None:
        """Called when a step has written its output file."""


class Silent:
    """Progress callbacks that do nothing."""

    def begin(self, number: int, steps: int, name: str) -> None:
        """Do nothing."""

    def masks(self, run: RunFolder, plan: Plan, work: Work) -> int:
        """Compute the masks."""
        return sum(each.result is None for each in produce(run, plan, work))

    def training(self, what: str) -> AbstractContextManager[Callable[[Report], None]]:
        """Ignore reports."""
        return nullcontext(lambda report: None)

    def written(self, path: Path) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class RunFolders:
    """Output paths of the steps."""

    out: Path

    @property
    def seeds(self) -> Path:
        """Masks that WeakCLIP is trained on."""
        return self.out / "seeds"

    @property
    def mctformer(self) -> Path:
        """The MCTformer's run folder, if it makes the seeds."""
        return self.out / "mctformer"

    @property
    def weakclip(self) -> Path:
        """WeakCLIP's run folder."""
        return self.out / "weakclip"

    @property
    def pseudo(self) -> Path:
        """Masks that the student is trained on."""
        return self.out / "pseudo"

    @property
    def student(self) -> Path:
        """The student's run folder."""
        return self.out / "student"

    @property
    def onnx(self) -> Path:
        """The exported student."""
        return self.out / "export" / "student.onnx"

    @property
    def report(self) -> Path:
        """The HTML report on all steps."""
        return self.out / "report.html"


@dataclass(frozen=True)
class RunOptions:
    """Resolved options of all steps."""

    images: Path
    """Folder of images."""
    out: Path
    """Output folder."""
    seeds: SeedOptions
    weakclip: TrainConfig
    """With the data folders (see `RunFolders`) and CLIP's weights set."""
    student: TrainConfig
    """With the data folders set."""
    pseudo: PseudoSettings
    mctformer: TrainConfig | None = None
    """Of the MCTformer that makes the seeds, with images, tags and words set; None: others make them."""
    validation: Validation | None = None
    """Images on which WeakCLIP and the student are validated during training."""
    device: str = "auto"
    """For pseudo-masks and report, as `tagmask.load` takes it."""
    precision: str = "auto"
    """For pseudo-masks, likewise."""


@dataclass(frozen=True)
class RunResult:
    """Outputs of a run."""

    images: int
    """Number of images."""
    failed: int
    """Number of images whose seed could not be computed."""
    student: Path
    """The trained student."""
    onnx: Path | None
    """The exported student; None if the packages for the export are missing."""
    report: Path
    """The HTML report."""
    seconds: Mapping[str, float]
    """Duration of each step."""


def run_all(options: RunOptions, clip: Callable[[], Clip], progress: Progress | None = None) -> RunResult:
    """Run every step that is not finished yet.

    Args:
        options: of all steps.
        clip: loads the CLIP for the seeds, with the same weights as WeakCLIP's.
        progress: progress callbacks.

    Raises:
        TagmaskError: an input cannot be used; raised before the first step where possible. Outputs of
            earlier steps are kept.
    """
    progress = progress or Silent()
    folders = RunFolders(options.out)
    images, words, source = _checked(options, clip)
    tags_file = options.seeds.tags_file
    tags = None if tags_file is None else read_tags(tags_file, len(words) - 1)
    missing = missing_packages("export")
    if missing:
        _LOG.warning(
            "The student will not be exported: %s is not installed. Run: pip install 'tagmask[export]', then "
            "tagmask export %s student.onnx",
            ", ".join(missing),
            folders.student / MODEL_FILE,
        )
    seconds: dict[str, float] = {}
    steps = STEPS if options.mctformer is None else (MCTFORMER_STEP, *STEPS)

    @contextmanager
    def step(name: str) -> Iterator[None]:
        progress.begin(steps.index(name) + 1, len(steps), name)
        start = time.monotonic()
        yield
        seconds[name] = time.monotonic() - start

    if options.mctformer is not None:
        with step(MCTFORMER_STEP), progress.training("MCTformer") as watch:
            progress.written(train_mctformer(options.mctformer, folders.mctformer, watch))
    with step("seeds"):
        source = source or seed_source(images, options.seeds, clip, folders.seeds)
        failed = write_all_masks(images, source, folders.seeds, progress)
    del source  # frees its CLIP or its MCTformer
    with step("WeakCLIP"), progress.training("WeakCLIP") as watch:
        progress.written(train_weakclip(options.weakclip, folders.weakclip, watch, options.validation))
    with step("pseudo-masks"):
        pseudo = pseudo_source(
            folders.weakclip, options.pseudo, device=options.device, precision=options.precision, tags=tags
        )
        write_all_masks(images, pseudo, folders.pseudo, progress)
        del pseudo
    with step("student"), progress.training("student") as watch:
        student = train_student(options.student, folders.student, watch, options.validation)
        progress.written(student)
    with step("export"):
        if not missing:
            _export(student, folders.onnx)
            progress.written(folders.onnx)
    with step("report"):
        _write_report(images, options, folders, seconds)
        progress.written(folders.report)
    onnx = None if missing else folders.onnx
    return RunResult(len(images), failed, student, onnx, folders.report, seconds)


def write_all_masks(images: list[FoundImage], source: MaskSource, folder: Path, progress: Progress) -> int:
    """Write the masks that are not there yet; return how many images failed.

    Masks and overlays of runs among the images are left out.

    Raises:
        TagmaskError: see `write_masks`.
    """
    with open_masks(source, folder) as run:
        return progress.masks(run, run.plan(leave_out_outputs(images, folder)), mask_work(run, source))


def _checked(
    options: RunOptions, clip: Callable[[], Clip]
) -> tuple[list[FoundImage], tuple[str, ...], MaskSource | None]:
    """Check the inputs of all steps.

    Returns:
        The images, the class names (background first), and the source of the seeds; None for that of an
        MCTformer, which is not trained yet.
    """
    if not options.images.is_dir():
        raise InputError(f"{options.images} is not a folder. Give the folder of the images.")
    images = _check_outside(find_images([options.images]), options.out)
    for config in (options.weakclip, options.student):
        pairs_of(config)
    cached: list[Clip] = []

    def load_once() -> Clip:
        cached[:] = cached or [clip()]
        return cached[0]

    source: MaskSource | None = None
    if options.mctformer is not None:
        check_mctformer(options.mctformer)
        words = ("background", *options.mctformer.model.words)
    else:
        source = seed_source(images, options.seeds, load_once, options.out / "seeds")
        words = source.words
    for config, folder in ((options.weakclip, "seeds"), (options.student, "pseudo")):
        words_for(config, words, options.out / folder)
    check_weakclip(options.weakclip, options.weakclip.model.words or words, load_once().geometry)
    check_student(options.student, options.student.model.words or words)
    if options.validation is not None:
        options.validation.check(words)
    return images, words, source


def _check_outside(images: list[FoundImage], out: Path) -> list[FoundImage]:
    """Check that no image is inside `out`, where masks would count as images in the next run."""
    resolved = out.resolve()
    if any(resolved in image.path.resolve().parents for image in images):
        raise InputError(f"{out} contains some of the images. Choose an --out outside their folder.")
    return images


def _export(student: Path, file: Path) -> None:
    with open_training(file.parent, "export", {"student": file_hash(student)}, {}) as run:
        if not run.recorded["finished"]:
            trained = load_student(student)
            export_onnx(trained, file)
            run.record(finished=True, difference=check_onnx(file, trained))


def _write_report(
    images: list[FoundImage], options: RunOptions, folders: RunFolders, seconds: Mapping[str, float]
) -> None:
    student = Student(folders.student / MODEL_FILE, device=options.device)
    page = run_page(
        images,
        {"seeds": folders.seeds, "pseudo-masks": folders.pseudo},
        {
            **({} if options.mctformer is None else {MCTFORMER_STEP: folders.mctformer}),
            "WeakCLIP": folders.weakclip,
            "student": folders.student,
        },
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
