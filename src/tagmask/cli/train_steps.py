"""What the single steps of `tagmask train` do and say."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer

from tagmask.cli.arguments import DEFAULT_WEIGHTS
from tagmask.cli.console import bold, message, print_summary, report_failure, report_if_stopped, with_progress
from tagmask.cli.mask import check_tags_known, mask_settings
from tagmask.cli.options import Refine
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import read_tags
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config, with_settings
from tagmask.weak.distributed import ranks_here
from tagmask.weak.loop import Report
from tagmask.weak.mask_folder import MaskOutcome
from tagmask.weak.run_all import write_all_masks
from tagmask.weak.run_folder import read_metadata
from tagmask.weak.seeds import SeedOptions, seed_recipe, seed_source
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.catalogue import STUDENTS

__all__ = [
    "ConsoleProgress",
    "check_seed_tags",
    "make_pseudo",
    "make_seeds",
    "pseudo_settings",
    "run_student",
    "run_weakclip",
    "seed_options",
    "settings_of",
    "student_settings",
    "training_progress",
]


class ConsoleProgress:
    """Progress on stderr, places of results on stdout."""

    def begin(self, number: int, steps: int, name: str) -> None:
        """One line."""
        message(bold(f"{number} of {steps}: {name}"))

    def masks(self, outcomes: Iterable[MaskOutcome], total: int, folder: Path) -> Iterator[MaskOutcome]:
        """A bar or lines, a line for each image that failed, and a closing line."""
        failed = 0
        for outcome in with_progress(outcomes, total):
            if outcome.result is None:
                failed += 1
                report_failure(outcome.item.path, outcome.reason)
            yield outcome
        print_summary(total, failed, folder)
        if failed < total:
            typer.echo(str(folder / "masks"))

    def training(self, what: str) -> AbstractContextManager[Callable[[Report], None]]:
        """A bar or lines."""
        return training_progress(what)

    def written(self, path: Path) -> None:
        """Its place; once, however many processes there are."""
        if ranks_here().first:
            typer.echo(str(path))


def seed_options(
    words: list[str] | None,
    *,
    recipe: str | None = None,
    background: list[str] | None,
    method: str | None,
    refine: Refine | None,
    tags_file: Path | None,
    cams: Path | None = None,
    threshold: float | None = None,
    truth: Path | None = None,
    masks: Path | None = None,
) -> SeedOptions:
    """Options of the command line as the library takes them.

    Raises:
        InputError: options that exclude each other.
    """
    return SeedOptions(
        words=None if words is None else tuple(words),
        recipe=recipe,
        settings=mask_settings(method, None, False, refine),
        background=None if background is None else tuple(background),
        tags_file=tags_file,
        cams=cams,
        threshold=threshold,
        truth=truth,
        masks=masks,
    )


def check_seed_tags(options: SeedOptions) -> None:
    """Refuse a recipe that must be given an image's tags where no file gives them.

    Raises:
        InputError: naming what to give.
    """
    if options.uses_clip:
        check_tags_known(seed_recipe(options), options.tags_file)


def make_seeds(images: list[FoundImage], out: Path, options: SeedOptions, clip: Callable[[], Clip]) -> int:
    """Write seeds, say how it goes, and return how many images failed.

    Raises:
        InputError: options that cannot be used.
    """
    check_seed_tags(options)
    source = seed_source(images, options, clip)
    with report_if_stopped(out):
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
    """Write pseudo-masks, say how it goes, and return how many images failed."""
    words = read_metadata(model, "weakclip").get("words")
    classes = len(words) - 1 if isinstance(words, list) else 0
    tags = None if tags_file is None else read_tags(tags_file, classes)
    source = pseudo_source(model, settings, device=device, precision=precision, tags=tags)
    with report_if_stopped(out):
        return write_all_masks(images, source, out, ConsoleProgress())


def pseudo_settings(scales: str, flip: bool, crf: str) -> PseudoSettings:
    """Options as settings.

    Raises:
        InputError: scales that are no numbers, or an unknown CRF.
    """
    try:
        numbers = tuple(float(part) for part in scales.split(","))
    except ValueError as error:
        raise InputError(f"--scales is {scales!r}; give numbers, as in 0.5,1,1.5") from error
    return PseudoSettings(numbers, flip, None if crf == "none" else crf)


def run_weakclip(
    source: str, out: Path, places: Mapping[str, Path | None], weights: str | None, changes: Sequence[str]
) -> None:
    """Train WeakCLIP, say how it goes, print where it is."""
    config = settings_of(source, places, changes)
    if weights or not config.model.weights:
        config = with_settings(config, [f"model.weights={weights or DEFAULT_WEIGHTS}"])
    with report_if_stopped(out), training_progress("WeakCLIP") as watch:
        path = train_weakclip(config, out, watch)
    ConsoleProgress().written(path)


def run_student(source: str, out: Path, places: Mapping[str, Path | None], changes: Sequence[str]) -> None:
    """Train a student, say how it goes, print where it is."""
    config = student_settings(source, places, changes)
    with report_if_stopped(out), training_progress("student") as watch:
        path = train_student(config, out, watch)
    ConsoleProgress().written(path)


def student_settings(
    source: str, places: Mapping[str, Path | None], changes: Sequence[str], clip: str | None = None
) -> TrainConfig:
    """As `settings_of`, for a student.

    `clip` are the weights that a student of CLIP's own tower starts from where its settings name none.

    Raises:
        InputError: as `load_config`.
    """
    config = settings_of(source, places, changes)
    kind = STUDENTS.get(config.model.kind)
    if clip and not config.model.weights and kind is not None and kind.inherited_preprocessing is not None:
        config = with_settings(config, [f"model.weights={clip}"])
    return config


def settings_of(source: str, places: Mapping[str, Path | None], changes: Sequence[str]) -> TrainConfig:
    """Settings with their folders, then the changes asked for.

    Raises:
        InputError: as `load_config`.
    """
    given = [f"data.{name}={place}" for name, place in places.items() if place is not None]
    return load_config(source, [*given, *changes])


@contextmanager
def training_progress(what: str) -> Iterator[Callable[[Report], None]]:
    """Give what is called as training goes on: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda report: message(
            f"{what}: {_settings_summary(report)}, {_time(report.seconds_left)} left"
        )
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("steps", total=None, told="")

        def show(report: Report) -> None:
            told = f"{_settings_summary(report, step=False)}, {_time(report.seconds_left)} left"
            progress.update(task, completed=report.step, total=report.steps, told=told)

        yield show


def _settings_summary(report: Report, *, step: bool = True) -> str:
    losses = ", ".join(
        f"{name} {value:.3f}" for name, value in sorted(report.losses.items(), key=_total_last)
    )
    rest = f"{losses}, lr {report.lr:.1e}, {report.images_per_s:.1f} images/s"
    return f"step {report.step} of {report.steps}, {rest}" if step else rest


def _total_last(item: tuple[str, float]) -> bool:
    return item[0] == "total"


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 3600:.0f} h"
