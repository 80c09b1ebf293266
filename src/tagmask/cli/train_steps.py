"""The steps of `tagmask train`: run them and print their progress."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tagmask.bench.validation import DataSetValidation, open_validation
from tagmask.cli.console import heading, message, print_path, show
from tagmask.cli.mask import mask_settings, require_tags_file
from tagmask.cli.options import Affinity, Refine
from tagmask.cli.runs import run_images, stops_reported
from tagmask.clip.load import Clip
from tagmask.clip.sources import DEFAULT_WEIGHTS
from tagmask.errors import InputError
from tagmask.runs.folder import RunFolder
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Work
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import check_tags, read_tags
from tagmask.settings.parse import is_automatic
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config, with_settings
from tagmask.weak.describe import TrainingCost
from tagmask.weak.distributed import ranks_here
from tagmask.weak.loop import Report
from tagmask.weak.run_all import write_all_masks
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.seeds import seed_recipe, seed_source
from tagmask.weak.steps import (
    PseudoSettings,
    describe_weakclip,
    model_location,
    pseudo_source,
    train_student,
    train_weakclip,
)
from tagmask.weak.students.catalogue import STUDENTS
from tagmask.weak.training_folder import read_metadata
from tagmask.weak.validation import Validation

__all__ = [
    "MCTFORMER",
    "ConsoleProgress",
    "check_seed_tags",
    "cost_lines",
    "make_pseudo",
    "make_seeds",
    "print_cost",
    "pseudo_settings",
    "run_student",
    "run_weakclip",
    "seed_options",
    "settings_of",
    "student_settings",
    "training_progress",
    "validation_of",
]


MCTFORMER = "mctformer"
"""Value of --method for seeds of an MCTformer."""
_ONLY_BACKGROUND = "Check the words, the weights and, for pseudo-masks, the training before them."


class ConsoleProgress:
    """Reports progress on stderr and paths of results on stdout."""

    def begin(self, number: int, steps: int, name: str) -> None:
        """Print the name of a step."""
        heading(f"{number} of {steps}: {name}")

    def masks(self, run: RunFolder, plan: Plan, work: Work) -> int:
        """Compute the masks of a plan; print progress, failures, a summary and the masks' folder."""
        totals = run_images(run, plan, work, workers=1, show=None, hint=_ONLY_BACKGROUND)
        if totals.done or plan.done:
            print_path(run.path / "masks")
        return totals.failed

    def training(self, what: str) -> AbstractContextManager[Callable[[Report], None]]:
        """Return the progress display of a training run."""
        return training_progress(what)

    def written(self, path: Path) -> None:
        """Print the path of a result, in the first process only."""
        if ranks_here().first:
            print_path(path)


def seed_options(
    words: list[str] | None,
    *,
    recipe: str | None = None,
    background: Sequence[str] | None,
    method: str | None,
    refine: Refine | None,
    tags_file: Path | None,
    cams: Path | None = None,
    threshold: float | None = None,
    truth: Path | None = None,
    masks: Path | None = None,
    model: Path | None = None,
    affinity: Path | None = None,
    min_confidence: float | None = None,
    save_cams: bool = False,
    templates: tuple[str, ...] | None = None,
    head: Path | None = None,
    device: str = "auto",
) -> SeedOptions:
    """Convert command-line options to seed options.

    Raises:
        InputError: options exclude each other, or MCTformer's `model` is missing.
    """
    if (method == MCTFORMER) != (model is not None):
        raise InputError("--method mctformer and --model DIR belong together. Give both, or neither of them.")
    if method == MCTFORMER and (refine, background, templates) != (None, None, None):
        raise InputError(
            "MCTformer's seeds have no --refine, no --background and no --templates. Leave them out."
        )
    cda = affinity == Path(Affinity.cda) and method != MCTFORMER
    if cda and (cams, masks) != (None, None):
        raise InputError("--affinity cda is for maps of a CLIP. Leave it out with --cams and --masks.")
    if templates is not None and (cams, masks) != (None, None):
        raise InputError("Activation maps and masks need no --templates. Leave it out.")
    return SeedOptions(
        words=None if words is None else tuple(words),
        recipe=recipe,
        settings={}
        if method == MCTFORMER
        else mask_settings(
            method, None, False, refine, None, templates, affinity=Affinity.cda if cda else None
        ),
        background=background if background is None or is_automatic(background) else tuple(background),
        tags_file=tags_file,
        cams=cams,
        threshold=threshold,
        truth=truth,
        masks=masks,
        mctformer=model,
        affinity=None if cda else affinity,
        min_confidence=min_confidence,
        save_cams=save_cams,
        head=head,
        device=device,
    )


def check_seed_tags(options: SeedOptions) -> None:
    """Check that a tags file is given if the seeds' recipe needs ground-truth tags.

    Raises:
        InputError: the recipe needs tags and there is no file.
    """
    if options.uses_clip:
        require_tags_file(seed_recipe(options), options.tags_file)


def make_seeds(images: list[FoundImage], out: Path, options: SeedOptions, clip: Callable[[], Clip]) -> int:
    """Write seeds, print progress, and return the number of images that failed.

    Raises:
        InputError: the options are invalid.
    """
    check_seed_tags(options)
    source = seed_source(images, options, clip, out)
    with stops_reported(out):
        return write_all_masks(images, source, out, ConsoleProgress())


def make_pseudo(
    images: list[FoundImage],
    model: Path,
    out: Path,
    settings: PseudoSettings,
    *,
    tags_file: Path | None,
    device: str,
    precision: str,
) -> int:
    """Write pseudo-masks, print progress, and return the number of images that failed."""
    words = read_metadata(model_location(model)[0], "weakclip").get("words")
    classes = len(words) - 1 if isinstance(words, list) else 0
    tags = None if tags_file is None else read_tags(tags_file, classes)
    if tags is not None:
        check_tags(images, tags)
    source = pseudo_source(model, settings, device=device, precision=precision, tags=tags)
    with stops_reported(out):
        return write_all_masks(images, source, out, ConsoleProgress())


def pseudo_settings(scales: str, flip: bool, crf: str) -> PseudoSettings:
    """Convert command-line options to pseudo-mask settings.

    Raises:
        InputError: a scale is not a number, or the CRF is unknown.
    """
    try:
        numbers = tuple(float(part) for part in scales.split(","))
    except ValueError as error:
        raise InputError(f"Invalid --scales {scales!r}. Give numbers, as in 0.5,1,1.5.") from error
    return PseudoSettings(numbers, flip, None if crf == "none" else crf)


def run_weakclip(
    source: str,
    out: Path | None,
    folders: Mapping[str, Path | None],
    weights: str | None,
    changes: Sequence[str],
    validation: Validation | None = None,
) -> None:
    """Train WeakCLIP, print progress and the path of the result.

    Raises:
        InputError: there is no output folder, or see `load_config`.
    """
    if out is None:
        raise InputError("No output folder is given. Give -o DIR.")
    config = _weakclip_settings(source, folders, weights, changes)
    with stops_reported(out), training_progress("WeakCLIP") as report_progress:
        path = train_weakclip(config, out, report_progress, validation)
    ConsoleProgress().written(path)


def print_cost(
    source: str, folders: Mapping[str, Path | None], weights: str | None, changes: Sequence[str]
) -> None:
    """Print what training WeakCLIP costs, from counts and a few steps."""
    config = _weakclip_settings(source, folders, weights, changes)
    for line in cost_lines(describe_weakclip(config)):
        show(line)


def cost_lines(cost: TrainingCost) -> Iterator[str]:
    """The cost of a training run, as text."""
    trainable, total = cost.parameters
    share = 100 * trainable / total
    yield f"parameters  {trainable:,} trainable of {total:,} ({share:.2f} %), counted as in the paper"
    yield f"            {cost.updated:,} are updated"
    tower, rest, text = (flops / 1e9 for flops in (cost.tower_flops, cost.head_flops, cost.text_flops))
    yield f"GFLOPs      {tower + rest:,.1f} forward, for a crop of {cost.crop} x {cost.crop}: {tower:,.1f}"
    yield f"            in the image tower, {rest:,.1f} after it; {text:,.1f} for the texts, once a step"
    if cost.step_flops is None or cost.step_seconds is None:
        yield "steps       0: this model has no trainable weights"
    else:
        hours = cost.steps * cost.step_seconds / 3600
        crops = " and ".join(str(size) for size in cost.measured)
        yield f"            {cost.step_flops / 1e9:,.0f} a step, forward and backward"
        yield f"steps       {cost.steps:,} of {cost.batch} crops"
        yield f"time        {cost.step_seconds:.3g} s a step, {hours:.3g} hours in all, on {cost.device}"
        yield f"            (from steps of {crops} crops; without reading images, pictures and validation)"
    yield f"inference   {1 / cost.crop_seconds:.3g} crops a second"
    if cost.memory is not None:
        yield f"memory      {cost.memory / 2**30:.2f} GiB at the peak, weights included"


def _weakclip_settings(
    source: str, folders: Mapping[str, Path | None], weights: str | None, changes: Sequence[str]
) -> TrainConfig:
    config = settings_of(source, folders, changes)
    if weights or not config.model.weights:
        config = with_settings(config, [f"model.weights={weights or DEFAULT_WEIGHTS}"])
    return config


def run_student(
    source: str,
    out: Path,
    folders: Mapping[str, Path | None],
    changes: Sequence[str],
    validation: Validation | None = None,
) -> None:
    """Train a student, print progress and the path of the result."""
    config = student_settings(source, folders, changes)
    with stops_reported(out), training_progress("student") as report_progress:
        path = train_student(config, out, report_progress, validation)
    ConsoleProgress().written(path)


def validation_of(
    what: str | None, root: Path | None, every: int, most: int | None
) -> DataSetValidation | None:
    """Open the images to validate on; None without --val.

    Raises:
        InputError: see `open_validation`.
    """
    if what is None:
        if root is not None:
            raise InputError("--val-data needs --val. Give --val DATASET/SPLIT too.")
        return None
    return open_validation(what, root, every, most)


def student_settings(
    source: str, folders: Mapping[str, Path | None], changes: Sequence[str], clip: str | None = None
) -> TrainConfig:
    """Load a student's settings, as `settings_of`.

    `clip` names the initial weights of a student with CLIP's tower, if its settings name none.

    Raises:
        InputError: see `load_config`.
    """
    config = settings_of(source, folders, changes)
    kind = STUDENTS.get(config.model.kind)
    if clip and not config.model.weights and kind is not None and kind.inherited_preprocessing is not None:
        config = with_settings(config, [f"model.weights={clip}"])
    return config


def settings_of(source: str, folders: Mapping[str, Path | None], changes: Sequence[str]) -> TrainConfig:
    """Load settings and override their folders, then the other changes.

    Raises:
        InputError: see `load_config`.
    """
    folder_settings = [f"data.{name}={path}" for name, path in folders.items() if path is not None]
    return load_config(source, [*folder_settings, *changes])


@contextmanager
def training_progress(name: str) -> Iterator[Callable[[Report], None]]:
    """Yield a callback that shows the training progress: a bar on a terminal, else lines."""
    if not sys.stderr.isatty():
        yield lambda report: message(f"{name}: {_report_text(report)}, {_time(report.seconds_left)} left")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("steps", total=None, status="")

        def show(report: Report) -> None:
            status = f"{_report_text(report, step=False)}, {_time(report.seconds_left)} left"
            progress.update(task, completed=report.step, total=report.steps, status=status)

        yield show


def _report_text(report: Report, *, step: bool = True) -> str:
    losses = ", ".join(
        f"{name} {value:.3f}" for name, value in sorted(report.losses.items(), key=_total_last)
    )
    rest = f"{losses}, lr {report.lr:.1e}, {report.images_per_s:.1f} images/s"
    return f"step {report.step} of {report.steps}, {rest}" if step else rest


def _total_last(item: tuple[str, float]) -> bool:
    return item[0] == "total"


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 3600:.0f} h"
