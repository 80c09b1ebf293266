import shutil
from pathlib import Path

import pytest

from tagmask.errors import InputError
from tagmask.masks import index_png
from tagmask.runs import merge as module
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.merge import merge_runs
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runs.shards import Shard
from tagmask.runtime.folders import find_images
from tests.runs.stub_producer import CLASSES, IDENTITY, produce, stub_mask


def produce_shard(photos, run, shard):
    with RunFolder.open(run, IDENTITY, CLASSES, network=False) as folder:
        for task in folder.plan(find_images([photos]), shard=shard):
            folder.write_mask(task.name, index_png(stub_mask(task.found.path.read_bytes())))
            folder.done(task, ImageResult(shares={"cat": 1}, confidence=0.5))


def masks(run):
    with Run(run) as rows:
        return {row.key: rows.mask(row).tobytes() for row in rows}


def results(run):
    with Run(run) as rows:
        return [(row.key, row.name, row.status, row.shares, row.confidence) for row in rows]


@pytest.fixture
def shards(tmp_path, photos):
    paths = [tmp_path / f"shard{i}" for i in (1, 2, 3)]
    for i, path in enumerate(paths, start=1):
        produce_shard(photos, path, Shard(i, 3))
    return paths


def test_shards_joined_equal_one_run(tmp_path, photos, shards, tree):
    produce_shard(photos, tmp_path / "one", None)
    before = [tree(path) for path in shards]
    report = merge_runs(shards, tmp_path / "all")
    assert (report.images, report.copied, report.repeated) == (10, 10, 0)
    assert results(tmp_path / "all") == results(tmp_path / "one")
    assert masks(tmp_path / "all") == masks(tmp_path / "one")
    assert [tree(path) for path in shards] == before
    with RunFolder.open(tmp_path / "all", IDENTITY, CLASSES, network=False) as folder:
        assert folder.plan(find_images([photos])).done == 10


def test_repeated_images_with_equal_results_are_taken_once(tmp_path, photos):
    produce(photos, tmp_path / "x")
    produce(photos / "a", tmp_path / "y")
    shutil.copytree(tmp_path / "x", tmp_path / "z")
    report = merge_runs([tmp_path / "x", tmp_path / "y", tmp_path / "z"], tmp_path / "all")
    assert (report.images, report.repeated) == (15, 10)  # the folder a, given itself, is another one


@pytest.mark.parametrize("what", ["mask", "row", "corrected"])
def test_repeated_images_with_other_results_are_refused_before_anything_is_written(tmp_path, photos, what):
    for name in "xy":
        produce(photos, tmp_path / name)
    if what == "row":
        with RunFolder.open(tmp_path / "y", IDENTITY, CLASSES, network=False) as folder:
            row = folder.database.row("photos/a/03.png")
            folder.database.set_result(row.id, ImageResult(confidence=0.99).columns())
    elif what == "mask":
        (tmp_path / "y/masks/a/03.png").write_bytes(b"other")
    else:
        for name in "xy":
            (tmp_path / name / "corrected/a").mkdir(parents=True)
            (tmp_path / name / "corrected/a/03.png").write_bytes(name.encode())
    with pytest.raises(InputError, match=r"photos/a/03\.png has different"):
        merge_runs([tmp_path / "x", tmp_path / "y"], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_runs_of_other_settings_and_runs_at_work_are_refused(tmp_path, photos):
    produce(photos, tmp_path / "x")
    other = RunFolder.open(tmp_path / "y", RunIdentity("mask", {"words": ["cow"]}), CLASSES, network=False)
    with other, pytest.raises(InputError, match="being written by process"):
        merge_runs([tmp_path / "x", tmp_path / "y"], tmp_path / "all")
    with pytest.raises(InputError, match="words were cat, dog, are cow"):
        merge_runs([tmp_path / "x", tmp_path / "y"], tmp_path / "all")
    with pytest.raises(InputError, match="one of the runs"):
        merge_runs([tmp_path / "x"], tmp_path / "x")
    assert not (tmp_path / "all").exists()


def test_files_that_tagmask_did_not_write_are_refused_untouched(tmp_path, photos, tree):
    produce(photos, tmp_path / "x")
    (tmp_path / "all/masks").mkdir(parents=True)
    (tmp_path / "all/masks/x.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="in the way"):
        merge_runs([tmp_path / "x"], tmp_path / "all")
    assert list(tree(tmp_path / "all")) == ["masks/x.png"]


def test_names_that_two_runs_share_are_kept_apart_with_their_files_and_reviews(tmp_path):
    for name, content in (("x", b"one"), ("y", b"two")):
        photo = tmp_path / name / f"photos{name}/1.png"
        photo.parent.mkdir(parents=True)
        photo.write_bytes(content * 9)
        produce(photo.parent, tmp_path / name / "run")
    corrected = tmp_path / "y/run/corrected/1.png"
    corrected.parent.mkdir()
    corrected.write_bytes(index_png(stub_mask(b"corrected")))
    with RunFolder.open(tmp_path / "y/run", IDENTITY, CLASSES, network=False) as folder:
        folder.database.set_review(1, "corrected", stale=True)
    merge_runs([tmp_path / "x/run", tmp_path / "y/run"], tmp_path / "all")
    with Run(tmp_path / "all") as done:
        rows = {row.key: row for row in done}
        assert {row.name for row in rows.values()} == {"1", "1-2"}
        assert (done.mask(rows["photosx/1.png"]) == stub_mask(b"one" * 9)).all()
        assert (done.mask(rows["photosy/1.png"]) == stub_mask(b"corrected")).all()
        assert all(done.overlay_path(row).exists() for row in done)
        assert [(row.review, row.stale) for row in (rows["photosx/1.png"], rows["photosy/1.png"])] == [
            ("unseen", False),
            ("corrected", True),
        ]


def test_done_goes_before_failed_whatever_the_order(tmp_path, photos):
    produce(photos, tmp_path / "x")
    with RunFolder.open(tmp_path / "y", IDENTITY, CLASSES, network=False) as folder:
        for task in folder.plan(find_images([photos])):
            folder.fail(task, InputError("torn"))
    merge_runs([tmp_path / "y", tmp_path / "x"], tmp_path / "all")
    with Run(tmp_path / "all") as done:
        assert done.counts["done"] == 10


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_merge_that_was_stopped_goes_on(tmp_path, photos, shards, monkeypatch, after):
    class Stopped(BaseException):
        pass

    written = 0
    whole = RunFolder.write_mask

    def stops(self: RunFolder, name: str, png: bytes) -> Path:
        nonlocal written
        written += 1
        path = whole(self, name, png)
        if written == after:
            raise Stopped
        return path

    monkeypatch.setattr(module.RunFolder, "write_mask", stops)
    with pytest.raises(Stopped):
        merge_runs(shards, tmp_path / "all")
    assert written == after
    report = merge_runs(shards, tmp_path / "all")
    assert report.copied == 10 - (after - 1)
    produce_shard(photos, tmp_path / "one", None)
    assert results(tmp_path / "all") == results(tmp_path / "one")
    assert masks(tmp_path / "all") == masks(tmp_path / "one")
    assert merge_runs(shards, tmp_path / "all").copied == 0
