"""Folders that work is done in: by one process at a time, with one set of settings, to be taken up again.

    stage.json   what is done here, with which settings, whether it is finished, and what came of it
    .lock        held while a process works

A folder that was begun with other settings is refused: files of two runs never mix.
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
    """A folder with work in it."""

    folder: Path
    kind: str
    """What is done here: "seeds", "weakclip", ..."""
    settings: Mapping[str, object]
    """All that decides what comes of it, as JSON has it."""
    metadata: Mapping[str, object]
    """What readers of the folder need: class names, for one."""
    finished: bool

    def finish(self, **metadata: object) -> "RunFolder":
        """Say that all is done, and what came of it.

        Raises:
            OutputError: that cannot be written.
        """
        done = RunFolder(self.folder, self.kind, self.settings, {**self.metadata, **metadata}, True)
        _write(done)
        return done


@contextmanager
def open_run_folder(
    folder: Path, kind: str, settings: Mapping[str, object], metadata: Mapping[str, object]
) -> Iterator[RunFolder]:
    """Begin work in a folder, or take it up again; no other process can until the block ends.

    Args:
        folder: made if it is not there.
        kind: what is done.
        settings: all that decides what comes of it.
        metadata: what readers of the folder need; kept from the first start on.

    Raises:
        InputError: the folder holds other work, or the same with other settings, or another process is
            working in it.
        OutputError: it cannot be written to.
    """
    ensure_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another process is working in {folder}; wait for it, or choose another folder"
        ) from error
    try:
        wanted = json.loads(json.dumps(settings))
        held = read_run_folder(folder)
        if held is None:
            held = RunFolder(folder, kind, wanted, dict(metadata), False)
            _write(held)
        _require_same(held, kind, wanted)
        yield held
    finally:
        lock.release()


def read_run_folder(folder: Path) -> RunFolder | None:
    """What is done in a folder; None where no stage was begun.

    Raises:
        InputError: its `stage.json` cannot be read.
    """
    file = folder / _FILE
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return RunFolder(folder, held["kind"], held["settings"], held["facts"], held["finished"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} cannot be read: {error!r}; remove it to begin anew") from error


def read_metadata(folder: Path, kind: str) -> Mapping[str, object]:
    """What a finished stage says of itself.

    Raises:
        InputError: the folder is no such stage, or it is not finished.
    """
    held = read_run_folder(folder)
    if held is None or held.kind != kind:
        found = "no stage" if held is None else f"a stage of kind {held.kind}"
        raise InputError(f"{folder} holds {found}; wanted is one of kind {kind}")
    if not held.finished:
        raise InputError(f"{folder} is not finished; run the command that began it again, it goes on")
    return held.metadata


def _write(stage: RunFolder) -> None:
    held = {
        "kind": stage.kind,
        "finished": stage.finished,
        "fingerprint": fingerprint(stage.settings),
        "facts": stage.metadata,
        "settings": stage.settings,
        "tagmask": __version__,
    }
    write_bytes(stage.folder / _FILE, (json.dumps(held, indent=1, ensure_ascii=False) + "\n").encode())


def _require_same(held: RunFolder, kind: str, wanted: Mapping[str, object]) -> None:
    if held.kind != kind:
        raise InputError(f"{held.folder} holds a stage of kind {held.kind}; choose another folder for {kind}")
    names = sorted(held.settings.keys() | wanted.keys())
    differing = [name for name in names if held.settings.get(name) != wanted.get(name)]
    if differing:
        shown = "; ".join(
            f"{name} was {_brief(held.settings.get(name))}, is {_brief(wanted.get(name))}"
            for name in differing[:4]
        )
        raise InputError(
            f"{held.folder} was begun with other settings ({shown}); "
            "give the same, or choose another folder, or remove this one"
        )


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
