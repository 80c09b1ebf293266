"""Jobs: commands in processes of their own, one at a time, stopped and followed."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tagmask.app import job_routes
from tagmask.app.job_routes import JobRequest
from tagmask.app.jobs import JobPlan, Jobs, free_folder
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.errors import InputError
from tests.app.review.browser import Browser

PROGRAM = """
import sys, time
arguments = sys.argv[1:]
print("result one", flush=True)
print("tagmask: " + " ".join(arguments), file=sys.stderr, flush=True)
if "wait" in arguments:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("Stopped at a good place.", file=sys.stderr, flush=True)
        sys.exit(130)
print("result two", flush=True)
sys.exit(int(arguments[0]))
"""


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    """Jobs of a small program."""
    made = Jobs((sys.executable, "-c", PROGRAM))
    yield made
    made.stop()


def plan(out: Path, *arguments: str) -> Callable[[], JobPlan]:
    return lambda: JobPlan(kind="export", arguments=arguments, out=out, total=2)


def until(jobs: Jobs, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(500):
        job = jobs.list()[-1]
        if ready(job):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def ended(job: dict[str, Any]) -> bool:
    return bool(job["state"] != "running")


@pytest.mark.parametrize(
    ("code", "state"), [("0", "done"), ("1", "done"), ("2", "failed"), ("139", "failed")]
)
def test_a_job_ends(jobs: Jobs, tmp_path: Path, code: str, state: str) -> None:
    """Exit code 1 says that some images failed: the others are there."""
    out = tmp_path / "out"
    job_id = jobs.start(plan(out, code))
    job = until(jobs, ended)
    assert job == {
        "id": job_id,
        "kind": "export",
        "state": state,
        "done": 2,
        "total": 2,
        "message": f"{code} --out {out}",
        "result": str(out) if state == "done" else None,
    }


def test_one_job_at_a_time_and_it_can_be_stopped(jobs: Jobs, tmp_path: Path) -> None:
    jobs.start(plan(tmp_path / "out", "wait"))
    until(jobs, lambda job: job["done"] == 1 and "wait" in job["message"])
    with pytest.raises(InputError, match="Another job is running"):
        jobs.start(plan(tmp_path / "other", "0"))
    with pytest.raises(InputError, match="no such job"):
        jobs.stop("7")
    jobs.stop("1")
    job = until(jobs, ended)
    assert (job["state"], job["message"]) == ("stopped", "Stopped at a good place.")
    assert jobs.start(plan(tmp_path / "other", "0")) == "2"
    until(jobs, ended)


def test_a_failed_job_leaves_no_empty_folder(jobs: Jobs, tmp_path: Path) -> None:
    out = free_folder(tmp_path / "run", "export")
    jobs.start(plan(out, "2"))
    until(jobs, ended)
    assert not out.exists()


def test_folders_are_new(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    names = [free_folder(tmp_path / "run", "improved").name for _ in range(3)]
    assert names == ["run-improved", "run-improved-2", "run-improved-3"]


def test_what_commands_get(run: Path) -> None:
    reviewed = ReviewedRun(run)
    options = ["--device=cpu"]

    def arguments(**body: Any) -> tuple[list[str], str]:
        made = job_routes._plan(reviewed, JobRequest(**body), options)
        return list(made.arguments), made.out.name

    try:
        path = str(run.resolve())
        assert arguments(kind="improve") == (["improve", path, "--device=cpu"], "run-improved")
        assert arguments(
            kind="rerun", words=["cat", "--out=x"], background=[], threshold=0.5, refine="pamr"
        ) == (
            ["rerun", path, "--device=cpu", "--word=cat", "--word=--out=x", "--no-background",
             "--threshold=0.5", "--refine=pamr"],
            "run-again",
        )  # fmt: skip
        assert arguments(
            kind="export", formats=["csv", "coco", "csv"], corrected_only=True, regions="class"
        ) == (
            ["export", path, "--to=csv,coco", "--corrected-only", "--regions=class"],
            "run-export",
        )
    finally:
        reviewed.close()


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "delete"},
        {"kind": "export"},
        {"kind": "export", "formats": ["exe"]},
        {"kind": "rerun", "words": ["@/etc/passwd"]},
        {"kind": "rerun", "words": []},
        {"kind": "rerun", "threshold": 7},
    ],
)
def test_unusable_jobs_make_no_folder(page: Browser, run: Path, body: dict[str, Any]) -> None:
    answer = page.send("POST", "/api/jobs", body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert page.json("/api/jobs") == []
    assert sorted(path.name for path in run.parent.iterdir()) == ["photos", "run"]


def test_an_export_by_the_page(page: Browser, run: Path) -> None:
    """The real command."""
    assert page.send("POST", "/api/jobs", {"kind": "export", "formats": ["csv"]}).json() == {"id": "1"}
    assert page.send("POST", "/api/jobs", {"kind": "improve"}).status_code == 409
    for _ in range(600):
        (job,) = page.json("/api/jobs")
        if ended(job):
            break
        time.sleep(0.05)
    assert (job["state"], job["done"], job["total"]) == ("done", 1, 1), job
    table = (run.parent / "run-export" / "images.csv").read_text()
    assert "a.png,a,done" in table
    assert page.send("DELETE", "/api/jobs", id="9").status_code == 404
    assert page.send("DELETE", "/api/jobs", id="1").json()[0]["state"] == "done"
