"""`tagmask tag`: tag images, print and write the results."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from tagmask.api import Tagger
from tagmask.catalogue import method_of
from tagmask.cli.console import bold, green, print_summary, report_failure, report_if_stopped, with_progress
from tagmask.errors import InputError
from tagmask.resolve import recipe as recipe_called
from tagmask.results import Tags
from tagmask.runs.ordered_map import Outcome, ordered_map, shared_threads
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.lines import json_lines, partial_path
from tagmask.runtime.tag_files import names_to_write, tag_lines

__all__ = ["tag_images", "tag_settings"]


def tag_settings(
    method: str | None, recipe: str | None, min_score: float | None, top: int | None, *, adapt: bool
) -> dict[str, object]:
    """Return the recipe fields that the options set. --adapt selects PIAA unless a method is named.

    Raises:
        InputError: the recipe is unknown.
    """
    if adapt and method is None and not (recipe and method_of(recipe_called(recipe)).adapts):
        method = "piaa"
    settings = {"method": method, "min_score": min_score, "top": top}
    return {name: value for name, value in settings.items() if value is not None}


def tag_images(
    images: list[FoundImage],
    make_tagger: Callable[[], Tagger],
    *,
    as_json: bool,
    out: Path | None,
    paper: bool,
    workers: int = 1,
) -> int:
    """Tag every image, print each result as it is ready, and return the number of failures.

    Raises:
        InputError: the output format does not fit the images or the other options.
    """
    failed = 0
    if paper and out is None:
        raise InputError("--format paper needs --out. Give --out tags.txt.")
    names = dict(zip(images, names_to_write(images), strict=True)) if paper else {}
    if not images:
        make_tagger()
        return 0
    with _output(out, names) as write_outcome:
        tagger = make_tagger()
        with report_if_stopped(out and partial_path(out)):
            workers = min(workers, len(images))
            work = ordered_map(
                images, lambda image: tagger(image.path), workers=workers, threads=shared_threads(workers)
            )
            for outcome in with_progress(work, len(images)):
                record = _record(outcome)
                write_outcome(outcome)
                if outcome.result is None:
                    failed += 1
                    report_failure(outcome.item.path, outcome.reason)
                elif not as_json:
                    typer.echo(_table(str(outcome.item.path), outcome.result))
                if as_json:
                    typer.echo(_json(record))
    print_summary(len(images), failed, out)
    return failed


@contextmanager
def _output(
    out: Path | None, names: Mapping[FoundImage, str]
) -> Iterator[Callable[[Outcome[FoundImage, Tags]], None]]:
    """Open the output file and yield a function that writes one image's outcome to it.

    Args:
        out: the file, if there is one.
        names: each image's name in a tag file; JSON lines if empty.
    """
    if out is None:
        yield lambda outcome: None
    elif names:
        with tag_lines(out) as write_tags:

            def write_tags_of(outcome: Outcome[FoundImage, Tags]) -> None:
                if outcome.result is not None:
                    write_tags(names[outcome.item], outcome.result.chosen)

            yield write_tags_of
    else:
        with json_lines(out) as write:
            yield lambda outcome: write(_record(outcome))


def _json(record: dict[str, object]) -> str:
    # Escape for terminals that cannot show all of Unicode; JSON readers see no difference.
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(record, ensure_ascii=not unicode)


def _record(outcome: Outcome[FoundImage, Tags]) -> dict[str, object]:
    path = str(outcome.item.path)
    if outcome.result is None:
        return {"path": path, "error": outcome.reason}
    tags = outcome.result
    record: dict[str, object] = {"path": path, "tags": list(tags.names)}
    record["scores"] = _rounded(tags.words, tags.scores.tolist())
    record["threshold"] = round(tags.threshold, 6)
    if tags.thresholds is not None:
        record["thresholds"] = _rounded(tags.words, tags.thresholds)
    return record


def _rounded(words: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    return {word: round(float(value), 6) for word, value in zip(words, values, strict=True)}


def _table(path: str, tags: Tags) -> str:
    """Format the tags in a line, then every word's score, best first, with the threshold in its place."""
    names = ", ".join(tags.names) or "none of the words"
    rows = [f"{bold(path)}: {names}"]
    order = sorted(range(len(tags.words)), key=lambda c: (-float(tags.scores[c]), c))
    if tags.thresholds is not None:
        return "\n".join([*rows, *(f"{_row(tags, c)}  (over {tags.thresholds[c]:.3f})" for c in order)])
    above = [c for c in order if tags.scores[c] > tags.threshold]
    for c in above:
        rows.append(_row(tags, c))
    rows.append(f"  {tags.threshold:.3f}  ---- threshold ----")
    for c in order[len(above) :]:
        rows.append(_row(tags, c))
    return "\n".join(rows)


def _row(tags: Tags, c: int) -> str:
    row = f"  {tags.scores[c]:.3f}  {tags.words[c]}"
    return green(f"{row}  *") if c in tags.chosen else row
