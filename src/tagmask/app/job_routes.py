"""The routes that improve, export and repeat a run."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from tagmask.app.jobs import JobPlan, Jobs, free_folder
from tagmask.app.requests import Texts
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.app.run_summary import export_formats
from tagmask.errors import InputError

__all__ = ["job_router"]


class JobRequest(BaseModel):
    """What is to be done; each option is of one kind of job."""

    kind: Literal["improve", "export", "rerun"]
    formats: list[str] = Field([], max_length=100)
    """export: names of formats."""
    corrected_only: bool = False
    accepted_only: bool = False
    regions: Literal["class", "component"] | None = None
    words: Texts | None = Field(None, min_length=1)
    """rerun: words in place of the run's."""
    background: Texts | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    refine: Literal["none", "pamr", "tlp", "crf"] | None = None


def job_router(run: ReviewedRun, jobs: Jobs, model_options: Sequence[str]) -> APIRouter:
    """Return the routes.

    Args:
        run: what the jobs are about.
        jobs: runs them.
        model_options: of commands that load the model, such as `--device cpu`.
    """
    router = APIRouter(prefix="/api")

    @router.get("/jobs")
    def listed() -> Response:
        return JSONResponse(jobs.list())

    @router.post("/jobs")
    def start(body: JobRequest) -> Response:
        try:
            return JSONResponse({"id": jobs.start(lambda: _plan(run, body, model_options))})
        except InputError as error:
            raise HTTPException(409, str(error)) from error

    @router.delete("/jobs")
    def stop(id: str) -> Response:
        try:
            jobs.stop(id)
        except InputError as error:
            raise HTTPException(404, str(error)) from error
        return JSONResponse(jobs.list())

    return router


def _plan(run: ReviewedRun, body: JobRequest, model_options: Sequence[str]) -> JobPlan:
    path = str(run.path.resolve())
    if body.kind == "improve":
        out = free_folder(run.path, "improved")
        return JobPlan(kind="improve", arguments=["improve", path, *model_options], out=out)
    if body.kind == "rerun":
        arguments = ["rerun", path, *model_options, *_rerun_options(body)]
        return JobPlan(kind="rerun", arguments=arguments, out=free_folder(run.path, "again"))
    formats, known = list(dict.fromkeys(body.formats)), export_formats()
    if not formats or not set(formats) <= set(known):
        raise HTTPException(422, f"Give at least one of the formats {', '.join(known)}.")
    arguments = ["export", path, f"--to={','.join(formats)}"]
    arguments += ["--corrected-only"] * body.corrected_only + ["--accepted-only"] * body.accepted_only
    arguments += [] if body.regions is None else [f"--regions={body.regions}"]
    out = free_folder(run.path, "export")
    return JobPlan(kind="export", arguments=arguments, out=out, total=len(formats))


def _rerun_options(body: JobRequest) -> list[str]:
    """Options in one argument each, so that no word is taken for an option or a file."""
    if any(text.startswith("@") for text in (*(body.words or ()), *(body.background or ()))):
        raise HTTPException(422, "A word may not begin with @.")
    options = [f"--word={word}" for word in body.words or ()]
    if body.background is not None:
        options += [f"--background={text}" for text in body.background] or ["--no-background"]
    options += [] if body.threshold is None else [f"--threshold={body.threshold}"]
    return options + ([] if body.refine is None else [f"--refine={body.refine}"])
