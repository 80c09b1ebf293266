"""Training logs: one row per step in `log.csv`, and optionally TensorBoard event files.

A resumed run has the same rows as an uninterrupted one.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tagmask.checks import check_installed
from tagmask.errors import InputError
from tagmask.files import unwritable, write_bytes

__all__ = ["TrainLog", "need_tensorboard", "read_log"]

_FILE = "log.csv"


class TrainLog:
    """Writer of a run's log.

    Args:
        folder: run folder.
        start: steps done; later rows are removed, since those steps will be repeated.
        tensorboard: also write TensorBoard event files.
        file: name of the log.

    Raises:
        InputError: TensorBoard is not installed.
        OutputError: the log cannot be written.
    """

    def __init__(self, folder: Path, start: int, *, tensorboard: bool = False, file: str = _FILE) -> None:
        self._path = folder / file
        self._rows: list[Mapping[str, float]] = []
        kept = [row for row in read_log(folder, file) if row["step"] <= start]
        if kept or self._path.exists():
            write_bytes(self._path, _encoded(kept, kept[0] if kept else (), header=bool(kept)))
        self._needs_header = not kept
        self._tensorboard = _summary_writer(folder) if tensorboard else None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Buffer the values of a step."""
        row = {"step": float(step), **values}
        self._rows.append(row)
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write the buffered rows.

        Raises:
            OutputError: the disk is full, or the file is not writable.
        """
        if not self._rows:
            return
        text = _encoded(self._rows, self._rows[0], header=self._needs_header)
        try:
            with self._path.open("ab") as file:
                file.write(text)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._rows, self._needs_header = [], False
        if self._tensorboard is not None:
            self._tensorboard.flush()


def read_log(folder: Path, file: str = _FILE) -> list[dict[str, float]]:
    """Read the complete rows of a log; empty if there is no log.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = (folder / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / file} cannot be read: {error}. Remove it to start over.") from error
    lines = text[: text.rfind("\n") + 1].splitlines()  # a last line without a newline is incomplete
    rows: list[dict[str, float]] = []
    for fields in csv.DictReader(lines):
        try:
            rows.append({name: float(value) for name, value in fields.items()})
        except (TypeError, ValueError):
            break
    return rows


def _encoded(
    rows: Sequence[Mapping[str, float]], names: Mapping[str, float] | tuple[()], header: bool
) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(names)
    writer.writerows([int(value) if name == "step" else value for name, value in row.items()] for row in rows)
    return buffer.getvalue().encode()


def need_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        InputError: it is not; the message has the install command.
    """
    check_installed(
        "run.tensorboard", "tensorboard", otherwise=", or turn it off; log.csv has the same numbers."
    )


def _summary_writer(folder: Path) -> Any:  # noqa: ANN401 - an optional package without types
    need_tensorboard()
    return import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
