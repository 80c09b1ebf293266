"""Joining runs of one fingerprint, such as shards, into one run folder."""

import heapq
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from tagmask.errors import InputError, OutputError
from tagmask.printable import printable
from tagmask.reading import read_regular
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import differences
from tagmask.runs.lock import holder_of
from tagmask.runs.names import free_name
from tagmask.runs.ownership import check_ours, is_run_folder, outputs_present
from tagmask.runs.reader import Run
from tagmask.runs.rows import RESULT_COLUMNS, ImageRow, result_columns
from tagmask.runtime.folders import fold

__all__ = ["MergeReport", "merge_runs"]

_LARGEST = 1_000_000_000
"""Largest mask, overlay or file of features, in bytes."""

_COMPARED = tuple(column for column in RESULT_COLUMNS if column not in ("error", "seconds"))


@dataclass(frozen=True)
class MergeReport:
    """What was joined."""

    images: int
    """Rows of the whole."""
    copied: int
    """Of those, taken over now; the others were there from an earlier merge."""
    repeated: int
    """Images that several runs had, with equal results."""


def merge_runs(paths: Sequence[Path], out: Path) -> MergeReport:
    """Join runs into a folder of their own; they themselves stay as they are.

    An image that several runs hold is taken once: done before failed, failed before not yet done. A merge
    that was stopped goes on when it is started again.

    Args:
        paths: run folders of one fingerprint, at which nobody is at work.
        out: a new folder, or that of an earlier merge of such runs.

    Raises:
        InputError: runs that do not fit each other, each difference named; images with different results in
            two runs, one named. Nothing was written.
        OutputError: `out` cannot be written.
    """
    if not paths:
        raise InputError("No runs to merge: give at least one run folder.")
    for path in paths:
        if path.resolve() == out.resolve():
            raise InputError(f"{out} is one of the runs to merge. Choose another folder for the whole.")
        holder = holder_of(path / "run.lock")
        if holder is not None:
            raise InputError(f"{path} is being written by {holder}. Merge when it is done.")
    with ExitStack() as stack:
        runs = [stack.enter_context(Run(path)) for path in paths]
        for run in runs[1:]:
            _check_same(runs[0], run)
        identity = replace(
            runs[0].identity, metadata={**runs[0].identity.metadata, "merged": [str(path) for path in paths]}
        )
        check_ours(out, identity)
        repeated = _check_repeated(runs, out)
        with RunFolder.open(out, identity, _classes(runs[0])) as whole:
            copied = _copy(runs, whole)
            return MergeReport(len(whole.database), copied, repeated)


def _check_same(first: Run, other: Run) -> None:
    differ = differences(first.identity, other.identity)
    if differ:
        raise InputError(
            f"{other.path} cannot be merged with {first.path}: {'; '.join(differ)}. Settings must be equal."
        )


def _classes(run: Run) -> Classes | None:
    return run.classes if (run.path / "classes.json").exists() else None


def _check_repeated(runs: Sequence[Run], out: Path) -> int:
    """Refuse images that have different results in two runs, before anything is written."""
    repeated = 0
    with ExitStack() as stack:
        before = [stack.enter_context(Run(out))] if is_run_folder(out) and (out / "run.db").exists() else []
        for group in _by_key([*before, *runs]):
            repeated += sum(run not in before for run, _ in group) > 1
            for column in ("masks", "corrected"):
                if column == "masks":
                    done = [(run, row) for run, row in group if row.status == "done"]
                else:
                    done = [(run, row) for run, row in group if _file(run, row, "corrected").exists()]
                for run, row in done[1:]:
                    first, kept = done[0]
                    alike = _same_bytes(_file(first, kept, column), _file(run, row, column))
                    if not alike or (column == "masks" and _results(kept) != _results(row)):
                        what = "results" if column == "masks" else "corrections"
                        raise InputError(
                            f"{printable(row.key)} has different {what} in {first.path} and {run.path}, so "
                            "that they cannot be merged. Leave one of the runs out."
                        )
    return repeated


def _by_key(runs: Sequence[Run]) -> Iterator[list[tuple[Run, ImageRow]]]:
    """Rows of one key, from all runs that have it; a row a run in memory."""
    merged = heapq.merge(
        *map(_rows, runs), key=lambda item: item[1].key.encode()
    )  # SQLite's order is that of bytes
    for _, group in groupby(merged, key=lambda item: item[1].key):
        yield list(group)


def _rows(run: Run) -> Iterator[tuple[Run, ImageRow]]:
    for row in run:
        yield run, row


def _copy(runs: Sequence[Run], whole: RunFolder) -> int:
    database = whole.database
    known = {key: (image, name, status) for image, key, name, _, _, _, status in database.listing()}
    taken = {fold(name) for _, name, _ in known.values()}
    taken |= {fold(name) for _, name in outputs_present(whole.path)}
    new = (
        (row.key, free_name(row.name, taken), os.fsencode(row.source), row.size, row.mtime_ns)
        for row in (_best(group)[1] for group in _by_key(runs))
        if row.key not in known
    )
    # All names first: files that a killed merge left are then known to be its own.
    database.add(new)
    copied = 0
    for group in _by_key(runs):
        run, row = _best(group)
        target = database.row(row.key)
        if target is None:
            raise OutputError(f"{whole.path} was changed during the merge; start it again.")
        if target.status != "done" and row.status != "todo":
            if whole.has_masks and row.status == "done" and not _file(run, row, "masks").exists():
                continue  # its mask was lost: to be done again
            for kind, write in (
                ("masks", whole.write_mask),
                ("overlays", whole.write_overlay),
                ("features", whole.write_features),
            ):
                file = _file(run, row, kind)
                if row.status == "done" and file.exists():
                    write(target.name, _read(file))
            whole.check()
            database.set_result(target.id, result_columns(row))
            copied += 1
        _copy_review(group, whole, target)
    return copied


def _copy_review(group: Sequence[tuple[Run, ImageRow]], whole: RunFolder, target: ImageRow) -> None:
    reviewed = [(run, row) for run, row in group if row.review != "unseen"]
    if not reviewed or target.review != "unseen":
        return
    # A corrected mask is in at most one form, as was checked; its review goes before other ones.
    run, row = max(reviewed, key=lambda item: _file(item[0], item[1], "corrected").exists())
    corrected = _file(run, row, "corrected")
    if corrected.exists():
        whole.write_corrected(target.name, _read(corrected))
    whole.database.set_review(target.id, row.review, stale=row.stale)


def _best(group: Sequence[tuple[Run, ImageRow]]) -> tuple[Run, ImageRow]:
    return min(group, key=lambda item: ("done", "failed", "todo").index(item[1].status))


def _results(row: ImageRow) -> tuple[object, ...]:
    return (row.size, *(getattr(row, column) for column in _COMPARED))


def _file(run: Run, row: ImageRow, kind: str) -> Path:
    return run.output_path(row, kind)


def _same_bytes(first: Path, second: Path) -> bool:
    if not first.exists() or not second.exists():
        return first.exists() == second.exists()
    return _read(first) == _read(second)


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _LARGEST)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
