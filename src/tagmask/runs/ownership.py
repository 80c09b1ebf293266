"""What in a folder tagmask wrote, so that nothing else is overwritten, deleted, or taken for a photo."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.runs.identity import RunIdentity, differences, is_run_file, read_identity
from tagmask.runs.lock import process_is_alive
from tagmask.runtime.folders import FoundImage

__all__ = [
    "COMPARISONS",
    "COMPARISONS_FILE",
    "EXPORTS_FOLDER",
    "FEATURES_FOLDER",
    "IMAGE_FOLDERS",
    "check_ours",
    "claim_output",
    "is_run_folder",
    "leave_out_outputs",
    "outputs_present",
    "sweep_parts",
]

IMAGE_FOLDERS = ("masks", "overlays", "corrected")
"""Folders of a run that hold a file an image."""

EXPORTS_FOLDER = "exports"
"""Folder of a run that holds folders written for other tools, which may have copies of the photos."""
COMPARISONS = "compare"
"""Folder of the pictures that `mask --compare` draws, in a run folder or any other."""
COMPARISONS_FILE = "compare.json"
"""What they show; it marks the folder as tagmask's."""

FEATURES_FOLDER = "features"
"""Folder of a run that holds the frozen features of images, for `tagmask review`."""

_OUTPUTS = (*IMAGE_FOLDERS, FEATURES_FOLDER, "classes.json", "annotations.json", "run.db", "run.log")
_PART = re.compile(r"\.tagmask-(?:(?P<pid>[0-9]+)-)?[0-9a-f]{16}\.part")
_SHOWN = 8
"""Differences named in an error."""

_DEAD_AGE, _PART_AGE = 60.0, 3600.0
"""Seconds after which a temporary file beside corrections, which a review may be writing, counts as
left over: where its process is dead, and where that is not known."""


def is_run_folder(path: Path) -> bool:
    """Whether tagmask wrote a run into a folder."""
    return is_run_file(path / "run.json")


def check_ours(path: Path, identity: RunIdentity) -> None:
    """Refuse a folder that holds another run's outputs, or files that tagmask may not touch. Writes nothing.

    Raises:
        InputError: naming what is in the way, or each difference between the runs.
    """
    run_file = path / "run.json"
    if os.path.lexists(run_file):
        if not is_run_file(run_file):
            raise _foreign(path, "run.json")
        differ = differences(read_identity(run_file), identity)
        if differ:
            more = [f"and {len(differ) - _SHOWN} more"] if len(differ) > _SHOWN else []
            raise InputError(
                f"{path} holds a run with other settings: {'; '.join(differ[:_SHOWN] + more)}. Choose "
                "another folder for this run, or give the earlier settings to go on with that one."
            )
        for name in IMAGE_FOLDERS:
            if (path / name).is_symlink():
                raise InputError(
                    f"{path / name} is a link, through which nothing is written. Put the folder in its place."
                )
        if not (path / "run.db").exists() and any(_entries(path / folder) for folder in IMAGE_FOLDERS):
            raise InputError(f"{path} has lost its run.db. Put it back, or choose another folder.")
        return
    for name in _OUTPUTS:
        output = path / name
        if os.path.lexists(output) and not (
            output.is_dir() and not output.is_symlink() and not _entries(output)
        ):
            raise _foreign(path, name)


def claim_output(path: Path, name: str) -> Path:
    """Return where to write a file of the whole run, such as `annotations.json`; `run.json` lists it.

    Args:
        path: the run folder.
        name: of the file.

    Raises:
        InputError: a file of that name is there which no run of this folder wrote.
    """
    target, run_file = path / name, path / "run.json"
    recorded = read_identity(run_file)
    claimed = recorded.metadata.get("outputs", [])
    if not isinstance(claimed, list) or name not in claimed:
        if os.path.lexists(target):
            raise _foreign(path, name)
        outputs = [*(claimed if isinstance(claimed, list) else []), name]
        write_bytes(run_file, replace(recorded, metadata={**recorded.metadata, "outputs": outputs}).encode())
    return target


def leave_out_outputs(found: Sequence[FoundImage], out: Path | None = None) -> list[FoundImage]:
    """Leave out masks, overlays, corrections and comparisons that lie below folders given as input.

    Args:
        found: as `find_images` returns them. A run's folder of outputs that was given itself is kept.
        out: this run's own folder, whose outputs are left out wherever they were found.

    Raises:
        InputError: nothing else was found.
    """
    folders = (*IMAGE_FOLDERS, EXPORTS_FOLDER, COMPARISONS)
    own = {(out / name).resolve() for name in folders} if out is not None else set()
    of_a_run: dict[Path, bool] = {}

    def written(image: FoundImage) -> bool:
        folder = image.path.parent
        for part in reversed(image.name.parts[:-1]):
            if part in (*IMAGE_FOLDERS, EXPORTS_FOLDER):
                if folder.parent not in of_a_run:
                    of_a_run[folder.parent] = is_run_folder(folder.parent)
                if of_a_run[folder.parent]:
                    return True
            if part == COMPARISONS:
                if folder not in of_a_run:
                    of_a_run[folder] = (folder / COMPARISONS_FILE).is_file()
                if of_a_run[folder]:
                    return True
            folder = folder.parent
        return False

    resolved: dict[Path, bool] = {}

    def ours(folder: Path) -> bool:
        if folder not in resolved:
            real = folder.resolve()
            resolved[folder] = not own.isdisjoint((real, *real.parents))
        return resolved[folder]

    kept = [image for image in found if not written(image) and not (own and ours(image.path.parent))]
    if found and not kept:
        raise InputError(
            "All images found are masks or overlays that tagmask wrote. Give the photos themselves."
        )
    return kept


def outputs_present(path: Path) -> Iterator[tuple[str, str]]:
    """Folder and name, without its ending, of each file that stands in a run's image folders."""
    for folder in IMAGE_FOLDERS:
        root = path / folder
        prefix = len(str(root)) + 1
        for entry in _files(root):
            if not _PART.fullmatch(entry.name):
                yield folder, entry.path[prefix:].replace(os.sep, "/").rpartition(".")[0]


def sweep_parts(path: Path) -> int:
    """Remove temporary files that dead processes left in a run. Call it while its lock is held.

    Only the producer writes masks and overlays: all parts there are left over. Beside `run.json` an export
    may be at work, and beside corrections and features a review: parts there stay while their process may be
    alive.

    Returns:
        How many were removed.
    """
    swept = sum(_swept(entry, 0.0, 0.0) for name in ("masks", "overlays") for entry in _files(path / name))
    swept += sum(_swept(entry, 0.0, _PART_AGE) for entry in _entries(path))
    of_reviews = (entry for name in ("corrected", FEATURES_FOLDER) for entry in _files(path / name))
    return swept + sum(_swept(entry, _DEAD_AGE, _PART_AGE) for entry in of_reviews)


def _swept(entry: os.DirEntry[str], dead_age: float, alive_age: float) -> bool:
    part = _PART.fullmatch(entry.name)
    if part is None or not entry.is_file(follow_symlinks=False):
        return False
    # A name without a process is of the run's own start, or so old that nobody is at it.
    living = part["pid"] is not None and process_is_alive(int(part["pid"]))
    unknown = part["pid"] is None and dead_age > 0
    with suppress(OSError):
        age = time.time() - entry.stat(follow_symlinks=False).st_mtime
        if age >= (alive_age if living or unknown else dead_age):
            Path(entry.path).unlink()
            return True
    return False


def _files(root: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder, links to folders not followed."""
    pending = [str(root)]
    while pending:
        for entry in _entries(Path(pending.pop())):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            else:
                yield entry


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}.") from error


def _foreign(path: Path, name: str) -> InputError:
    return InputError(
        f"{path / name} is in the way: it was not written by this kind of run, and is never overwritten. "
        f"Choose another folder, or move {name} away."
    )
