"""The routes that Label Studio asks of an ML backend.

Source:
    label-studio-ml-backend, label_studio_ml/api.py, and the requests of Label Studio 1.23.2.
"""

import logging
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from tagmask.app.label_config import parse_label_config
from tagmask.app.label_studio_backend import LabelStudioBackend
from tagmask.app.request_queue import BusyError, busy_answer

__all__ = ["label_studio_router"]

_LOG = logging.getLogger(__name__)
_MAX_TASKS = 10_000
_RETRY_SECONDS = 30


class Setup(BaseModel):
    """What Label Studio sends when it connects; other fields are ignored."""

    schema_: str = Field("", alias="schema")
    """The labeling configuration."""


class PredictRequest(BaseModel):
    """Tasks to predict; other fields are ignored."""

    tasks: list[dict[str, Any]] = Field(max_length=_MAX_TASKS)
    label_config: str


def label_studio_router(backend: LabelStudioBackend) -> APIRouter:
    """Return the routes of a backend."""
    router = APIRouter()

    # These are coroutines: they must answer while all threads are busy, within a second.
    @router.get("/")
    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "tagmask"}

    @router.post("/setup")
    async def setup(body: Setup) -> dict[str, str]:
        config = parse_label_config(body.schema_)
        if config.unused:  # a new project's configuration is empty, and may be filled later
            config.check_usable()
        _LOG.info("Label Studio is connected.")
        return {"model_version": backend.version}

    @router.post("/predict")
    def predict(body: PredictRequest) -> Response:
        config = parse_label_config(body.label_config)
        config.check_usable()
        try:
            return JSONResponse({"results": backend.predict(body.tasks, config)})
        except BusyError:
            return busy_answer(_RETRY_SECONDS)

    @router.post("/webhook", status_code=201)
    async def webhook(request: Request) -> dict[str, str]:
        await request.body()
        return {}

    @router.get("/metrics")
    async def metrics() -> dict[str, str]:
        return {}

    return router
