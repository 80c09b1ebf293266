"""Write the results of a run for other tools: one format per file, one line per format here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tagmask.exporters.coco import needs_pycocotools, write_coco
from tagmask.exporters.report_page import write_report
from tagmask.exporters.table import write_csv
from tagmask.runs.reader import Run

__all__ = ["EXPORTERS", "Exporter"]


@dataclass(frozen=True)
class Exporter:
    """A format that a run can be exported to."""

    write: Callable[[Run, Path], None]
    """Write a run to a file; the file is replaced when it is complete."""
    file_name: str
    """Name of the file in the run's folder, if no other is given."""
    check: Callable[[], None] = lambda: None
    """Raise InputError if a library that the format needs is not installed."""


EXPORTERS: Mapping[str, Exporter] = {
    "coco": Exporter(write_coco, "annotations.json", needs_pycocotools),
    "csv": Exporter(write_csv, "images.csv"),
    "report": Exporter(write_report, "report.html"),
}
