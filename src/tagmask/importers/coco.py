"""Read COCO annotations: run lengths and polygons, which are drawn as pycocotools draws them.

The file's bytes stay in memory; of its entries, only images, categories and the places of the annotations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tagmask.data.regions import RegionError
from tagmask.errors import InputError
from tagmask.importers.canvas import Canvas
from tagmask.importers.class_map import ClassMap
from tagmask.importers.foreign import (
    ForeignImage,
    ImportOptions,
    entry_of,
    list_of,
    text_of,
    whole_of,
)
from tagmask.importers.source import JSON_LIMIT, Source
from tagmask.json_items import object_items
from tagmask.masks import IndexMap
from tagmask.printable import short_repr
from tagmask.strict_json import parse_json
from tagmask.types import Size

__all__ = ["CocoAnnotations", "read_coco"]


def read_coco(source: Source, classes: ClassMap, options: ImportOptions) -> Iterator[ForeignImage]:
    """Read the images of COCO files: one, or all of a folder or archive; of one with `annotations`, those.

    Raises:
        InputError: no file was found, or one is not a COCO file.
    """
    files = source.named(".json")
    files = [name for name in files if "annotations/" in f"/{name}"] or files
    if not files:
        raise InputError(f"{source.path} has no .json file. Give COCO annotations.")
    for name in files:
        yield from CocoAnnotations(source, name).images(classes)


@dataclass(frozen=True)
class _ListedImage:
    id: int
    file_name: str
    size: Size | None


class CocoAnnotations:
    """A COCO annotation file.

    Args:
        source: where it is.
        name: of the file.

    Raises:
        InputError: it cannot be read, or is not a COCO file.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.where = source.where(name)
        self._data = source.read(name, JSON_LIMIT).removeprefix(b"\xef\xbb\xbf")
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._rest: dict[str, Any] = {}
        try:
            self._index()
        except RecursionError as error:
            raise InputError(f"{self.where} is nested too deeply. Export it again.") from error
        except InputError as error:
            raise InputError(f"{self.where} is not a file of COCO annotations: {error}.") from error
        except ValueError as error:  # also a number of thousands of digits
            raise InputError(f"{self.where} is not valid JSON ({error}). Export it again.") from error

    @property
    def info(self) -> dict[str, Any]:
        """What the file says of itself."""
        info = self._rest.get("info")
        return info if isinstance(info, dict) else {}

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries of the images."""
        yield from self._rest["images"]

    def images(self, classes: ClassMap, *, through_centres: bool = False) -> Iterator[ForeignImage]:
        """Yield its images.

        Args:
            classes: of the run.
            through_centres: polygons run through the centres of pixels, which are part of their regions.
        """
        for entry in self.entries():
            listed = self._listed(entry)
            draw = partial(self._labels, listed, classes, through_centres)
            yield ForeignImage((listed.file_name.replace("\\", "/"),), draw)

    def labels(
        self, entry: dict[str, Any], classes: ClassMap, size: Size, *, through_centres: bool
    ) -> IndexMap:
        """Draw the label map of an image."""
        return self._labels(self._listed(entry), classes, through_centres, size)

    def _index(self) -> None:
        # Latin-1 maps each byte to one character, so offsets in the text are offsets in the file.
        for key, value, start, stop in object_items(self._data.decode("latin-1"), "annotations"):
            if key == "annotations":
                image = whole_of(
                    entry_of(value, "an annotation"), "image_id", f"annotation {short_repr(value.get('id'))}"
                )
                self._places.setdefault(image, []).append((start, stop))
            else:
                self._rest[key] = parse_json(self._data[start:stop])
        images = list_of(self._rest, "images", "it")
        self._categories = {
            whole_of(entry_of(entry, "a category"), "id", "a category"): text_of(entry, "name", "a category")
            for entry in list_of(self._rest, "categories", "it")
        }
        known = {self._listed(entry).id for entry in images}
        if len(known) < len(images):
            raise InputError("two images have the same id")
        for image in self._places.keys() - known:
            raise InputError(f"an annotation is of the image {image}, which it does not list")

    def _listed(self, entry: object) -> _ListedImage:
        fields = entry_of(entry, "an image")
        number = whole_of(fields, "id", "an image")
        height, width = fields.get("height"), fields.get("width")
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        return _ListedImage(number, text_of(fields, "file_name", f"image {number}"), size)

    def _labels(self, listed: _ListedImage, classes: ClassMap, through_centres: bool, size: Size) -> IndexMap:
        if listed.size not in (None, size):
            raise InputError(
                f"{self.where} gives its size as {listed.size} (h, w), but it is {size}. Was it resized?"
            )
        canvas = classes.canvas(size)
        for start, stop in self._places.get(listed.id, []):
            try:
                annotation = parse_json(self._data[start:stop])
            except ValueError as error:  # a number that is infinite
                raise InputError(f"{self.where} is not valid JSON ({error})") from error
            try:
                self._draw(canvas, annotation, classes, through_centres)
            except (InputError, RegionError) as error:
                raise InputError(f"annotation {short_repr(annotation.get('id'))}: {error}") from error
        return canvas.labels

    def _draw(
        self, canvas: Canvas, annotation: dict[str, Any], classes: ClassMap, through_centres: bool
    ) -> None:
        category = whole_of(annotation, "category_id", "it")
        if category not in self._categories:
            raise InputError(f"its category {category} is not in the file")
        label = classes.label(self._categories[category])
        region = annotation.get("segmentation")
        if not region:
            raise InputError("it has no segmentation; a box alone cannot be imported")
        if through_centres and isinstance(region, list):
            for polygon in region:
                if not isinstance(polygon, list) or len(polygon) % 2 or not polygon:
                    raise InputError("a polygon is not a list of pairs of numbers")
                if not set(map(type, polygon)) <= {int, float} or any(abs(value) > 1e30 for value in polygon):
                    raise InputError("a polygon is not a list of pairs of numbers")
                canvas.paint_polygon(label, np.array(polygon, np.float64).reshape(-1, 2))
        else:
            canvas.paint_segmentation(label, region)
