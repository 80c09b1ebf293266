"""Write masks as COCO annotations: run-length encoded regions, or polygons."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tagmask.exporters.export import Export
from tagmask.files import atomic_open
from tagmask.regions import Region
from tagmask.regions.coco import coco_annotation, coco_category, needs_pycocotools
from tagmask.strict_json import json_text
from tagmask.types import Size

__all__ = ["CocoFile", "write_coco"]


def write_coco(export: Export, target: Path) -> None:
    """Write the regions of a run, one image after the other; corrected masks replace the run's own.

    Args:
        export: what to export.
        target: the file to write.

    Raises:
        InputError: the run has no masks, or pycocotools is not installed.
        OutputError: the file cannot be written.
    """
    needs_pycocotools()
    with atomic_open(target) as file:
        coco = CocoFile(file.write, export.words, background=export.has_background)
        for image in export:
            coco.add(image.name, image.size, image.regions(), image.score, polygons=export.options.polygons)
        coco.finish()


class CocoFile:
    """A COCO annotation file, written image by image. Background and ignored pixels get no annotation.

    Category ids are the mask labels if there is a background, else label + 1, since tools reserve id 0.

    Args:
        write: writes bytes at the end of the file.
        words: the name of each label.
        background: label 0 is the background.
    """

    def __init__(self, write: Callable[[bytes], object], words: Sequence[str], *, background: bool) -> None:
        self._write, self._words, self._background = write, tuple(words), background
        self._images: list[bytes] = []
        self._annotations = 0
        write(b'{"annotations": [')

    def add(
        self,
        file_name: str,
        size: Size,
        regions: Iterable[Region],
        score: Callable[[int], float | None] = lambda _: None,
        *,
        polygons: bool = False,
    ) -> None:
        """Write one image's regions, with holes.

        Args:
            file_name: of the image; unique.
            size: (h, w) of the image.
            regions: of any label but the background.
            score: gives the score of a label's regions.
            polygons: write outlines with holes cut open, instead of run lengths.
        """
        image = len(self._images) + 1
        described = {"id": image, "file_name": file_name, "height": size[0], "width": size[1], "license": 1}
        self._images.append(_json(described))
        for region in regions:
            self._annotations += 1
            annotation = coco_annotation(
                region,
                size,
                annotation_id=self._annotations,
                image_id=image,
                category_id=self._category(region.label),
                score=score(region.label),
                polygons=polygons,
            )
            self._write((b", " if self._annotations > 1 else b"") + _json(annotation))

    def finish(self) -> None:
        """Write the images and categories, which end the file."""
        categories = [
            {"id": self._category(label), "name": self._words[label], "supercategory": ""}
            for label in range(int(self._background), len(self._words))
        ]
        info = {"description": "Masks of tagmask", "version": "1.0"}
        licence = {"id": 1, "name": "Unknown", "url": ""}
        self._write(b'], "images": [' + b", ".join(self._images) + b'], "categories": ')
        self._write(_json(categories) + b', "licenses": ' + _json([licence]) + b', "info": ' + _json(info))
        self._write(b"}\n")

    def _category(self, label: int) -> int:
        return coco_category(label, background=self._background)


def _json(value: object) -> bytes:
    # File names may hold bytes that are not UTF-8; they become escapes, which JSON reads back.
    return json_text(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
