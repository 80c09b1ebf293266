"""Conversion: an interrupted run resumes, and a bad file does not stop the others."""

from pathlib import Path

import pytest

from tagmask.data.converters import jobs_of
from tagmask.data.prepare import Job, convert
from tagmask.errors import InputError, OutputError
from tests.data import layouts


def test_run_resumes_and_continues_after_a_bad_file(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    jobs = jobs_of("coco-stuff", tmp_path)
    raw = jobs[1].target.with_name("000000000724.png")
    content = raw.read_bytes()
    raw.write_bytes(content[:40])
    first = list(convert(jobs))
    assert [done.made for done in first] == [True, False]
    assert first[1].error is not None
    assert "000000000724.png" in first[1].error
    assert not jobs[1].target.exists()
    raw.write_bytes(content)
    assert [done.made for done in convert(jobs)] == [False, True]
    assert [done.made for done in convert(jobs)] == [False, False]
    assert [done.made for done in convert(jobs, again=True)] == [True, True]


def test_two_processes_write_the_same_files(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    jobs = jobs_of("coco-object", tmp_path)
    list(convert(jobs))
    single = [job.target.read_bytes() for job in jobs]
    assert [done.target for done in convert(jobs, workers=2, again=True)] == [job.target for job in jobs]
    assert [job.target.read_bytes() for job in jobs] == single


def test_unwritable_folder_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file is where the folder"):
        list(convert([Job(tmp_path / "file" / "a.png", bytes)]))


def test_the_number_of_processes_is_checked() -> None:
    with pytest.raises(InputError, match=r"workers is 0. Give a whole number, 1 or more"):
        list(convert([], workers=0))
