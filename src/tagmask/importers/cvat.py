"""Read CVAT's exports "Segmentation mask 1.1" and "COCO 1.0"."""

from collections.abc import Iterable

from tagmask.errors import InputError
from tagmask.importers.class_map import ClassMap
from tagmask.importers.coco import read_coco
from tagmask.importers.foreign import ForeignImage, ImportOptions
from tagmask.importers.source import Source
from tagmask.importers.voc import LABELMAP, read_voc

__all__ = ["read_cvat"]


def read_cvat(source: Source, classes: ClassMap, options: ImportOptions) -> Iterable[ForeignImage]:
    """Read the images of an archive, or of the folder it was unpacked to.

    Raises:
        InputError: it is of neither kind, or damaged.
    """
    if not source.is_file and any(name.split("/")[-1] == LABELMAP for name in source.named(LABELMAP)):
        return read_voc(source, classes, options)
    if source.is_file or source.named(".json"):
        return read_coco(source, classes, options)
    raise InputError(
        f'{source.path} has neither {LABELMAP} nor a .json file. Export it from CVAT as "Segmentation mask '
        '1.1" or "COCO 1.0".'
    )
