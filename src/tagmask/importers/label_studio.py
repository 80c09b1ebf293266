"""Read Label Studio's exports: JSON, COCO, and brush masks as PNG.

The JSON export holds what was drawn, pixel for pixel. The COCO export of brush masks has the outer outlines
alone: holes are filled, and what is one pixel wide is missing. The PNG export names tasks, not images; the
JSON export says which is which.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from tagmask.errors import InputError
from tagmask.importers.canvas import Canvas
from tagmask.importers.class_map import ClassMap
from tagmask.importers.coco import CocoAnnotations
from tagmask.importers.foreign import (
    ForeignImage,
    ImportOptions,
    covered,
    entry_of,
    list_of,
    number_of,
    points_of,
    read_png,
    text_of,
    whole_of,
)
from tagmask.importers.source import JSON_LIMIT, Source
from tagmask.json_items import list_items
from tagmask.masks import IndexMap
from tagmask.printable import short_repr
from tagmask.regions.run_lengths import brush_spans
from tagmask.strict_json import parse_json
from tagmask.types import Size

__all__ = ["read_label_studio"]

_PNG: Final = re.compile(r"task-(\d{1,18})-annotation-(\d{1,18})-by-([^-]*)-(.+)-\d+\.png")
_UPLOADED: Final = re.compile(r"[0-9a-f]{8}-(.+)")
"""A file that was uploaded; Label Studio puts eight digits before its name."""
_CENTRES: Final = "Label Studio Converter"
"""Writes outlines of brush masks, from pixel to pixel."""
_WITHOUT_BRUSH: Final = "Label Studio"
_LABELS: Final = ("brushlabels", "polygonlabels", "rectanglelabels", "labels")
_OTHER_SHAPES: Final = ("ellipselabels", "keypointlabels", "bitmasklabels", "vectorlabels")


def read_label_studio(source: Source, classes: ClassMap, options: ImportOptions) -> Iterator[ForeignImage]:
    """Read the images of an export.

    Raises:
        InputError: it is not Label Studio's, or it is one as PNG and the tasks' names are missing.
    """
    masks = [name for name in source.named(".png") if _PNG.fullmatch(name.split("/")[-1])]
    if masks and not source.is_file:
        yield from _png_images(source, masks, classes, options)
        return
    files = source.named(".json")
    if not files:
        raise InputError(
            f"{source.path} has no .json file and no masks of Label Studio. Give its export as JSON, COCO "
            "or PNG."
        )
    for name in files:
        data = source.read(name, JSON_LIMIT).removeprefix(b"\xef\xbb\xbf")
        if data.lstrip()[:1] == b"{":
            yield from _coco_images(source, name, classes)
        else:
            yield from _task_images(data, source.where(name), classes)


def _task_images(data: bytes, where: str, classes: ClassMap) -> Iterator[ForeignImage]:
    for number, task in enumerate(_tasks(data, where), start=1):
        what = f"task {task.get('id', number)} of {where}"
        annotation = _newest(task, what)
        if annotation is not None:
            draw = partial(_task_labels, annotation, what, classes)
            yield ForeignImage(_called(task, what), draw, not _is_named(task))


def _tasks(data: bytes, where: str) -> Iterator[dict[str, Any]]:
    try:
        # Latin-1 maps each byte to one character, so offsets in the text are offsets in the file.
        for number, (_, start, stop) in enumerate(list_items(data.decode("latin-1")), start=1):
            task = entry_of(parse_json(data[start:stop]), f"entry {number} of {where}")
            entry_of(task.get("data"), f"the data of entry {number} of {where}")
            yield task
    except InputError as error:
        raise InputError(f"{error}. Export the project from Label Studio as JSON.") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply. Export it again.") from error
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON ({error}). Export it again.") from error


def _is_named(task: dict[str, Any]) -> bool:
    return isinstance(task["data"].get("file_name"), str)


def _called(task: dict[str, Any], what: str) -> tuple[str, ...]:
    """Return the names of a task's image: the run's own if the task has it, else those of its address."""
    data = task["data"]
    if _is_named(task):
        return (data["file_name"],)
    texts = [value for value in data.values() if isinstance(value, str)]
    address = data.get("image", texts[0] if len(texts) == 1 else None)
    if not isinstance(address, str):
        raise InputError(f"The data of {what} does not say which image it is; expected is the field image.")
    return _of_address(address)


def _of_address(address: str) -> tuple[str, ...]:
    """Return what the image of an address may be called, without the server and its folders for uploads."""
    try:
        parts = urlsplit(address)
        path = parse_qs(parts.query).get("d", [unquote(parts.path, errors="surrogateescape")])[0]
    except ValueError:
        path = address
    path = path.replace("\\", "/").strip("/")
    file = PurePosixPath(path).name
    uploaded = _UPLOADED.fullmatch(file)
    return (path, uploaded[1]) if uploaded else (path,)


def _newest(task: dict[str, Any], what: str) -> dict[str, Any] | None:
    """Return the annotation that counts: the ground truth, else the newest that was not cancelled."""
    if "annotations" not in task:
        raise InputError(f"{what} has no annotations. Export the project from Label Studio as JSON.")
    annotations = [
        entry_of(entry, f"an annotation of {what}") for entry in list_of(task, "annotations", what)
    ]
    valid = [entry for entry in annotations if not entry.get("was_cancelled")]

    def age(entry: dict[str, Any]) -> tuple[bool, str, int]:
        changed = entry.get("updated_at") or entry.get("created_at")
        number = entry.get("id")
        return (
            entry.get("ground_truth") is True,
            changed if isinstance(changed, str) else "",
            number if isinstance(number, int) else 0,
        )

    return max(valid, key=age, default=None)


def _task_labels(annotation: dict[str, Any], what: str, classes: ClassMap, size: Size) -> IndexMap:
    canvas = classes.canvas(size)
    for number, result in enumerate(list_of(annotation, "result", "the annotation"), start=1):
        try:
            _draw(canvas, entry_of(result, "it"), classes)
        except InputError as error:
            raise InputError(f"result {number} of {what}: {error}") from error
    return canvas.labels


def _draw(canvas: Canvas, result: dict[str, Any], classes: ClassMap) -> None:
    kind, value = result.get("type"), result.get("value")
    if kind in _OTHER_SHAPES:
        raise InputError(f"{kind} cannot be imported; use brush, polygons or rectangles")
    if not isinstance(value, dict) or not ("rle" in value or kind in _LABELS):
        return  # tags, texts and relations
    labels = next((value[key] for key in _LABELS if key in value), None)
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise InputError(f"a region has the labels {short_repr(labels)}; give it one")
    label = classes.label(labels[0])
    stated = whole_of(result, "original_height", "it"), whole_of(result, "original_width", "it")
    if stated != canvas.size:
        raise InputError(f"its image is {stated} (h, w), expected is {canvas.size}. Was it resized?")
    if result.get("image_rotation"):
        raise InputError("the image was turned in Label Studio; turn it back there")
    if "rle" in value:
        rle = list_of(value, "rle", "it")
        if not set(map(type, rle)) <= {int} or not all(0 <= byte <= 255 for byte in rle):
            raise InputError("its rle is not a list of bytes")
        canvas.paint_spans(label, *brush_spans(np.array(rle, np.int64), canvas.size))
    elif "points" in value:
        shares = points_of(value["points"], "it")
        region = (shares / 100 * np.array(canvas.size[::-1])).ravel().tolist()
        canvas.paint_segmentation(label, [region])
    else:
        _draw_rectangle(canvas, label, value)


def _draw_rectangle(canvas: Canvas, label: int, value: dict[str, Any]) -> None:
    x, y, width, height = (number_of(value, name, "it") / 100 for name in ("x", "y", "width", "height"))
    if value.get("rotation"):
        raise InputError("a turned rectangle cannot be imported; use a polygon")
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    region = (np.array(corners) * np.array(canvas.size[::-1])).ravel().tolist()
    canvas.paint_segmentation(label, [region])


def _coco_images(source: Source, name: str, classes: ClassMap) -> Iterator[ForeignImage]:
    coco = CocoAnnotations(source, name)
    contributor = coco.info.get("contributor")
    if contributor == _WITHOUT_BRUSH:
        raise InputError(
            f"{coco.where} is Label Studio's COCO export without brush masks. Export the project as JSON, or "
            "as COCO with brush masks. If all is drawn as polygons, use --from coco."
        )
    for entry in coco.entries():
        address = entry.get("path")
        names = _of_address(address if isinstance(address, str) else text_of(entry, "file_name", "an image"))
        draw = partial(coco.labels, entry, classes, through_centres=contributor == _CENTRES)
        yield ForeignImage(names, draw, address=True)


def _png_images(
    source: Source, masks: list[str], classes: ClassMap, options: ImportOptions
) -> Iterator[ForeignImage]:
    if options.tasks is None:
        raise InputError(
            f"{source.path} names tasks, not images. Export the project as JSON too, and give that file with "
            "--tasks. The JSON export alone is enough as well."
        )
    with Source(options.tasks) as listed:
        data = listed.read(listed.names[0], JSON_LIMIT) if listed.is_file else b""
        tasks = {
            whole_of(task, "id", "a task"): (_called(task, "a task"), not _is_named(task))
            for task in _tasks(data.removeprefix(b"\xef\xbb\xbf"), str(options.tasks))
        }
    found: dict[int, dict[int, list[tuple[str, str]]]] = {}
    for name in masks:
        parts = _PNG.fullmatch(name.split("/")[-1])
        if parts is not None:
            of_task = found.setdefault(int(parts[1]), {})
            of_task.setdefault(int(parts[2]), []).append((name, parts[4]))
    for number, annotations in found.items():
        if number not in tasks:
            raise InputError(f"{options.tasks} does not list task {number}. Export it from the same project.")
        names, address = tasks[number]
        newest = annotations[max(annotations)]
        yield ForeignImage(names, partial(_png_labels, source, newest, classes), address)


def _png_labels(source: Source, masks: list[tuple[str, str]], classes: ClassMap, size: Size) -> IndexMap:
    canvas = classes.canvas(size)
    for name, called in masks:
        canvas.paint(classes.label(_label_of(called, classes)), covered(read_png(source, name, size)))
    return canvas.labels


def _label_of(called: str, classes: ClassMap) -> str:
    """Return the label in `PART-LABEL`, where both may hold hyphens: the longest that the run knows."""
    written = {name.replace("/", "-").replace("\\", "-"): name for name in classes.known}
    for at, character in enumerate(called):
        if character == "-" and called[at + 1 :] in written:
            return written[called[at + 1 :]]
    return called.partition("-")[2]
