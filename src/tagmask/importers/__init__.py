"""Bring corrected masks of other tools back into a run: one format per file, one line per format here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tagmask.checks import check_choice
from tagmask.importers.class_map import parse_renamed
from tagmask.importers.coco import read_coco
from tagmask.importers.corrections import ImportReport, Refusal, import_corrections
from tagmask.importers.cvat import read_cvat
from tagmask.importers.folder import read_folder
from tagmask.importers.foreign import ImportOptions, Reader
from tagmask.importers.label_studio import read_label_studio
from tagmask.importers.labelme import read_labelme
from tagmask.importers.voc import read_voc
from tagmask.importers.yolo import read_yolo
from tagmask.runs.reader import Run

__all__ = ["IMPORTERS", "ImportOptions", "ImportReport", "Importer", "Refusal", "import_run", "parse_renamed"]


@dataclass(frozen=True, kw_only=True)
class Importer:
    """A format that corrections can be imported from."""

    reader: Reader
    flat: bool = False
    """Names of images have no folders."""


IMPORTERS: Mapping[str, Importer] = {
    "coco": Importer(reader=read_coco),
    "yolo": Importer(reader=read_yolo, flat=True),
    "voc": Importer(reader=read_voc),
    "cvat": Importer(reader=read_cvat),
    "label-studio": Importer(reader=read_label_studio),
    "labelme": Importer(reader=read_labelme),
    "folder": Importer(reader=read_folder),
}


def import_run(run: Run, source: str, path: Path, **options: Any) -> ImportReport:  # noqa: ANN401
    """Import corrected masks from one format.

    Args:
        run: the run.
        source: name of the format.
        path: file, archive or folder that the tool exported.
        **options: of `ImportOptions`.

    Returns:
        What became of each image.

    Raises:
        InputError: an unknown format or option, or files or images that are invalid; nothing was written.
        OutputError: a mask cannot be written.
    """
    check_choice("format", source, tuple(IMPORTERS))
    for option in options:
        check_choice("option of an import", option, [field.name for field in fields(ImportOptions)])
    importer = IMPORTERS[source]
    return import_corrections(run, path, importer.reader, ImportOptions(**options), flat=importer.flat)
