"""The gallery: filters and orders against a plain loop, 100,000 rows, and a run that is being written."""

import itertools
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from tagmask import Run
from tagmask.app.gallery import Gallery, GalleryFilter
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.errors import InputError
from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.database import RunDatabase
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import FoundImage
from tests.app.review.browser import Browser
from tests.app.review.conftest import Open

WORDS = ("background", "cat", "dog", 'a "b"')
CLASSES = Classes(WORDS, 255)
IDENTITY = RunIdentity("mask", {"words": ["cat"]})


def make_rows(path: Path, count: int) -> Path:
    """A run of made-up rows, without files."""
    with RunFolder.open(path, IDENTITY, CLASSES):
        pass
    rng = np.random.default_rng(0)
    columns = "id, key, name, source, width, height, status, shares, confidence, updated"
    with closing(sqlite3.connect(path / "run.db")) as database, database:
        database.executemany(
            f"INSERT INTO images ({columns}) VALUES (?, ?, ?, ?, 50, 40, ?, ?, ?, 1.0)", rows(rng, count)
        )
        states = ("accepted", "rejected", "unseen")
        database.executemany(
            "INSERT INTO reviews VALUES (?, ?, 0, 1.0)",
            ((i, states[i % 3]) for i in range(1, count + 1) if i % 5 == 0),
        )
    return path


def rows(rng: np.random.Generator, count: int) -> Any:
    shares = ['{"background":9}', '{"background":5,"cat":4}', '{"dog":9}', '{"cat":1,"a \\"b\\"":8}']
    confidences = rng.random(count).round(2)  # with many equal ones
    for i in range(1, count + 1):
        status = "failed" if i % 17 == 0 else "todo" if i % 19 == 0 else "done"
        done = status == "done"
        name = f"{'Sub' if i % 2 else 'oth er'}/{i * 7919 % count:06d}"
        yield (
            i, f"photos/{name}.JPG", name, f"/none/{name}.JPG".encode(), status,
            shares[i % 4] if done else None, float(confidences[i - 1]) if done else None,
        )  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rows(tmp_path_factory.mktemp("rows") / "run", 400)


FILTERS: list[dict[str, Any]] = [
    {},
    *({"word": word} for word in ("cat", "dog", 'a "b"', "background", "ca", "none")),
    {"status": frozenset({"failed"})},
    {"status": frozenset({"failed", "todo"})},
    *({"review": frozenset({state})} for state in ("accepted", "rejected", "corrected", "none")),
    {"review": frozenset({"accepted", "none"}), "word": "cat"},
    {"search": "sUb/0"},
    {"search": "oth er", "word": "dog", "status": frozenset({"done"}), "review": frozenset({"none"})},
]


def expected(run: Run, chosen: GalleryFilter) -> list[int]:
    """The same by a plain loop."""
    kept = []
    for row in run:
        states = {row.review} if row.review != "unseen" else {"none"} if row.status == "done" else set()
        if (
            (chosen.word is None or chosen.word in (row.shares or {}))
            and (not chosen.status or row.status in chosen.status)
            and (not chosen.review or states & chosen.review)
            and chosen.search.casefold() in row.key.casefold()
        ):
            kept.append(row)
    if chosen.sort == "confidence":
        kept.sort(key=lambda row: (2.0 if row.confidence is None else row.confidence, row.key))
    return [row.id for row in kept]


@pytest.mark.parametrize("sort", ["confidence", "name"])
@pytest.mark.parametrize("values", FILTERS, ids=" ".join)
def test_filters_and_orders(small: Path, values: dict[str, Any], sort: str) -> None:
    chosen = GalleryFilter(**values, sort=sort)
    with Run(small) as run:
        gallery, wanted = Gallery(run), expected(run, chosen)
        assert gallery.page(chosen, 0, 10_000) == (len(wanted), wanted)
        paged = [gallery.page(chosen, offset, 7)[1] for offset in range(0, len(wanted) + 7, 7)]
        assert list(itertools.chain(*paged)) == wanted


def test_counts_are_those_of_the_filters(small: Path) -> None:
    with Run(small) as run:
        gallery = Gallery(run)
        counts = gallery.counts()
        assert counts.pop("all") == len(run)
        for name, count in counts.items():
            values = (
                {"status": {name}}
                if name in ("done", "failed")
                else {"review": {name.replace("unreviewed", "none")}}
            )
            chosen = GalleryFilter(**{key: frozenset(each) for key, each in values.items()})  # type: ignore[arg-type]
            assert gallery.page(chosen, 0, 0)[0] == count
        assert counts["done"] == counts["accepted"] + counts["rejected"] + counts[
            "unreviewed"
        ] - _reviewed_undone(run)


def _reviewed_undone(run: Run) -> int:
    return sum(row.review in ("accepted", "rejected") and row.status != "done" for row in run)


def test_pages_of_a_hundred_thousand_rows_read_only_their_own(tmp_path: Path) -> None:
    """After the first request the database gives the rows of a page by their ids, and nothing else."""
    reviewed = ReviewedRun(make_rows(tmp_path / "run", 100_000))
    connection, asked, steps = reviewed.run.database._connection, list[str](), set[str]()
    try:
        assert reviewed.counts()["all"] == 100_000
        reviewed._call(lambda: connection.set_trace_callback(asked.append))
        for values in FILTERS:
            for sort, offset in (("confidence", 0), ("name", 70_000), ("confidence", 90_000)):
                page = reviewed.images(GalleryFilter(**values, sort=sort), offset, 60)
                assert len(page["images"]) <= 60  # type: ignore[arg-type]
        reviewed._call(lambda: connection.set_trace_callback(None))
        for statement in set(asked) - {"PRAGMA data_version"}:
            explained = f"EXPLAIN QUERY PLAN {statement}"
            steps |= {
                step[3]
                for step in reviewed._call(lambda each: connection.execute(each).fetchall(), explained)
            }
    finally:
        reviewed.close()
    searched = {step for step in steps if step.startswith(("SEARCH", "SCAN"))}
    assert searched == {
        "SEARCH images USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH reviews USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN",
    }, steps


def found(names: list[str]) -> list[FoundImage]:
    return [FoundImage(Path("/none/photos") / name, PurePosixPath(name)) for name in names]


def test_a_run_that_is_being_written(
    tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the producer commits is shown; what a person decides meanwhile is kept; one file is left."""
    monkeypatch.setattr("tagmask.app.gallery._PAUSE", 0.0)
    path, names = tmp_path / "run", [f"{i}.png" for i in range(6)]
    with RunFolder.open(path, IDENTITY, CLASSES, network=False) as folder:
        tasks = list(folder.plan(found(names[:4])))
        page = open_page(path)
        assert (page.json("/api/run")["state"], page.json("/api/run")["total"]) == ("running", 4)
        for count, task in enumerate(tasks, start=1):
            folder.write_mask(task.name, index_png(np.full((40, 50), 1, np.uint8)))
            shares = {"cat": 2000}
            folder.done(task, ImageResult(width=50, height=40, shares=shares, confidence=1 - count / 10))
            assert page.json("/api/images", word="cat")["count"] == count
            assert page.keys(limit=1) == [task.key]  # the least confident so far
        answer = page.send("POST", "/api/review", {"key": tasks[0].key, "review": "accepted"})
        assert answer.status_code == 200
        folder.fail(tasks[1], InputError("no image"))  # as a second attempt may end
        assert page.json("/api/run")["counts"]["failed"] == 1
        assert page.keys(word="cat", sort="name") == [task.key for task in tasks if task is not tasks[1]]
        list(folder.plan(found(names)))  # newcomers, and the failed one again
        counts = page.json("/api/run")["counts"]
        assert (counts["all"], counts["failed"], counts["done"], counts["accepted"]) == (6, 0, 3, 1)
    assert page.json("/api/run")["state"] == "stopped"


def test_a_producer_may_begin_while_the_page_is_open(tmp_path: Path) -> None:
    path = make_rows(tmp_path / "run", 20)
    reviewed = ReviewedRun(path)
    with RunFolder.open(path, IDENTITY, CLASSES, network=False) as folder:
        assert reviewed.state(reviewed.counts()) == "running"
        reviewed.review(_done_key(path), "rejected")
        folder.database.set_review(1, "accepted")
        reviewed._call(reviewed._gallery.refresh)
        assert reviewed.counts()["rejected"] >= 1
    reviewed.close()
    assert sorted(file.name for file in path.iterdir() if file.name.startswith("run.db")) == ["run.db"]


def _done_key(path: Path) -> str:
    with Run(path) as run:
        return next(row.key for row in run if row.status == "done" and row.review == "unseen")


def test_another_process_reviews(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `tagmask import` does while the page is open."""
    monkeypatch.setattr("tagmask.app.gallery._PAUSE", 0.0)
    path = make_rows(tmp_path / "run", 30)
    reviewed = ReviewedRun(path)
    try:
        before = reviewed.counts()
        with closing(RunDatabase.open_reviews(path / "run.db")) as other:
            row = next(other.rows("state IS NULL AND status = 'done'"))
            other.set_review(row.id, "corrected")
        after = reviewed.counts()
        assert (after["corrected"], after["unreviewed"]) == (1, before["unreviewed"] - 1)
    finally:
        reviewed.close()


def test_what_is_no_run_of_masks_is_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "tags", RunIdentity("tag", {"words": ["cat"]})):
        pass
    for path, said in ((tmp_path / "tags", "has no masks to review"), (tmp_path, "is not a run")):
        with pytest.raises(InputError, match=said):
            ReviewedRun(path)


@pytest.mark.parametrize(
    "query",
    [{"status": "gone"}, {"review": "x"}, {"sort": "size"}, {"limit": 10_000}, {"limit": -1}, {"offset": -1}],
)
def test_unknown_filters(page: Browser, query: dict[str, object]) -> None:
    answer = page.get("/api/images", **query)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_images_as_the_page_gets_them(page: Browser) -> None:
    images = page.json("/api/images")["images"]
    assert [image["status"] for image in images] == ["done", "done", "done", "failed"]
    confidence = [image["confidence"] for image in images]
    assert confidence[:3] == sorted(confidence[:3])
    assert confidence[3] is None
    assert images[3]["error"]
    assert all("background" not in image["words"] for image in images)
    image = page.json("/api/image", key="photos/a.png")
    assert (image["width"], image["height"]) == (60, 80)
    assert sum(each["share"] for each in image["classes"]) == pytest.approx(1)
    about = page.json("/api/run")
    assert about["words"] == ["background", "fish", "car", "cat"]
    assert (about["background"], about["ignore"], about["threshold"], about["refine"]) == (
        True,
        255,
        0.2,
        "none",
    )
    assert about["counts"] == {
        "all": 4, "done": 3, "failed": 1, "accepted": 0, "rejected": 0, "corrected": 0, "unreviewed": 3,
    }  # fmt: skip
    assert (about["state"], about["live"]["possible"]) == ("finished", True)
    assert len(about["colors"]) == 4
    assert "csv" in about["formats"]


def test_a_producer_of_another_process_ends_while_the_page_is_open(tmp_path: Path) -> None:
    """It returns the database to one file then, if it may: what is decided afterwards must not be lost."""
    for i in range(5):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{i}.png").write_bytes(bytes([i] * 20))
    path = tmp_path / "run"
    arguments = [tmp_path / "photos", path, tmp_path / "begun", 0.4]
    command = [sys.executable, "-m", "tests.runs.stub_producer", *map(str, arguments)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as producer:
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        reviewed = ReviewedRun(path)
        assert reviewed.state(reviewed.counts()) == "running"
        assert producer.wait(30) == 0
    assert reviewed.counts()["done"] == 5
    assert reviewed.state(reviewed.counts()) == "finished"
    reviewed.review("photos/0.png", "accepted")
    query = "SELECT state FROM reviews"
    read = f"import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('{query}').fetchall())"
    said = subprocess.run(
        [sys.executable, "-c", read, str(path / "run.db")], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[('accepted',)]"
    reviewed.close()
    assert sorted(file.name for file in path.glob("run.db*")) == ["run.db"]
