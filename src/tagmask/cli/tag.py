"""`tagmask tag`: tag images, print and write the results."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import typer

from tagmask.api import Tagger
from tagmask.catalogue import method_of
from tagmask.cli.console import (
    message,
    print_summary,
    report_failure,
    report_if_stopped,
    with_progress,
)
from tagmask.cli.options import TagFormat
from tagmask.cli.runs import run_images, stops_reported
from tagmask.cli.tag_output import is_one_file, output_file, print_json, record_of, table_of
from tagmask.errors import ImageError, InputError, TagmaskError
from tagmask.files import ensure_folder
from tagmask.images import read_image
from tagmask.resolve import recipe as recipe_called
from tagmask.results import Tags
from tagmask.runs.describe import tagger_identity
from tagmask.runs.failures import reason_of
from tagmask.runs.folder import RunFolder
from tagmask.runs.ordered_map import ordered_map, shared_threads
from tagmask.runs.ownership import leave_out_outputs
from tagmask.runs.planning import ImageTask
from tagmask.runs.producer import Produced
from tagmask.runs.rows import ImageResult
from tagmask.runs.shards import Shard
from tagmask.runs.stages import Stages
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.lines import partial_path
from tagmask.types import Image

__all__ = ["tag_images", "tag_settings"]


def tag_settings(
    method: str | None,
    recipe: str | None,
    min_score: float | None,
    top: int | None,
    templates: tuple[str, ...] | None = None,
    *,
    adapt: bool,
) -> dict[str, object]:
    """Return the recipe fields that the options set. --adapt selects PIAA unless a method is named.

    Raises:
        InputError: the recipe is unknown.
    """
    if adapt and method is None and not (recipe and method_of(recipe_called(recipe)).adapts):
        method = "piaa"
    settings = {"method": method, "min_score": min_score, "top": top, "templates": templates}
    return {name: value for name, value in settings.items() if value is not None}


def tag_images(
    images: list[FoundImage],
    make_tagger: Callable[[], Tagger],
    *,
    as_json: bool,
    out: Path | None,
    format_: TagFormat | None,
    workers: int = 1,
    again: bool = False,
    shard: Shard | None = None,
) -> int:
    """Tag every image, print each result as it is ready, and return the number of failures.

    Args:
        images: the full listing; outputs of runs among them are left out.
        make_tagger: loads the weights; called after the cheap checks.
        as_json: print JSON instead of tables.
        out: a run folder or a file; see `is_one_file`.
        format_: of the file; None: by its ending.
        workers: images at once.
        again: in a run folder, tag images again that are done.
        shard: in a run folder, tag only this part of the images.

    Raises:
        InputError: the output does not fit the images or the other options.
        OutputError: it cannot be written.
    """
    into_run = out is not None and not is_one_file(out, format_)
    if format_ is TagFormat.paper and out is None:
        raise InputError("--format paper needs --out. Give --out tags.txt.")
    if (again or shard is not None) and not into_run:
        raise InputError("--again and --shard need a run folder. Give --out FOLDER.")
    if not images:
        make_tagger()
        return 0
    images = leave_out_outputs(images, out if into_run else None)
    if out is not None and into_run:
        return _tag_into_run(images, make_tagger, out, as_json, workers, again, shard)
    return _tag_into_file(images, make_tagger, out, format_, as_json, workers)


def _tag_into_file(
    images: list[FoundImage],
    make_tagger: Callable[[], Tagger],
    out: Path | None,
    format_: TagFormat | None,
    as_json: bool,
    workers: int,
) -> int:
    by_ending = TagFormat.csv if out is not None and out.suffix.lower() == ".csv" else TagFormat.json
    failed = 0
    with output_file(out, images, format_ or by_ending) as write:
        tagger = _checked(make_tagger())

        def work(image: FoundImage) -> Tags:
            try:
                tags = tagger(image.path)
                if not np.isfinite(tags.scores).all():  # which JSON cannot hold
                    raise ImageError("scores of this image hold NaN or infinity; check the weights")
                return tags
            except (TagmaskError, MemoryError):
                raise
            except Exception as error:  # an image must not end the run
                raise ImageError(reason_of(error)) from error

        with report_if_stopped(out and partial_path(out)):
            workers = min(workers, len(images))
            outcomes = ordered_map(images, work, workers=workers, threads=shared_threads(workers))
            for outcome in with_progress(outcomes, len(images)):
                path, tags = outcome.item.path, outcome.result
                write(outcome.item, tags, outcome.reason)
                if tags is None:
                    failed += 1
                    report_failure(path, outcome.reason)
                elif not as_json:
                    typer.echo(table_of(str(path), tags))
                if as_json:
                    typer.echo(print_json(record_of(str(path), tags, outcome.reason)))
    print_summary(len(images), failed, out)
    return failed


def _tag_into_run(
    images: list[FoundImage],
    make_tagger: Callable[[], Tagger],
    out: Path,
    as_json: bool,
    workers: int,
    again: bool,
    shard: Shard | None,
) -> int:
    ensure_folder(out)
    tagger = _checked(make_tagger())
    in_work: dict[int, Tags] = {}
    """Tags that are not printed yet."""

    def read(task: ImageTask) -> Image:
        return read_image(task.found.path)

    def compute(task: ImageTask, pixels: Image) -> Tags:
        return tagger(pixels)

    def write(task: ImageTask, pixels: Image, tags: Tags) -> ImageResult:
        record = record_of("", tags, None)
        in_work[task.id] = tags
        return ImageResult(
            width=pixels.shape[1],
            height=pixels.shape[0],
            tags=tags.names,
            scores=dict(zip(tags.words, (round(score, 6) for score in tags.scores.tolist()), strict=True)),
            absent=[word for c, word in enumerate(tags.words) if c not in tags.chosen],
            record={name: record[name] for name in ("threshold", "thresholds") if name in record},
        )

    def show(produced: Produced) -> str:
        path, tags = str(produced.task.found.path), in_work.pop(produced.task.id)
        return print_json(record_of(path, tags, None)) if as_json else table_of(path, tags)

    with stops_reported(out), RunFolder.open(out, tagger_identity(tagger)) as run:
        plan = run.plan(images, again=again, shard=shard)
        return run_images(run, plan, Stages(read, compute, write), workers=workers, show=show).failed


def _checked(tagger: Tagger) -> Tagger:
    """Warn if every image will get the only word as its tag."""
    recipe = tagger.recipe
    if len(tagger.words) == 1 and recipe.min_score is None and not recipe.thresholds:
        message(
            f"note: With one word, every image is tagged {tagger.words[0]!r}: tags are chosen relative to "
            "the other words. Add words, or give --min-score or --calibrate."
        )
    return tagger
