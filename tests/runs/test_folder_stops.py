"""What stops a run: a deleted folder, a full disk, a second producer, a file in the way."""

import errno
import os
import shutil

import pytest

from tagmask.errors import InputError, OutputError
from tagmask.runs import folder as module
from tagmask.runs.folder import RunStopped
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images
from tests.runs.stub_producer import opened


def test_a_second_producer_is_refused_and_the_first_goes_on(run, photos):
    with opened(run) as folder:
        plan = folder.plan(find_images([photos]))
        with pytest.raises(InputError, match=f"process {os.getpid()}"):
            opened(run)
        for task in plan:
            folder.done(task, ImageResult())
    with Run(run) as done:
        assert done.counts["done"] == 10


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_folder_deleted_during_the_run_stops_it_and_is_not_made_anew(run, photos, made_anew):
    folder = opened(run)
    task = next(iter(folder.plan(find_images([photos]))))
    shutil.rmtree(run)
    other = opened(run) if made_anew else None
    for act in (
        lambda: folder.write_mask(task.name, b"x"),
        lambda: folder.done(task, ImageResult()),
        lambda: folder.fail(task, ValueError()),
    ):
        with pytest.raises(RunStopped, match="deleted"):
            act()
    folder.close()
    if other is None:
        assert not run.exists()
    else:
        assert not (run / "masks").exists()
        other.check()
        assert (run / "run.db-wal").exists()
        other.plan(find_images([photos]))
        other.close()
        with Run(run) as done:
            assert len(done) == 10


@pytest.mark.parametrize(
    ("code", "stops"),
    [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EDQUOT, True), (errno.ENAMETOOLONG, False)],
)
def test_a_full_disk_stops_the_run_and_a_bad_name_only_its_image(run, photos, monkeypatch, code, stops):
    with opened(run) as folder:
        task = next(iter(folder.plan(find_images([photos]))))

        def fails(path, _data):
            raise OutputError(f"{path} cannot be written") from OSError(code, os.strerror(code))

        monkeypatch.setattr(module, "write_bytes", fails)
        with pytest.raises(OutputError) as caught:
            folder.write_mask(task.name, b"x")
        assert isinstance(caught.value, RunStopped) == stops
        if stops:
            assert "same command again" in str(caught.value)
            with pytest.raises(RunStopped):
                folder.fail(task, caught.value)
        else:
            folder.fail(task, caught.value)
            assert folder.database.counts()["failed"] == 1


def test_names_that_no_file_can_have_are_their_images_failure(run, tmp_path):
    with opened(run) as folder, pytest.raises(OutputError) as caught:
        folder.write_mask("x" * 300, b"x")
    assert not isinstance(caught.value, RunStopped)


def test_a_deleted_run_without_images_is_noticed(run):
    folder = opened(run, classes=None, images=False)
    shutil.rmtree(run)
    with pytest.raises(RunStopped, match="deleted"):
        folder.check()
    folder.close()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"file")
    with pytest.raises(OutputError, match="not a folder"):
        opened(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"file"
