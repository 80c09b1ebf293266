"""Write the results of a run for other tools: one format per file, one line per format here."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.exporters.coco import write_coco
from tagmask.exporters.coco_panoptic import write_panoptic
from tagmask.exporters.cvat import write_cvat
from tagmask.exporters.export import Export
from tagmask.exporters.folder import write_folder
from tagmask.exporters.hf import needs_pyarrow, write_hf
from tagmask.exporters.label_studio import write_label_studio
from tagmask.exporters.labelme import write_labelme
from tagmask.exporters.options import ExportOptions, PhotoChoice
from tagmask.exporters.report_page import write_report
from tagmask.exporters.table import write_csv
from tagmask.exporters.voc import write_voc
from tagmask.exporters.yolo import write_yolo
from tagmask.regions import RegionKind
from tagmask.regions.coco import needs_pycocotools
from tagmask.runs.ownership import EXPORTS_FOLDER, claim_output
from tagmask.runs.reader import Run

__all__ = ["EXPORTERS", "Export", "ExportOptions", "Exporter", "export_run"]


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A format that a run can be exported to."""

    writer: Callable[[Export, Path], None]
    """Writes an export to a file or a new folder, which appears when it is complete."""
    file_name: str
    """Name of the file or folder, below the folder for exports."""
    is_folder: bool = False
    holds_photos: bool = False
    """Whether the format has a place for photos."""
    regions: RegionKind = "class"
    photos: PhotoChoice = "none"
    splits: Mapping[str, float] | None = None
    check: Callable[[ExportOptions], None] = lambda _: None
    """Raise InputError if a library that the format needs, with these options, is not installed."""

    def target_in(self, run_path: Path, out: Path | None) -> Path:
        """Return where to write a run: below `out`, or below the run's own folder.

        Raises:
            InputError: something is in the way.
        """
        if out is None and not self.is_folder:
            return claim_output(run_path, self.file_name)
        target = (run_path / EXPORTS_FOLDER if out is None else out) / self.file_name
        if os.path.lexists(target) and not self.is_folder:  # of a folder, this is checked when it is made
            raise InputError(f"{target} is in the way. Move it away, or give another --out.")
        return target

    def write(self, run: Run, target: Path, options: ExportOptions | None = None) -> None:
        """Write a run to a file or folder.

        Raises:
            InputError: the run does not have what the format needs, or something is in the way.
            OutputError: a file cannot be written.
        """
        options = options or ExportOptions()
        export = Export(run, options, regions=self.regions, photos=self.photos, splits=self.splits)
        self.writer(export, target)


_FOR_TRAINING = {"train": 0.8, "val": 0.2}

EXPORTERS: Mapping[str, Exporter] = {
    "coco": Exporter(
        writer=write_coco, file_name="annotations.json", regions="component",
        check=lambda _: needs_pycocotools(),
    ),
    "coco-panoptic": Exporter(
        writer=write_panoptic, file_name="coco-panoptic", is_folder=True, holds_photos=True, photos="copy"
    ),
    "csv": Exporter(writer=write_csv, file_name="images.csv"),
    "cvat": Exporter(writer=write_cvat, file_name="cvat.zip", holds_photos=True, regions="component"),
    "folder": Exporter(
        writer=write_folder, file_name="folder", is_folder=True, holds_photos=True, photos="copy"
    ),
    "hf": Exporter(
        writer=write_hf, file_name="hf", is_folder=True, holds_photos=True, photos="copy", check=needs_pyarrow
    ),
    "report": Exporter(writer=write_report, file_name="report.html"),
    "voc": Exporter(writer=write_voc, file_name="voc", is_folder=True, holds_photos=True, photos="copy"),
    "yolo": Exporter(
        writer=write_yolo, file_name="yolo", is_folder=True, holds_photos=True, regions="component",
        photos="copy", splits=_FOR_TRAINING,
    ),
    "label-studio": Exporter(
        writer=write_label_studio, file_name="label-studio", is_folder=True, holds_photos=True,
        regions="component",
    ),
    "labelme": Exporter(
        writer=write_labelme, file_name="labelme", is_folder=True, holds_photos=True, regions="component",
        photos="copy",
    ),
}  # fmt: skip


def export_run(run: Run, to: str, out: Path | None = None, **options: Any) -> Path:  # noqa: ANN401
    """Write a run in one format.

    Args:
        run: the run.
        to: name of the format.
        out: folder to write to. Default: the run's own: files at its top, folders below `exports`.
        **options: of `ExportOptions`.

    Returns:
        The file or folder that was written.

    Raises:
        InputError: an unknown format or option, results that the format cannot hold, or something is in the
            way.
        OutputError: a file cannot be written.
    """
    check_choice("format", to, tuple(EXPORTERS))
    for option in options:
        check_choice("option of an export", option, [field.name for field in fields(ExportOptions)])
    exporter, chosen = EXPORTERS[to], ExportOptions(**options)
    exporter.check(chosen)
    target = exporter.target_in(run.path, out)
    exporter.write(run, target, chosen)
    return target
