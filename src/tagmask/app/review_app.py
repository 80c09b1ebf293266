"""The review page's server: a run, its model, jobs and the page's files as one application."""

from collections.abc import Callable, Sequence
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import FastAPI

from tagmask.app.job_routes import job_router
from tagmask.app.jobs import Jobs
from tagmask.app.live import Live
from tagmask.app.page_files import package_page, page_files, page_router
from tagmask.app.review_routes import image_router, redraw_router
from tagmask.app.review_session import ReviewSession
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.app.server import create_app
from tagmask.clip.load import Clip
from tagmask.runs.reader import Run

__all__ = ["review_app"]

_MAX_BODY: Final = 1 << 20
"""Bytes of a request."""
_MAX_MASK: Final = 1 << 30
"""Bytes of a mask, whose route has a limit for each image."""


def review_app(
    run: ReviewedRun,
    load: Callable[[Run], Clip],
    session: ReviewSession,
    *,
    memory: int,
    keep_features: bool = False,
    model_options: Sequence[str] = (),
    page: Traversable | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        run: the run; closed when the application ends.
        load: loads the run's weights.
        session: who may use it.
        memory: bytes of frozen features that are kept.
        keep_features: write features to the run too.
        model_options: of the commands that jobs run, to load the model as here.
        page: folder of the page's files; None: the package's.
    """
    live, jobs = Live(run, load, memory, keep_features=keep_features), Jobs()

    def stop() -> None:
        jobs.stop()
        live.stop()
        run.close()

    return create_app(
        [
            page_router(page_files(page or package_page()), "index.html"),
            image_router(run, live),
            redraw_router(run, live),
            job_router(run, jobs, model_options),
        ],
        session=session,
        max_body=_MAX_BODY,
        larger_bodies={("PUT", "/api/mask"): _MAX_MASK},
        start=live.start,
        stop=stop,
    )
