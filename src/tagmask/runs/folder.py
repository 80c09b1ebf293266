"""A run folder as its producer sees it: begun or resumed, written image by image, never half.

RUN/
  run.json        what decides the results, and their fingerprint
  run.db          a row an image
  run.lock        while a producer is at work
  run.log         tracebacks of unexpected failures
  classes.json    what the values in masks mean
  masks/NAME.png, overlays/NAME.jpg, corrected/NAME.png, features/NAME.safetensors
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tagmask.errors import InputError, OutputError
from tagmask.files import ensure_folder, write_bytes
from tagmask.relative_paths import leads_outside
from tagmask.runs.classes import Classes, read_classes
from tagmask.runs.database import RunDatabase
from tagmask.runs.failures import reason_of, recorded_reason
from tagmask.runs.identity import RunIdentity, read_identity
from tagmask.runs.lock import RunLock
from tagmask.runs.mounts import is_network_folder
from tagmask.runs.ownership import check_ours, sweep_parts
from tagmask.runs.planning import ImageTask, Plan, make_key_plan, make_plan
from tagmask.runs.rows import ImageResult
from tagmask.runs.shards import Shard
from tagmask.runtime.folders import FoundImage

__all__ = ["RunFolder", "RunStopped", "write_correction"]

_OF_THE_RUN = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT,
     errno.ESTALE, errno.EMFILE, errno.ENFILE}
)  # fmt: skip
"""What keeps any file from being written; other errors are of one file's name."""


class RunStopped(OutputError):
    """A run that cannot go on, because nothing more can be written."""


class RunFolder:
    """A run folder that this process writes; made by `open`, closed by `close` or at the end of a `with`."""

    def __init__(
        self, path: Path, identity: RunIdentity, lock: RunLock, database: RunDatabase | None, *, masks: bool
    ) -> None:
        self.path = path
        self.identity = identity
        self.lock = lock
        self._database = database
        self.has_masks = masks

    @classmethod
    def open(
        cls,
        path: Path,
        identity: RunIdentity,
        classes: Classes | None = None,
        *,
        images: bool = True,
        network: bool | None = None,
    ) -> "RunFolder":
        """Begin a run in a folder, or go on with it.

        Args:
            path: the folder; made if it is not there.
            identity: what decides the results.
            classes: of its masks; None for a run without masks.
            images: keep a database of images. Without it there are only `run.json` and the lock.
            network: the folder is on a network file system; None: find out.

        Raises:
            InputError: the folder holds a run with other settings, outputs that tagmask did not write, or
                another producer is at work in it. Nothing in it was touched.
            OutputError: it cannot be written.
        """
        if os.path.lexists(path) and not path.is_dir():
            raise OutputError(f"{path} is not a folder. Give a folder for the run, or a new name.")
        check_ours(path, identity)
        ensure_folder(path)
        network = is_network_folder(path) if network is None else network
        lock = RunLock.take(path / "run.lock", network=network)
        database = None
        try:
            check_ours(path, identity)  # another process may have begun a run before the lock was taken
            if not (path / "run.json").exists():
                write_bytes(path / "run.json", identity.encode())
                _flush_folder(path)
            if images:
                database = RunDatabase.create(path / "run.db", network=network)
            if classes is not None:
                _write_classes(path / "classes.json", classes)
            sweep_parts(path)
        except BaseException:
            if database is not None:
                database.close()
            lock.release()
            raise
        return cls(path, identity, lock, database, masks=classes is not None)

    @property
    def database(self) -> RunDatabase:
        """Its rows.

        Raises:
            InputError: the run has no images.
        """
        if self._database is None:
            raise InputError(f"{self.path} holds a run without images")
        return self._database

    @property
    def log(self) -> Path:
        """Where tracebacks of unexpected failures go."""
        return self.path / "run.log"

    def plan(self, found: Sequence[FoundImage], *, again: bool = False, shard: Shard | None = None) -> Plan:
        """Decide for each image whether it is to be done; see `make_plan`.

        Args:
            found: the full listing, without outputs of runs (`leave_out_outputs`).
            again: do all again; corrections stay.
            shard: the part of the listing to do.
        """
        self.check()
        return make_plan(self.database, self.path, found, masks=self.has_masks, again=again, shard=shard)

    def plan_keys(self, keys: Sequence[str]) -> Plan:
        """Decide the same for images that are known by their keys alone; see `make_key_plan`.

        Args:
            keys: text (`names.key_text`), each once.
        """
        self.check()
        return make_key_plan(self.database, keys)

    def write_mask(self, name: str, png: bytes) -> Path:
        """Write an image's mask; it is on the disk when this returns. May be called from any thread.

        Raises:
            RunStopped: nothing more can be written.
            OutputError: this file cannot be written, because of its name.
        """
        return self._write("masks", f"{name}.png", png)

    def write_overlay(self, name: str, jpeg: bytes) -> Path:
        """Write an image's overlay; as `write_mask`."""
        return self._write("overlays", f"{name}.jpg", jpeg)

    def write_features(self, name: str, content: bytes) -> Path:
        """Write an image's frozen features; as `write_mask`."""
        return self._write("features", f"{name}.safetensors", content)

    def write_corrected(self, name: str, png: bytes) -> Path:
        """Write a mask that a person corrected, when runs are merged; as `write_mask`."""
        return self._write("corrected", f"{name}.png", png)

    def done(self, image: ImageTask, result: ImageResult) -> None:
        """Record an image as done, after its mask was written.

        Raises:
            InputError: a result that strict JSON cannot hold, such as NaN: the image's failure.
            RunStopped: nothing more can be written.
        """
        columns = result.columns()
        self.check()
        self._record(lambda: self.database.set_result(image.id, columns))

    def fail(
        self,
        image: ImageTask,
        error: BaseException,
        seconds: float | None = None,
        record: Mapping[str, object] | None = None,
    ) -> str:
        """Record why an image could not be done.

        Args:
            image: the image.
            error: what went wrong.
            seconds: how long it took.
            record: whatever else the kind of run keeps of it; JSON.

        Returns:
            The reason, in one line that a terminal may show; recorded is the image's name, not its path.

        Raises:
            RunStopped: nothing more can be written, or `error` says so itself.
        """
        if isinstance(error, RunStopped):
            raise error
        recorded = recorded_reason(error, image.found)
        self.check()
        self._record(lambda: self.database.fail(image.id, recorded, seconds, record))
        return reason_of(error)

    @property
    def recorded(self) -> Mapping[str, object]:
        """What `run.json` records now beside what decides the results.

        Raises:
            InputError: it was changed or damaged.
        """
        return read_identity(self.path / "run.json").metadata

    def record(self, **metadata: object) -> None:
        """Record more in `run.json`, or change what it records; the fingerprint stays.

        Raises:
            InputError: it was changed or damaged.
            OutputError: it cannot be written; the old one is kept.
        """
        identity = read_identity(self.path / "run.json")
        changed = replace(identity, metadata={**identity.metadata, **metadata})
        write_bytes(self.path / "run.json", changed.encode())
        _flush_folder(self.path)

    def check(self) -> None:
        """See that the folder is still there and still this run's.

        Raises:
            RunStopped: it was deleted, moved or taken over.
        """
        self._record(self.lock.check)
        if self._database is not None:
            self._record(self._database.check)

    def close(self) -> None:
        """Leave one database file, and let others write."""
        if self._database is not None:
            self._database.close()
        self.lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, folder: str, name: str, data: bytes) -> Path:
        target = self.path / folder / name
        if leads_outside(name):
            raise OutputError(f"{target} cannot be written: its name leads out of the run. Rename the image.")
        # Before each file: the folders of a run that was deleted must not be made anew.
        self.check()
        try:
            write_bytes(target, data)
            _flush_folder(target.parent)
        except OutputError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _OF_THE_RUN:
                self.check()  # says so where the folder is gone
                raise RunStopped(
                    f"{target} cannot be written: {cause.strerror}. Make room or mend the folder, then run "
                    "the same command again: what is done stays done."
                ) from error
            raise
        return target

    def _record(self, change: Callable[[], None]) -> None:
        try:
            change()
        except OutputError as error:
            raise RunStopped(str(error)) from error


def write_correction(path: Path, content: bytes) -> None:
    """Write what belongs to a review: a corrected mask, or features. Needs no lock.

    It is on the disk when this returns.

    Args:
        path: of the file in its run (`Run.output_path`).
        content: of the file.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(path, content)
    _flush_folder(path.parent)


def _write_classes(path: Path, classes: Classes) -> None:
    """Write `classes.json` once; one that is there must name the same classes."""
    if not path.exists():
        write_bytes(path, classes.encode())
        _flush_folder(path.parent)
    elif read_classes(path) != classes:
        raise InputError(
            f"{path} names other classes than this run, and was changed by hand. Move it away to have it "
            "written again."
        )


def _flush_folder(folder: Path) -> None:
    """See that a file's new name reaches the disk, where the system can (Windows cannot)."""
    with suppress(OSError):
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
