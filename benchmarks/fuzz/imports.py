"""Kinds of what `tagmask import` reads: other tools' files of masks."""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image

from benchmarks.fuzz.archives import mutate_zip
from benchmarks.fuzz.kind import Believed, Kind
from benchmarks.fuzz.mutate import Mutator, mutate_bytes
from benchmarks.fuzz.values import mutate_json
from tagmask.errors import InputError
from tagmask.importers import IMPORTERS, ImportOptions
from tagmask.importers.class_map import ClassMap
from tagmask.importers.source import Source
from tagmask.regions.run_lengths import brush_rle
from tagmask.runs.classes import Classes

__all__ = ["IMPORTS"]

_SIZE = 12, 16
_WORDS = ("background", "cat", "dog")
_MASK = np.indices(_SIZE).sum(axis=0) % 5 < 2
_NUMBERS = (0, 1, -1, 12, 16, 255, 1e9, -1e9, 2**31, 2**63, 1e300, 0.5)


def _read_as(name: str) -> Callable[[Path], int]:
    """Read each image as the import does, before it writes."""

    def read(path: Path) -> int:
        classes, refused, pixels = ClassMap(Classes(_WORDS, 255)), "", 0
        with Source(path) as source:
            for image in IMPORTERS[name].reader(source, classes, ImportOptions()):
                try:
                    labels = image.labels(_SIZE)
                except InputError as error:
                    refused = str(error)
                    continue
                if labels.shape != _SIZE or not set(np.unique(labels).tolist()) <= {0, 1, 2, 255}:
                    raise Believed(f"{labels.shape} with the labels {np.unique(labels)[:9]}")
                pixels = max(pixels, int(labels.size))
        if refused:
            raise InputError(f"{path.name}: {refused}")
        return pixels

    return read


def _hostile_lists(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change lists of numbers (points, run lengths, brush masks) to others that are valid JSON."""
    try:
        tree = json.loads(data)
        lists: list[list[object]] = []
        pending = [tree]
        while pending:
            value = pending.pop()
            pending += value if isinstance(value, list) else value.values() if isinstance(value, dict) else []
            if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
                lists.append(value)
        chosen = rng.choice(lists)
        if rng.random() < 0.2:
            chosen[:] = chosen * min(rng.choice((2, 1000)), 100_000 // len(chosen) + 1)
        for _ in range(rng.choice((1, 2, 9))):
            chosen[rng.randrange(len(chosen))] = rng.choice((*_NUMBERS, rng.randrange(256)))
        return json.dumps(tree).encode()
    except (ValueError, TypeError, IndexError, AttributeError, RecursionError):  # damaged already
        return mutate_json(data, others, rng)


_JSON: Sequence[Mutator] = (mutate_json, mutate_json, _hostile_lists)


def _png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def _zip(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _coco() -> bytes:
    height, width = _SIZE
    regions = ([[0, 0, 8, 0, 8, 3, 0, 3]], {"size": [height, width], "counts": [20, 5, 167]})
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1 + number, "segmentation": region, "area": 9}
        for number, region in enumerate(regions)
    ]
    categories = [{"id": number, "name": word} for number, word in enumerate(_WORDS)]
    images = [{"id": 1, "file_name": "a.jpg", "height": height, "width": width}]
    return json.dumps({"images": images, "categories": categories, "annotations": annotations}).encode()


def _coco_kind() -> Kind:
    return Kind((_coco(),), _read_as("coco"), _JSON, "coco.json")


def _cvat_kind() -> Kind:
    height, width = _SIZE
    colours = np.zeros((height, width, 3), np.uint8)
    colours[_MASK] = (1, 2, 3)
    masks = {"labelmap.txt": b"cat:1,2,3::\nbackground:0,0,0::\n", "SegmentationClass/a.png": _png(colours)}
    samples = (_zip(masks), _zip({"annotations/instances_default.json": _coco()}))
    return Kind(samples, _read_as("cvat"), (mutate_zip,), "cvat.zip")


def _label_studio_kind() -> Kind:
    height, width = _SIZE
    size = {"original_height": height, "original_width": width, "image_rotation": 0}
    brush = {"format": "rle", "rle": brush_rle(_MASK), "brushlabels": ["cat"]}
    polygon = {"points": [[0, 0], [50.5, 10], [90, 100]], "polygonlabels": ["dog"]}
    box = {"x": 1, "y": 2, "width": 30.5, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
    results = [
        {"type": "brushlabels", "value": brush, **size},
        {"type": "polygonlabels", "value": polygon, **size},
        {"type": "rectanglelabels", "value": box, **size},
        {"type": "choices", "value": {"choices": ["cat"]}},
    ]
    annotation = {"id": 1, "result": results, "was_cancelled": False, "updated_at": "2026-11-20T10:00:00Z"}
    tasks = [{"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [annotation]}]
    return Kind((json.dumps(tasks).encode(),), _read_as("label-studio"), _JSON, "tasks.json")


def _labelme_kind() -> Kind:
    mask = base64.b64encode(_png(_MASK[:4, :5])).decode()
    shapes = [
        {"label": "cat", "points": [[0.4, 0.4], [9, 3], [4.2, 11]], "shape_type": "polygon"},
        {"label": "dog", "points": [[1, 2], [5, 5]], "shape_type": "mask", "mask": mask},
        {"label": "dog", "points": [[1, 2], [15, 5]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[5, 5], [5, 8]], "shape_type": "circle"},
    ]
    content = {"imagePath": "a.jpg", "imageHeight": 12, "imageWidth": 16, "shapes": shapes}
    return Kind((json.dumps(content).encode(),), _read_as("labelme"), _JSON, "a.json")


def _yolo_kind() -> Kind:
    read = _read_as("yolo")
    samples = (
        b"0 0.1 0.1 0.9 0.1 0.5 0.9\n1 0 0 1 0 1 1 0 1\n",
        b"0 0.025 0.033 0.4 0.033 0.4 0.7 0.025 0.7",
    )
    beside = {"data.yaml": b"train: images\nnames: [cat, dog]\n"}
    return Kind(samples, lambda path: read(path.parents[1]), (mutate_bytes,), "labels/a.txt", beside)


def _yolo_names_kind() -> Kind:
    read = _read_as("yolo")
    samples = (
        b"names: [cat, 'dog']\n",
        b'train: a\nnames:\n  0: cat # first\n  1: "dog"\n',
        b"names:\n- cat\n- dog\n",
    )
    beside = {"labels/a.txt": b"0 0.1 0.1 0.9 0.1 0.5 0.9\n"}
    return Kind(samples, lambda path: read(path.parent), (mutate_bytes,), "data.yaml", beside)


IMPORTS: Mapping[str, Callable[[], Kind]] = {
    "import-coco": _coco_kind,
    "import-cvat": _cvat_kind,
    "import-label-studio": _label_studio_kind,
    "import-labelme": _labelme_kind,
    "import-yolo": _yolo_kind,
    "import-yolo-names": _yolo_names_kind,
}
"""Files of other tools, by name. Each makes its samples when it is called."""
