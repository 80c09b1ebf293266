"""Write masks as COCO panoptic: one picture of segments per image, and JSON that says what they are."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tagmask.exporters.export import Export, ExportedImage
from tagmask.exporters.label_images import colour_png, paint
from tagmask.exporters.targets import new_folder
from tagmask.masks import palette
from tagmask.strict_json import json_bytes

__all__ = ["write_panoptic"]

_ID_OF_RGB = np.array([1, 256, 65536])
_REST = {
    "info": {"description": "Masks of tagmask", "version": "1.0"},
    "licenses": [{"id": 1, "name": "Unknown", "url": ""}],
}


def write_panoptic(export: Export, target: Path) -> None:
    """Write `annotations/panoptic_SPLIT.json`, `annotations/panoptic_SPLIT/NAME.png` and `images/SPLIT`.

    The colour of a pixel is its segment's id: R + 256 G + 65536 B. A segment is a region: of a class, and
    then classes are stuff, or with `regions="component"` a connected part, and then they are things. Holes,
    several parts, and regions of one pixel are kept. Background and ignored pixels both are id 0, which is
    unlabelled in this format. A segment's score is kept as in `coco`, and so are the categories' ids.

    `file_name` is the photo's path below the folder that was given.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: the run has no masks, a photo is gone or has changed, or something is in the way.
        OutputError: a file cannot be written.
    """
    with new_folder(target) as folder, ExitStack() as opened:
        files = {}
        for split in export.splits:
            pngs = folder / "annotations" / f"panoptic_{split}"
            pngs.mkdir(parents=True)
            (folder / "images" / split).mkdir(parents=True)
            file = opened.enter_context(pngs.with_suffix(".json").open("wb"))
            files[split] = _PanopticFile(file.write, pngs, export)
        for image in export:
            image.write_photo(folder / "images" / image.split / image.name)
            files[image.split].add(image)
        for panoptic in files.values():
            panoptic.finish()


class _PanopticFile:
    """The JSON of one split, written image by image, and its folder of PNGs."""

    def __init__(self, write: Callable[[bytes], object], pngs: Path, export: Export) -> None:
        self._write, self._pngs, self._export = write, pngs, export
        self._is_thing = int(export.region_kind == "component")
        self._images: list[bytes] = []
        write(b'{"annotations": [')

    def add(self, image: ExportedImage) -> None:
        """Write one image's segments."""
        numbers, regions = paint(image.regions(), image.size)
        ids = (palette(len(regions) + 1) @ _ID_OF_RGB).tolist()
        segments = []
        for id_, region in zip(ids[1:], regions, strict=True):
            x0, y0, x1, y1 = region.box
            segment: dict[str, object] = {
                "id": id_,
                "category_id": self._category(region.label),
                "isthing": self._is_thing,
                "iscrowd": 0,
                "area": region.area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            }
            score = image.score(region.label)
            if score is not None:
                segment["score"] = score
            segments.append(segment)
        name = f"{image.stem}.png"
        (self._pngs / name).parent.mkdir(parents=True, exist_ok=True)
        (self._pngs / name).write_bytes(colour_png(numbers, rgb=True))

        number = len(self._images) + 1
        height, width = image.size
        self._images.append(
            json_bytes(
                {"id": number, "file_name": image.name, "height": height, "width": width, "license": 1}
            )
        )
        annotation = {"image_id": number, "file_name": name, "segments_info": segments}
        self._write((b", " if number > 1 else b"") + json_bytes(annotation))

    def finish(self) -> None:
        """Write the images and categories, which end the file."""
        export = self._export
        colours = palette(len(export.words) + 1)
        categories = [
            {
                "id": self._category(label),
                "name": export.words[label],
                "supercategory": "",
                "isthing": self._is_thing,
                "color": colours[self._category(label)].tolist(),
            }
            for label in range(export.first, len(export.words))
        ]
        self._write(b'], "images": [' + b", ".join(self._images) + b"], ")
        self._write(json_bytes({"categories": categories, **_REST})[1:] + b"\n")

    def _category(self, label: int) -> int:
        return label + 1 - self._export.first
