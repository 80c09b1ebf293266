"""Run folders: locked, resumable output folders with one set of settings.

    stage.json   kind of run, settings, metadata, whether it is finished
    .lock        held while a process works in the folder

A folder with other settings is refused, so files of two runs never mix.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tagmask import __version__
from tagmask.errors import InputError
from tagmask.files import ensure_folder, write_bytes
from tagmask.weak.config import fingerprint

__all__ = ["RunFolder", "open_run_folder", "read_metadata", "read_run_folder"]

_FILE = "stage.json"


@dataclass(frozen=True)
class RunFolder:
    """State of a run folder."""

    folder: Path
    kind: str
    """Kind of run: "seeds", "weakclip", ..."""
    settings: Mapping[str, object]
    """All settings that affect the output, as JSON values."""
    metadata: Mapping[str, object]
    """What readers of the folder need, such as class names."""
    finished: bool

    def finish(self, **metadata: object) -> "RunFolder":
        """Mark the run as finished and add metadata.

        Raises:
            OutputError: the state cannot be written.
        """
        finished = RunFolder(self.folder, self.kind, self.settings, {**self.metadata, **metadata}, True)
        _write(finished)
        return finished


@contextmanager
def open_run_folder(
    folder: Path, kind: str, settings: Mapping[str, object], metadata: Mapping[str, object]
) -> Iterator[RunFolder]:
    """Start a run in a folder, or resume it; the folder is locked until the block ends.

    Args:
        folder: created if it does not exist.
        kind: kind of run.
        settings: all settings that affect the output.
        metadata: what readers of the folder need; stored at the first start only.

    Raises:
        InputError: the folder has a run of another kind or other settings, or another process uses it.
        OutputError: the folder is not writable.
    """
    ensure_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"Another process is working in {folder}. Wait for it, or choose another folder."
        ) from error
    try:
        wanted = json.loads(json.dumps(settings))
        run_folder = read_run_folder(folder)
        if run_folder is None:
            run_folder = RunFolder(folder, kind, wanted, dict(metadata), False)
            _write(run_folder)
        _check_same(run_folder, kind, wanted)
        yield run_folder
    finally:
        lock.release()


def read_run_folder(folder: Path) -> RunFolder | None:
    """Read the state of a run folder; None if no run was started there.

    Raises:
        InputError: its `stage.json` cannot be read.
    """
    file = folder / _FILE
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        return RunFolder(folder, state["kind"], state["settings"], state["metadata"], state["finished"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} cannot be read: {error!r}. Remove it to start over.") from error


def read_metadata(folder: Path, kind: str) -> Mapping[str, object]:
    """Read the metadata of a finished run.

    Raises:
        InputError: the folder has no run of this kind, or the run is not finished.
    """
    run_folder = read_run_folder(folder)
    if run_folder is None or run_folder.kind != kind:
        content = "no run" if run_folder is None else f"a run of kind {run_folder.kind}"
        raise InputError(f"{folder} contains {content}. Give the folder of a {kind} run.")
    if not run_folder.finished:
        raise InputError(
            f"The run in {folder} is not finished. Run the command that started it again to resume."
        )
    return run_folder.metadata


def _write(run_folder: RunFolder) -> None:
    state = {
        "kind": run_folder.kind,
        "finished": run_folder.finished,
        "fingerprint": fingerprint(run_folder.settings),
        "metadata": run_folder.metadata,
        "settings": run_folder.settings,
        "tagmask": __version__,
    }
    write_bytes(run_folder.folder / _FILE, (json.dumps(state, indent=1, ensure_ascii=False) + "\n").encode())


def _check_same(run_folder: RunFolder, kind: str, settings: Mapping[str, object]) -> None:
    if run_folder.kind != kind:
        raise InputError(
            f"{run_folder.folder} contains a run of kind {run_folder.kind}. Choose another folder for {kind}."
        )
    names = sorted(run_folder.settings.keys() | settings.keys())
    differing = [name for name in names if run_folder.settings.get(name) != settings.get(name)]
    if differing:
        changes = "; ".join(
            f"{name} was {_shorten(run_folder.settings.get(name))}, is {_shorten(settings.get(name))}"
            for name in differing[:4]
        )
        raise InputError(
            f"{run_folder.folder} was started with other settings ({changes}). "
            "Give the same settings, choose another folder, or remove this one."
        )


def _shorten(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
