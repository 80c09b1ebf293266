"""Write masks as a zip that CVAT imports as "Segmentation mask 1.1"."""

import zipfile
from pathlib import Path

from tagmask.errors import InputError
from tagmask.exporters.export import Export
from tagmask.exporters.voc import PHOTO_SUFFIXES, VocLabels, check_id
from tagmask.files import atomic_open

__all__ = ["write_cvat"]

_LIST = "ImageSets/Segmentation/default.txt"
"""CVAT reads the images of this list."""


def write_cvat(export: Export, target: Path) -> None:
    """Write the layout of PASCAL VOC as one zip; CVAT finds each image by its path without its ending.

    As annotations of a task it needs no photos; as a data set of a project it does (`photos="copy"`). Every
    word must be a label of the task or project; a project without labels gets them. CVAT makes one mask of
    each region, with holes and several parts. Ignored pixels become background, since CVAT knows only
    classes. Scores are lost. In an image of more than 254 regions the smallest of each class become one.

    The same masks as "COCO 1.0": export to coco, and give CVAT `annotations.json` as it is. It also holds
    words with a colon, and photos that differ only in their ending.

    Args:
        export: what to export.
        target: the zip file to write.

    Raises:
        InputError: links to photos, a name that the format cannot hold, the run has no masks, or a photo is
            gone or has changed.
        OutputError: the file cannot be written.
    """
    if export.photo_choice == "link":
        raise InputError("A zip cannot hold links. Give --copy-images or --no-images for cvat.")
    labels = VocLabels(export, void=False)
    ids: list[str] = []
    with atomic_open(target) as file, zipfile.ZipFile(file, "w") as archive:
        for image in export:
            ids.append(f"{check_id(image)}\n")
            if export.photo_choice == "copy":
                suffix = image.suffix_among(PHOTO_SUFFIXES)
                archive.writestr(f"JPEGImages/{image.stem}{suffix}", image.photo_bytes(suffix))
            classes, objects = labels.pngs(image)
            archive.writestr(f"SegmentationClass/{image.stem}.png", classes)
            archive.writestr(f"SegmentationObject/{image.stem}.png", objects)
        archive.writestr(_LIST, "".join(ids), zipfile.ZIP_DEFLATED)
        archive.writestr("labelmap.txt", labels.label_map(), zipfile.ZIP_DEFLATED)
