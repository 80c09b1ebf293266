"""What is known of a run: a row a step in `log.csv`, and TensorBoard's own files where that is wanted.

The rows of a run that was stopped and taken up again are those of one that never stopped, but for its speed.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tagmask.errors import InputError
from tagmask.files import unwritable, write_bytes

__all__ = ["TrainLog", "need_tensorboard", "read_log"]

_FILE = "log.csv"


class TrainLog:
    """The log of a run in its folder.

    Args:
        folder: of the run.
        start: steps done; rows beyond them are taken out, since those steps will be done again.
        tensorboard: also write its event files.

    Raises:
        InputError: TensorBoard is wanted and not installed.
        OutputError: the log cannot be written.
    """

    def __init__(self, folder: Path, start: int, *, tensorboard: bool = False) -> None:
        self._path = folder / _FILE
        self._rows: list[Mapping[str, float]] = []
        kept = [row for row in read_log(folder) if row["step"] <= start]
        if kept or self._path.exists():
            write_bytes(self._path, _encoded(kept, kept[0] if kept else (), header=bool(kept)))
        self._fresh = not kept
        self._board = _board(folder) if tensorboard else None

    def add(self, step: int, measured: Mapping[str, float]) -> None:
        """Remember a step, and what was measured of it."""
        row = {"step": float(step), **measured}
        self._rows.append(row)
        if self._board is not None:
            for name, value in measured.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write what was remembered.

        Raises:
            OutputError: the disk is full, or the file is not to be written to.
        """
        if not self._rows:
            return
        text = _encoded(self._rows, self._rows[0], header=self._fresh)
        try:
            with self._path.open("ab") as file:
                file.write(text)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._rows, self._fresh = [], False
        if self._board is not None:
            self._board.flush()


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of a log, as far as they are whole; none where there is no log.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = (folder / _FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / _FILE} cannot be read: {error}; remove it to begin anew") from error
    lines = text[: text.rfind("\n") + 1].splitlines()  # a last line without its end was being written
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
    """Refuse early where TensorBoard is not installed.

    Raises:
        InputError: with the command that installs it.
    """
    if find_spec("tensorboard") is None:
        raise InputError(
            "run.tensorboard is on, and TensorBoard is not installed: pip install 'tagmask[tensorboard]', or "
            "leave it off; log.csv has the same numbers"
        )


def _board(folder: Path) -> Any:  # noqa: ANN401 - the package is not there to be checked
    need_tensorboard()
    return import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
