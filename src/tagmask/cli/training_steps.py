"""What the single steps of `tagmask train` do and say."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from tagmask.api import Segmenter
from tagmask.cli.inputs import DEFAULT_WEIGHTS
from tagmask.cli.masking import check_tags_known, mask_settings
from tagmask.cli.options import Refine
from tagmask.cli.talk import said_if_stopped, say, say_failed, sum_up, watched
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.resolve import mask_recipe
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tagfiles import read_tags
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config, with_settings
from tagmask.weak.distributed import ranks_here
from tagmask.weak.loop import Report
from tagmask.weak.maskfolder import MaskSource, write_masks
from tagmask.weak.seeds import from_cams, from_masks, from_segmenter, swept
from tagmask.weak.stages import read_facts
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.catalogue import STUDENTS

__all__ = [
    "SeedOptions",
    "make_pseudo",
    "make_seeds",
    "pseudo_settings",
    "run_student",
    "run_weakclip",
    "settings_of",
    "training_shown",
]


@dataclass(frozen=True)
class SeedOptions:
    """Where seeds come from."""

    words: list[str] | None
    recipe: str | None = None
    background: list[str] | None = None
    method: str | None = None
    refine: Refine | None = None
    tags_file: Path | None = None
    cams: Path | None = None
    threshold: float | None = None
    truth: Path | None = None
    masks: Path | None = None


def make_seeds(
    images: Sequence[FoundImage], out: Path, options: SeedOptions, clip: Callable[[], Clip]
) -> int:
    """Write seeds, say how it goes, and return how many pictures failed.

    Raises:
        InputError: options that exclude each other, or that cannot be used.
    """
    return _written(images, _seed_source(images, options, clip), out)


def _seed_source(images: Sequence[FoundImage], options: SeedOptions, clip: Callable[[], Clip]) -> MaskSource:
    if options.cams is not None and options.masks is not None:
        raise InputError("--cams and --masks exclude each other; give one of them")
    if options.cams is None and (options.threshold is not None or options.truth is not None):
        raise InputError("--threshold and --truth are for activation maps; give --cams DIR too")
    if options.cams is None and options.masks is None:
        return _clip_source(options, clip)
    if options.recipe is not None or options.words is None:
        raise InputError("masks and maps do not say what they show; name the classes in order, -w cat -w dog")
    words = [line.split(", ")[0] for line in options.words]
    if options.masks is not None:
        return from_masks(options.masks, ["background", *words])
    return from_cams(options.cams or Path(), words, _threshold(images, options, len(words)))


def _clip_source(options: SeedOptions, clip: Callable[[], Clip]) -> MaskSource:
    asked = mask_settings(options.method, None, False, options.refine)
    checked = mask_recipe(options.recipe, options.words, options.background, None, asked)
    check_tags_known(checked, options.tags_file)
    tags = None if options.tags_file is None else read_tags(options.tags_file, len(checked.words))
    loaded = clip()
    if options.recipe is None:
        checked = mask_recipe(None, options.words, options.background, None, asked, loaded.background)
    return from_segmenter(Segmenter(loaded, recipe=checked), tags)


def _threshold(images: Sequence[FoundImage], options: SeedOptions, classes: int) -> float:
    if options.threshold is not None:
        return options.threshold
    if options.truth is None or options.cams is None:
        raise InputError("maps are cut at a threshold; give --threshold T, or --truth DIR to choose it by")
    found = swept(images, options.cams, options.truth, classes)
    say(
        f"threshold {found.best:.2f} gives the best mIoU of {len(found.miou)} tried, {max(found.miou):.1%}; "
        f"stopping at the first decrease would take {found.first_peak:.2f}"
    )
    return found.best


def make_pseudo(
    images: Sequence[FoundImage],
    model: Path,
    out: Path,
    settings: PseudoSettings,
    *,
    tags_file: Path | None,
    device: str,
    precision: str,
) -> int:
    """Write pseudo-masks, say how it goes, and return how many pictures failed."""
    words = read_facts(model, "weakclip").get("words")
    classes = len(words) - 1 if isinstance(words, list) else 0
    tags = None if tags_file is None else read_tags(tags_file, classes)
    precise = choose_precision(precision, choose_device(device))
    source = pseudo_source(model, settings, device=device, precision=precise, tags=tags)
    return _written(images, source, out)


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


def _written(images: Sequence[FoundImage], source: MaskSource, out: Path) -> int:
    failed = 0
    with said_if_stopped(out):
        for outcome in watched(write_masks(images, source, out), len(images)):
            if outcome.result is None:
                failed += 1
                say_failed(outcome.item.path, outcome.reason)
    sum_up(len(images), failed, out)
    if failed < len(images):
        typer.echo(str(out / "masks"))
    return failed


def run_weakclip(
    source: str, out: Path, places: Mapping[str, Path | None], weights: str | None, changes: Sequence[str]
) -> None:
    """Train WeakCLIP, say how it goes, print where it is."""
    config = settings_of(source, places, changes)
    if weights or not config.model.weights:
        config = with_settings(config, [f"model.weights={weights or DEFAULT_WEIGHTS}"])
    with said_if_stopped(out), training_shown("WeakCLIP") as watch:
        path = train_weakclip(config, out, watch)
    _say_where(path)


def run_student(
    source: str,
    out: Path,
    places: Mapping[str, Path | None],
    changes: Sequence[str],
    clip: str | None = None,
) -> None:
    """Train a student, say how it goes, print where it is.

    `clip` are the weights that a student of CLIP's own tower starts from where its settings name none.
    """
    config = settings_of(source, places, changes)
    kind = STUDENTS.get(config.model.kind)
    if clip and not config.model.weights and kind is not None and kind.taken_over is not None:
        config = with_settings(config, [f"model.weights={clip}"])
    with said_if_stopped(out), training_shown("student") as watch:
        path = train_student(config, out, watch)
    _say_where(path)


def _say_where(path: Path) -> None:
    """Once, however many processes there are."""
    if ranks_here().first:
        typer.echo(str(path))


def settings_of(source: str, places: Mapping[str, Path | None], changes: Sequence[str]) -> TrainConfig:
    """Settings with their folders, then the changes asked for.

    Raises:
        InputError: as `load_config`.
    """
    given = [f"data.{name}={place}" for name, place in places.items() if place is not None]
    return load_config(source, [*given, *changes])


@contextmanager
def training_shown(what: str) -> Iterator[Callable[[Report], None]]:
    """Give what is called as training goes on: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda report: say(f"{what}: {_told(report)}, {_time(report.seconds_left)} left")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("steps", total=None, told="")

        def show(report: Report) -> None:
            told = f"{_told(report, step=False)}, {_time(report.seconds_left)} left"
            progress.update(task, completed=report.step, total=report.steps, told=told)

        yield show


def _told(report: Report, *, step: bool = True) -> str:
    losses = ", ".join(
        f"{name} {value:.3f}" for name, value in sorted(report.losses.items(), key=_total_last)
    )
    rest = f"{losses}, lr {report.lr:.1e}, {report.images_per_s:.1f} images/s"
    return f"step {report.step} of {report.steps}, {rest}" if step else rest


def _total_last(item: tuple[str, float]) -> bool:
    return item[0] == "total"


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 3600:.0f} h"
