"""The rows of a run, filtered and sorted: an index in memory that follows the database.

Filters by word or by text would read the whole table on every request. The index holds what they compare,
some hundred bytes an image, and gives ids; the rows themselves are read from the database.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64, Int

from tagmask.runs.corrections import corrected_names
from tagmask.runs.reader import Run
from tagmask.strict_json import parse_json

__all__ = ["Gallery", "GalleryFilter"]

_STATUS: Final = {name: i for i, name in enumerate(("todo", "done", "failed"))}
_REVIEW: Final = {name: i for i, name in enumerate(("unseen", "accepted", "corrected", "rejected"))}
_SINCE: Final = 60.0
"""Seconds before the newest change seen from which changes are read again: clocks of machines differ."""
_PAUSE: Final = 1.0
"""Seconds between two readings of a run that is being written."""
_ROWS: Final = (
    "SELECT id, key, name, status, confidence, shares, state, "
    "max(coalesce(images.updated, 0), coalesce(reviews.updated, 0)) AS changed "
    "FROM images LEFT JOIN reviews ON image = id"
)


@dataclass(frozen=True, kw_only=True)
class GalleryFilter:
    """Which images, and in which order."""

    word: str | None = None
    status: frozenset[str] = frozenset()
    """None of them: any."""
    review: frozenset[str] = frozenset()
    """Of accepted, rejected, corrected and none; none of them: any."""
    search: str = ""
    """Text that is in the key, in any case."""
    sort: str = "confidence"
    """"confidence": lowest first, images without one last; or "name"."""


@dataclass
class _Columns:
    """What filters compare, in the order of keys."""

    ids: Int[np.ndarray, " n"]
    keys: list[str]
    """Case-folded."""
    status: Int[np.ndarray, " n"]
    review: Int[np.ndarray, " n"]
    corrected: Bool[np.ndarray, " n"]
    confidence: Float64[np.ndarray, " n"]
    words: list[tuple[str, ...]]
    """Of each image; equal ones are one object."""
    place: dict[int, int]
    """Of an id in the others."""
    order: Int[np.ndarray, " n"] | None = None
    """By confidence; None until it is asked for."""
    known: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)


class Gallery:
    """The index of a run. Use it in the thread that opened the run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._columns: _Columns | None = None
        self._version = -1
        self._read_at = 0.0
        self._newest = 0.0

    def page(self, chosen: GalleryFilter, offset: int, limit: int) -> tuple[int, list[int]]:
        """Return how many images there are, and the ids of some of them.

        Args:
            chosen: filter and order.
            offset: images before the first.
            limit: most ids.
        """
        columns = self._current()
        kept = self._kept(columns, chosen)
        if chosen.sort == "name":
            places = np.flatnonzero(kept)
        else:
            order = self._by_confidence(columns)
            places = order[kept[order]]
        return len(places), columns.ids[places[offset : offset + limit]].tolist()

    def counts(self) -> dict[str, int]:
        """How many images there are of each status and review."""
        columns = self._current()
        done = columns.status == _STATUS["done"]
        review = {name: columns.review == _REVIEW[name] for name in ("accepted", "rejected")}
        return {
            "all": len(columns.ids),
            "done": int(done.sum()),
            "failed": int((columns.status == _STATUS["failed"]).sum()),
            **{name: int(marked.sum()) for name, marked in review.items()},
            "corrected": int(columns.corrected.sum()),
            "unreviewed": int(_unreviewed(columns).sum()),
        }

    def set_words(self, image: int, words: Iterable[str]) -> None:
        """Record the words of an image's newest mask, which is a corrected one."""
        columns = self._current()
        columns.words[columns.place[image]] = _interned(columns, words)

    def refresh(self) -> None:
        """Read what this connection has just changed, which is not among the changes that it is told of."""
        self._version = -1
        self._current(at_once=True)

    # -- Filters ---------------------------------------------------------------------------------------------

    def _kept(self, columns: _Columns, chosen: GalleryFilter) -> Bool[np.ndarray, " n"]:
        kept = np.ones(len(columns.ids), bool)
        if chosen.status:
            kept &= np.isin(columns.status, [_STATUS[name] for name in chosen.status])
        if chosen.review:
            kept &= _reviewed(columns, chosen.review)
        if chosen.search:
            text = chosen.search.casefold()
            kept &= _flags((text in key for key in columns.keys), kept)
        if chosen.word is not None:
            word = chosen.word
            kept &= _flags((word in words for words in columns.words), kept)
        return kept

    @staticmethod
    def _by_confidence(columns: _Columns) -> Int[np.ndarray, " n"]:
        if columns.order is None:
            columns.order = np.argsort(columns.confidence, kind="stable")  # NaN last
        return columns.order

    # -- Following the database ------------------------------------------------------------------------------

    def _current(self, *, at_once: bool = False) -> _Columns:
        database = self._run.database
        now = time.monotonic()
        version = int(database.query("PRAGMA data_version")[0][0])
        if self._columns is None:
            return self._load(version)
        if version == self._version or (not at_once and now - self._read_at < _PAUSE):
            return self._columns
        since = (self._newest - _SINCE,)
        changed = f"{_ROWS} WHERE images.updated > ? UNION {_ROWS} WHERE reviews.updated > ?"
        rows = database.query(changed, since * 2)
        columns = self._columns
        if any(row["id"] not in columns.place for row in rows):
            return self._load(version)
        for row in rows:
            self._set(columns, row)
        columns.order = None
        counts = {name: int((columns.status == i).sum()) for name, i in _STATUS.items()}
        if counts != database.counts():  # images joined, or are to be done again
            return self._load(version)
        self._version, self._read_at = version, now
        return columns

    def _load(self, version: int) -> _Columns:
        rows = sorted(self._run.database.query(_ROWS), key=lambda row: str(row["key"]))
        corrected = set(corrected_names(self._run))
        columns = _Columns(
            ids=np.array([row["id"] for row in rows], np.int64),
            keys=[str(row["key"]).casefold() for row in rows],
            status=np.array([_STATUS.get(row["status"], 0) for row in rows], np.int8),
            review=np.array([_REVIEW.get(row["state"], 0) for row in rows], np.int8),
            corrected=np.array([row["name"] in corrected for row in rows], bool),
            confidence=_numbers([row["confidence"] for row in rows], np.nan),
            words=[],
            place={row["id"]: place for place, row in enumerate(rows)},
        )
        texts: dict[object, tuple[str, ...]] = {}
        for row in rows:
            shares = row["shares"]
            if shares not in texts:
                texts[shares] = _interned(columns, _words(shares))
            columns.words.append(texts[shares])
        self._newest = float(_numbers([row["changed"] for row in rows], 0.0).max(initial=0.0))
        self._columns, self._version, self._read_at = columns, version, time.monotonic()
        return columns

    def _set(self, columns: _Columns, row: Any) -> None:  # noqa: ANN401 (sqlite3.Row)
        place = columns.place[row["id"]]
        columns.status[place] = _STATUS.get(row["status"], 0)
        columns.review[place] = _REVIEW.get(row["state"], 0)
        columns.confidence[place] = _numbers([row["confidence"]], np.nan)[0]
        corrected = self._has_correction(row)
        if not (corrected and columns.corrected[place]):  # whose words were set
            columns.words[place] = _interned(columns, _words(row["shares"]))
        columns.corrected[place] = corrected
        self._newest = max(self._newest, float(_numbers([row["changed"]], 0.0)[0]))

    def _has_correction(self, row: Any) -> bool:  # noqa: ANN401
        if row["state"] in ("accepted", "rejected"):
            return self._run.output_path(self._run.database.row_by_id(row["id"]), "corrected").exists()
        return bool(row["state"] == "corrected")


def _numbers(values: list[Any], otherwise: float) -> Float64[np.ndarray, " n"]:
    return np.array([v if isinstance(v, int | float) else otherwise for v in values], np.float64)


def _words(shares: object) -> tuple[str, ...]:
    """Names of the classes that a mask has, as the run recorded them."""
    try:
        found = parse_json(shares) if isinstance(shares, str) else {}
    except ValueError:
        found = {}
    return tuple(found) if isinstance(found, dict) else ()


def _interned(columns: _Columns, words: Iterable[str]) -> tuple[str, ...]:
    found = tuple(words)
    return columns.known.setdefault(found, found)


def _flags(values: Iterable[bool], kept: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    return np.fromiter(values, bool, len(kept))


def _unreviewed(columns: _Columns) -> Bool[np.ndarray, " n"]:
    open_ = ~np.isin(columns.review, [_REVIEW[name] for name in ("accepted", "rejected")])
    done = columns.status == _STATUS["done"]
    unreviewed: Bool[np.ndarray, " n"] = open_ & ~columns.corrected & done
    return unreviewed


def _reviewed(columns: _Columns, states: Collection[str]) -> Bool[np.ndarray, " n"]:
    kept = np.isin(columns.review, [_REVIEW[s] for s in states if s in ("accepted", "rejected")])
    if "corrected" in states:
        kept |= columns.corrected
    if "none" in states:
        kept |= _unreviewed(columns)
    return kept
