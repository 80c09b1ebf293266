"""Which images of a run are to be done, which are done, and what changed since."""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tagmask.runs.database import RunDatabase
from tagmask.runs.names import free_name, image_keys, text_names
from tagmask.runs.ownership import outputs_present
from tagmask.runs.shards import Shard
from tagmask.runtime.folders import FoundImage, fold

__all__ = ["ImageTask", "Plan", "make_key_plan", "make_plan"]

_SHOWN = 20


@dataclass(frozen=True)
class ImageTask:
    """One image to do."""

    id: int
    key: str
    name: str
    """Of its outputs."""
    found: FoundImage
    """Of an image that is given by its key alone: the key in place of a path."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do; iterate it for the images, in the order of the listing."""

    total: int
    """Images given, of this shard."""
    done: int
    """Of those, done by earlier runs and unchanged: they are skipped."""
    retried: int
    """Failed before."""
    changed: int
    """Done before, but changed since."""
    missing: int
    """Done before, but their mask is gone."""
    vanished: int
    """Known from earlier runs, and no longer there."""
    vanished_keys: tuple[str, ...]
    """The first of them."""
    not_given: int
    """Known from earlier runs, still there, but not given this time."""
    _ids: Sequence[int] = field(repr=False)
    _index: Sequence[int] = field(repr=False)
    _found: Sequence[FoundImage] = field(repr=False)
    _keys: Sequence[str] = field(repr=False)
    _names: Sequence[str] = field(repr=False)

    @property
    def todo(self) -> int:
        """Images that this run will do."""
        return len(self._ids)

    def __iter__(self) -> Iterator[ImageTask]:
        for image, index in zip(self._ids, self._index, strict=True):
            yield ImageTask(image, self._keys[index], self._names[index], self._found[index])

    def summary(self) -> str:
        """What is already done and what changed, in one line.

        Example:
            >>> Plan(total=500, done=81, retried=2, changed=0, missing=0, vanished=1,
            ...      vanished_keys=("p/a.jpg",), not_given=0, _ids=(), _index=(), _found=(), _keys=(),
            ...      _names=()).summary()
            '81 of 500 were done; 2 failed before and are tried again; 1 no longer there'
        """
        parts = [
            f"{self.done} of {self.total} were done",
            f"{self.retried} failed before and are tried again" * bool(self.retried),
            f"{self.changed} changed since and are done again" * bool(self.changed),
            f"{self.missing} lost their mask and are done again" * bool(self.missing),
            f"{self.vanished} no longer there" * bool(self.vanished),
        ]
        return "; ".join(filter(None, parts))


def make_plan(
    database: RunDatabase,
    path: Path,
    found: Sequence[FoundImage],
    *,
    masks: bool,
    again: bool = False,
    shard: Shard | None = None,
) -> Plan:
    """Compare the images given with those recorded, and record what is to be done.

    Args:
        database: of the run, open to write.
        path: the run's folder.
        found: the full listing.
        masks: an image is done only while its mask is there.
        again: do all again.
        shard: the part of the listing that this run does.
    """
    keys = image_keys(found, database.roots)
    index_of = {key: index for index, key in enumerate(keys) if shard is None or shard.takes(key)}
    total = len(index_of)
    present = set(outputs_present(path))
    names: dict[int, str] = {}
    ids: dict[int, int] = {}
    counts = dict.fromkeys(("done", "retried", "changed", "missing", "vanished", "not_given"), 0)
    vanished: list[str] = []
    redo: list[tuple[bytes, int | None, int | None, int]] = []
    moved: list[tuple[bytes, int]] = []
    stale: list[int] = []
    taken: set[str] = set()
    for image, key, name, source, size, mtime_ns, status in database.listing():
        taken.add(fold(name))
        index = index_of.pop(key, None)
        if index is None:
            gone = not os.path.lexists(source)
            counts["vanished" if gone else "not_given"] += 1
            if gone and len(vanished) < _SHOWN:
                vanished.append(key)
            continue
        names[index] = name
        now = _source(found[index])
        changed = now[1:] != (size, mtime_ns)
        missing = masks and ("masks", name) not in present
        if changed:
            stale.append(image)
        if status == "done" and not (changed or missing or again):
            counts["done"] += 1
            if now[0] != source:
                moved.append((now[0], image))
            continue
        ids[index] = image
        if status == "failed":
            counts["retried"] += 1
        elif status == "done" and not again:
            counts["changed" if changed else "missing"] += 1
        if changed or status != "todo" or now[0] != source:
            redo.append((*now, image))
    if moved:
        database.move(iter(moved))
    if redo or stale:
        database.redo(iter(redo), stale)
    if index_of:
        # A file that stands where a new image's output would go is not this run's: its name is not free.
        taken |= {fold(name) for _, name in present}
        wanted = text_names(found)
        new = {index: free_name(str(wanted[index]), taken) for index in index_of.values()}
        names |= new
        database.add((keys[index], name, *_source(found[index])) for index, name in new.items())
        for image, key, *_ in database.listing():
            if key in index_of:
                ids[index_of[key]] = image
    order = sorted(ids)
    return Plan(
        total=total,
        vanished_keys=tuple(vanished),
        **counts,
        _ids=array("q", (ids[index] for index in order)),
        _index=array("q", order),
        _found=found,
        _keys=keys,
        _names=[names.get(index, "") for index in range(len(found))],
    )


def make_key_plan(database: RunDatabase, keys: Sequence[str]) -> Plan:
    """Plan a run over images that are known by their keys, and need not be files.

    An image that is done stays done: without a file, nothing says that it changed.

    Args:
        database: of the run, open to write.
        keys: text, each once.
    """
    index_of = {key: index for index, key in enumerate(keys)}
    ids: dict[int, int] = {}
    counts = dict.fromkeys(("done", "retried", "not_given"), 0)
    redo: list[tuple[bytes, int | None, int | None, int]] = []
    for image, key, _, source, _, _, status in database.listing():
        index = index_of.pop(key, None)
        if index is None:
            counts["not_given"] += 1
        elif status == "done":
            counts["done"] += 1
        else:
            ids[index] = image
            if status == "failed":
                counts["retried"] += 1
                redo.append((source, None, None, image))
    if redo:
        database.redo(iter(redo), ())
    if index_of:
        database.add((key, key, key.encode(), None, None) for key in index_of)
        for image, key, *_ in database.listing():
            if key in index_of:
                ids[index_of[key]] = image
    order = sorted(ids)
    return Plan(
        total=len(keys),
        changed=0,
        missing=0,
        vanished=0,
        vanished_keys=(),
        **counts,
        _ids=array("q", (ids[index] for index in order)),
        _index=array("q", order),
        _found=[FoundImage(Path(key), PurePosixPath(key)) for key in keys],
        _keys=keys,
        _names=keys,
    )


def _source(image: FoundImage) -> tuple[bytes, int | None, int | None]:
    """Absolute path, size and mtime; None where the file cannot be asked, which fails when it is read."""
    source = os.fsencode(os.path.abspath(image.path))  # noqa: PTH100 (keeps links)
    try:
        stat = image.path.stat()
    except (OSError, ValueError):
        return source, None, None
    return source, stat.st_size, stat.st_mtime_ns
