"""Write masks in the layout of PASCAL VOC: a picture of classes and a picture of objects per image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from tagmask.errors import InputError
from tagmask.exporters.export import Export, ExportedImage
from tagmask.exporters.label_images import PaintedRegion, colour_png, paint
from tagmask.exporters.targets import new_folder
from tagmask.masks import palette

__all__ = ["PHOTO_SUFFIXES", "VocLabels", "check_id", "write_voc"]

PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jp2", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm")
)
"""Endings under which datumaro and CVAT find photos in JPEGImages."""

_VOID = 255
"""The index of ignored pixels: no class and no object has it, nor its colour."""
_OBJECTS = 254
"""Objects of an image that have a colour of their own: readers know the first 256 colours only."""


def write_voc(export: Export, target: Path) -> None:
    """Write `JPEGImages`, `SegmentationClass`, `SegmentationObject`, `ImageSets` and `labelmap.txt`.

    Nested names stay, so that ids are the photos' paths without their endings. Value 0 is the background,
    also if the run has none; classes follow. Holes and several parts are kept. Ignored pixels are 255, and
    `labelmap.txt` then has a line `ignored`. Scores are lost.

    Up to 255 classes, background included, images have a palette; with more they are RGB. An object is a
    region: of a class, or with `regions="component"` a connected part; in an image of more than 254, the
    smallest of each class share a colour. Small regions that `min_area` leaves out are no objects, but stay
    in `SegmentationClass`.

    Photos stay as they are, except that endings unknown to datumaro and CVAT become .jpg or .png.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: a name that the format cannot hold, the run has no masks, a photo is gone or has changed,
            or something is in the way.
        OutputError: a file cannot be written.
    """
    labels = VocLabels(export)
    for split in export.splits:
        if "_" in split:
            raise InputError(f"Readers of VOC skip the split {split!r}. Give a name without an underscore.")
    with new_folder(target) as folder:
        lists = folder / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        ids: dict[str, list[str]] = {split: [] for split in export.splits}
        for image in export:
            ids[image.split].append(f"{check_id(image)}\n")
            image.write_photo(folder / "JPEGImages" / f"{image.stem}{image.suffix_among(PHOTO_SUFFIXES)}")
            classes, objects = labels.pngs(image)
            for name, content in (("SegmentationClass", classes), ("SegmentationObject", objects)):
                file = folder / name / f"{image.stem}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        for split, lines in ids.items():
            (lists / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        (folder / "labelmap.txt").write_bytes(labels.label_map())


def check_id(image: ExportedImage) -> str:
    """Return an image's name in lists of one name per line.

    Raises:
        InputError: readers of such lists would take it for another.
    """
    name = image.stem
    if name != name.strip() or name.startswith("#") or len(name.splitlines()) != 1:
        raise InputError(
            f"The name {name!r} cannot stand in a list of names. Rename the photo {image.row.source}, and "
            "run `tagmask mask` again."
        )
    return name


class VocLabels:
    """The classes of an export as VOC's values and colours.

    Args:
        export: the export.
        void: whether ignored pixels get a value and a class of their own; else they are background.

    Raises:
        InputError: the run has no masks, or a name that `labelmap.txt` cannot hold.
    """

    def __init__(self, export: Export, *, void: bool = True) -> None:
        self._export, self._void = export, void
        self._names = ("background", *export.words[export.first :])
        self._seen_void = False
        _check_names(self._names)

    def pngs(self, image: ExportedImage) -> tuple[bytes, bytes]:
        """Return the images of an image's classes and objects.

        Raises:
            ImageError: its mask cannot be read.
            InputError: its mask does not fit its run.
        """
        export, labels = self._export, image.labels
        ignored = labels == export.ignore_index
        classes = _skip_void(labels.astype(np.int32) + 1 - export.first)
        numbers, regions = paint(image.regions(), image.size)
        objects = _object_numbers(regions)[numbers]
        void = _VOID if self._void else 0
        classes[ignored] = objects[ignored] = void
        self._seen_void |= bool(void and ignored.any())
        many = bool((objects > _VOID).any())
        return colour_png(classes, rgb=len(self._names) > _VOID), colour_png(objects, rgb=many)

    def label_map(self) -> bytes:
        """Return `labelmap.txt`, once all images were encoded."""
        values = _skip_void(np.arange(len(self._names), dtype=np.int32))
        colours = palette(max(int(values[-1]), _VOID) + 1)
        lines = {name: colours[value] for name, value in zip(self._names, values.tolist(), strict=True)}
        if self._seen_void:
            lines["ignored"] = colours[_VOID]
        text = "".join(f"{name}:{','.join(map(str, rgb.tolist()))}::\n" for name, rgb in lines.items())
        return f"# label:color_rgb:parts:actions\n{text}".encode("utf-8", "backslashreplace")


def _skip_void(values: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
    """Return class values with the one of ignored pixels left out."""
    return values + (values >= _VOID)


def _object_numbers(regions: Sequence[PaintedRegion]) -> Int[np.ndarray, " numbers"]:
    """Return the value of each region's number, 0 first: its own, or in an image of many its class's.

    If even the classes are too many, all have their own, beyond the first 256 colours.
    """
    labels = {region.label for region in regions}
    own = len(regions) if len(regions) <= _OBJECTS else _OBJECTS - len(labels)
    if own < 0:
        return _skip_void(np.arange(len(regions) + 1, dtype=np.int32))
    values = np.zeros(len(regions) + 1, np.int32)
    by_area = sorted(range(len(regions)), key=lambda number: -regions[number].area)
    for value, index in enumerate(sorted(by_area[:own]), 1):
        values[index + 1] = value
    shared = {label: own + place for place, label in enumerate(sorted(labels), 1)}
    for index in by_area[own:]:
        values[index + 1] = shared[regions[index].label]
    return values


def _check_names(names: Sequence[str]) -> None:
    """Refuse names that a line `name:r,g,b::` cannot hold."""
    if len(set(names)) < len(names):
        raise InputError(
            "The word 'background' is a class of this run, but VOC has a background of its own. Export to "
            "coco, or run `tagmask mask` with another word."
        )
    for name in names:
        if ":" in name or name.startswith("#") or name != name.strip() or len(name.splitlines()) != 1:
            raise InputError(
                f"The word {name!r} cannot stand in VOC's labelmap.txt, where a colon ends a name and # "
                "starts a comment. Export to coco, or run `tagmask mask` with another word."
            )
        if name == "ignored":
            raise InputError(
                "The word 'ignored' stands for pixels without a class in VOC's labelmap.txt. Export to coco, "
                "or run `tagmask mask` with another word."
            )
