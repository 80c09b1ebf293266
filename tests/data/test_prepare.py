"""Making files: a run goes on where it was stopped, and one bad file stops nothing."""

from pathlib import Path

import pytest

from tagmask.data.converters import jobs_of
from tagmask.data.prepare import Job, convert
from tagmask.errors import InputError, OutputError
from tests.data import layouts


def test_a_run_goes_on_where_it_was_and_one_bad_file_stops_nothing(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    jobs = jobs_of("coco-stuff", tmp_path)
    raw = jobs[1].target.with_name("000000000724.png")
    content = raw.read_bytes()
    raw.write_bytes(content[:40])
    first = list(convert(jobs))
    assert [one.made for one in first] == [True, False]
    assert first[1].error is not None
    assert "000000000724.png" in first[1].error
    assert not jobs[1].target.exists()
    raw.write_bytes(content)
    assert [one.made for one in convert(jobs)] == [False, True]
    assert [one.made for one in convert(jobs)] == [False, False]
    assert [one.made for one in convert(jobs, again=True)] == [True, True]


def test_two_processes_make_what_one_does(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    jobs = jobs_of("coco-object", tmp_path)
    list(convert(jobs))
    alone = [job.target.read_bytes() for job in jobs]
    assert [one.target for one in convert(jobs, workers=2, again=True)] == [job.target for job in jobs]
    assert [job.target.read_bytes() for job in jobs] == alone


def test_a_place_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file is where the folder"):
        list(convert([Job(tmp_path / "file" / "a.png", bytes)]))


def test_the_number_of_processes_is_checked() -> None:
    with pytest.raises(InputError, match=r"workers is 0. Give a whole number, 1 or more"):
        list(convert([], workers=0))
