"""Write a run as one HTML page to look through: its images and results, least confident first."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tagmask.errors import ImageError, InputError
from tagmask.exporters.export import Export
from tagmask.exporters.image_names import ImageNames
from tagmask.files import atomic_open
from tagmask.images import read_image
from tagmask.report import PageLayout, Pictures, ReportItem, frame_for, render_parts
from tagmask.results import Segmentation, Tags
from tagmask.runs.classes import Classes
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow
from tagmask.types import Image

__all__ = ["write_report"]

_SHOWN = 200
"""Largest number of images with results, and of failed images, in the page."""
_WORDS = 40
"""Largest number of words listed in a sentence."""
_PICTURES = Pictures(longest=640, quality=65, longest_outlined=320)
"""Small enough for a page of 200 photos that can be sent."""


def write_report(export: Export, target: Path) -> None:
    """Write the page, one image after the other; corrected masks replace the run's own.

    Photos are read from where the run found them. One that is gone, or that changed since, is shown by its
    name.

    Args:
        export: what to export, of a run with masks or tags. Its options choose no images here.
        target: the file to write.

    Raises:
        InputError: the run has neither masks nor tags.
        OutputError: the file cannot be written.
    """
    run = export.run
    masks = (run.path / "classes.json").exists()
    if not masks and run.kind != "tag":
        raise InputError(
            f"{run.path} has neither masks nor tags (it is a run of kind {run.kind}). "
            "Give a run of `tagmask mask` or `tagmask tag`."
        )
    rows = list(itertools.islice(run.select(status="done", order="confidence"), _SHOWN))
    names = ImageNames(run)
    classes = run.classes if masks else None
    layout = PageLayout(
        items=len(rows),
        words=len(classes.names) if classes else 0,
        frame=frame_for([row.width / row.height for row in rows if row.width and row.height]),
        sources=(),
        layers=int(masks),
        pictures=_PICTURES,
    )
    items = (
        _tag_item(names.of(row), row) if classes is None else _mask_item(names.of(row), row, run, classes)
        for row in rows
    )
    title = f"tagmask {run.kind}: {run.path.resolve().name}"
    parts = render_parts(title, _lead(run, rows), items, _facts(run), layout, failures=_failures(run, names))
    with atomic_open(target) as file:
        for part in parts:
            file.write(part.encode())


def _lead(run: Run, rows: Sequence[ImageRow]) -> str:
    done, failed = run.counts["done"], run.counts["failed"]
    confident = any(row.confidence is not None for row in rows)
    if not rows:
        lead = "No image is finished."
    elif len(rows) < done:
        chosen = "those with the lowest confidence" if confident else "the first ones"
        lead = f"{len(rows)} of {done:,} finished images are shown: {chosen}."
    else:
        lead = f"All {done} finished images are shown." if done > 1 else "The one finished image is shown."
    if confident:
        lead += " The lowest confidence comes first." if len(rows) > 1 else ""
        lead += " Each word has its share of the pixels and, in brackets, its confidence (0 to 1)."
    if failed:
        lead += f" {failed:,} images failed" if failed > 1 else " One image failed"
        lead += "; see the end of the page."
    return lead


def _facts(run: Run) -> dict[str, str]:
    fields, recorded = run.identity.fields, run.identity.metadata
    settings = fields.get("settings")
    method = settings.get("method") if isinstance(settings, Mapping) else None
    counts = ", ".join(
        f"{count:,} {'not yet done' if status == 'todo' else status}"
        for status in ("done", "failed", "todo")
        if (count := run.counts[status]) or status == "done"
    )
    first = int(run.words[:1] == ("background",))
    facts = {
        "Words": _list(run.words[first:]),
        "Weights": recorded.get("weights"),
        "Method": method,
        "Images": counts,
        "Version": f"tagmask {recorded['tagmask']}" if "tagmask" in recorded else None,
    }
    return {name: str(value) for name, value in facts.items() if value}


def _failures(run: Run, names: ImageNames) -> Iterator[tuple[str, str]]:
    for row in itertools.islice(run.failed, _SHOWN):
        yield names.of(row), row.error or "The reason was not recorded."
    if (more := run.counts["failed"] - _SHOWN) > 0:
        yield f"and {more:,} more", "`tagmask export RUN --to csv` lists all."


def _tag_item(name: str, row: ImageRow) -> ReportItem:
    image, note = _photo(row)
    return ReportItem(name, image, _tags(row), (), note=note)


def _tags(row: ImageRow) -> Tags | None:
    if not isinstance(row.scores, dict):
        return None
    words, chosen, record = tuple(row.scores), set(row.tags or ()), row.record or {}
    # A calibrated tagger has a threshold for each word, so no line is drawn between the words.
    calibrated = record.get("thresholds") is not None
    recorded = record.get("threshold")
    threshold = float(recorded) if isinstance(recorded, int | float) and not calibrated else np.nan
    return Tags(
        words=words,
        scores=np.array(list(row.scores.values()), np.float32),
        chosen=tuple(c for c, word in enumerate(words) if word in chosen),
        threshold=threshold,
        precision="float32",
    )


def _mask_item(name: str, row: ImageRow, run: Run, classes: Classes) -> ReportItem:
    notes = []
    if row.confidence is not None:
        notes.append(f"Confidence {row.confidence:.2f}.")
    image, reason = _photo(row)
    try:
        corrected = run.mask_path(row).is_relative_to(run.path / "corrected")
        segmentation = _segmentation(row, run, classes, corrected)
    except (ImageError, InputError) as error:
        said = str(error).replace(str(run.path), run.path.name)
        return ReportItem(name, image, None, (), note=" ".join([*notes, reason, said]))
    if corrected:
        notes.append("Mask corrected by a person.")
    if row.stale:
        notes.append("The photo changed after its review.")
    if image is not None and image.shape[:2] != segmentation.labels.shape:
        image, reason = None, "The photo has another size than its mask."
    if segmentation.absent:
        notes.append(f"Absent: {_list(segmentation.absent)}.")
    return ReportItem(
        name, image, None, (("masks", segmentation),), note=" ".join(filter(None, [*notes, reason]))
    )


def _segmentation(row: ImageRow, run: Run, classes: Classes, corrected: bool) -> Segmentation:
    """The image's mask as a result.

    Raises:
        ImageError: it cannot be read.
        InputError: it has a label without a word, or another size than was recorded.
    """
    labels = run.mask(row)
    wide = classes.ignore_index > 255
    if wide and labels.dtype == np.uint8:
        labels = labels.astype(np.uint16)  # 255 is a class
    if not wide and labels.dtype != np.uint8:
        labels = labels.astype(np.uint8)
    return Segmentation(
        words=classes.names,
        labels=labels,
        scores=None,
        background=classes.names[:1] == ("background",),
        precision="float32",
        class_confidence=None if corrected else row.class_confidence,
    )


def _photo(row: ImageRow) -> tuple[Image | None, str]:
    """The photo as it was when the run read it; or None, and why."""
    try:
        stat = row.source.stat()
    except (OSError, ValueError):
        return None, "The photo is no longer there."
    if (stat.st_size, stat.st_mtime_ns) != (row.size, row.mtime_ns):
        return None, "The photo changed after the run."
    try:
        return read_image(row.source), ""
    except ImageError as error:
        return None, str(error).replace(str(row.source), row.source.name)


def _list(words: Sequence[str]) -> str:
    more = f" and {len(words) - _WORDS:,} more" if len(words) > _WORDS else ""
    return ", ".join(words[:_WORDS]) + more
