"""The routes of `tagmask serve`: tags and masks of one photo, health and metrics.

Source:
    Prometheus's text exposition format 0.0.4; OpenAPI 3.1, as FastAPI writes it from these types.
"""

import base64
import logging
import time
from collections.abc import Callable
from typing import Annotated, Final, Literal

from fastapi import APIRouter, File, Form, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from tagmask import __version__
from tagmask.app.described import described_classes, pixels_of
from tagmask.app.mask_images import mask_png
from tagmask.app.metrics import CONTENT_TYPE, RequestMetrics
from tagmask.app.photo_service import PhotoService, TooLargeError
from tagmask.app.request_queue import BusyError, busy_answer
from tagmask.errors import ImageError, InputError, TagmaskError
from tagmask.masks import overlay_colours
from tagmask.regions.coco import needs_pycocotools, run_lengths
from tagmask.results import Segmentation, ignore_index_for

__all__ = ["photo_router"]

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 5
_ERRORS: Final[dict[int | str, dict[str, object]]] = {
    400: {"description": "The words cannot be used."},
    413: {"description": "The body or the image is too large."},
    415: {"description": "The file is no image, or it is damaged."},
    503: {"description": "Too many requests wait; `Retry-After` says when to try again."},
}
Photo = Annotated[bytes, File(description="A JPEG, PNG, WebP, TIFF or any other common image.")]
Words = Annotated[
    list[str],
    Form(description="Words to find; repeat the field for each word. `dog, puppy` is one with two names."),
]


class Tag(BaseModel):
    """A word that is in the image."""

    word: str
    score: float = Field(description="Compare within one image only.")


class TagAnswer(BaseModel):
    """The words that are in the image, best first, and the scores of all."""

    tags: list[Tag]
    scores: dict[str, float]
    threshold: float = Field(description="The score that a tag must exceed.")
    seconds: float


class FoundClass(BaseModel):
    """A class that has pixels."""

    label: int
    word: str
    share: float = Field(description="Of the image's pixels, 0..1.")
    confidence: float | None = Field(description="Mean winning score of its pixels, 0..1.")
    rle: dict[str, object] | None = Field(None, description="COCO's compressed run lengths, on request.")


class MaskAnswer(BaseModel):
    """The mask of an image."""

    words: list[str] = Field(description="The name of each label.")
    background: bool = Field(description="Whether label 0 is the background.")
    colors: list[tuple[int, int, int]] = Field(description="A colour for each label.")
    width: int
    height: int
    classes: list[FoundClass]
    mask: str | None = Field(
        description="A PNG in base64: label = red + 256 green; pixels of no class are white."
    )
    seconds: float


def photo_router(service: PhotoService) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter()
    metrics = RequestMetrics(lambda: service.queue.waiting)

    def answer(route: str, compute: Callable[[], BaseModel]) -> Response:
        begun = time.monotonic()
        response = _answered(compute)
        metrics.add(route, response.status_code, time.monotonic() - begun)
        return response

    @router.post(
        "/v1/tag", response_model=TagAnswer, responses=_ERRORS, summary="Which words are in an image"
    )
    def tag(image: Photo, words: Words) -> Response:
        def compute() -> TagAnswer:
            begun = time.monotonic()
            tags = service.tag(image, _split(words))
            scores = {word: float(score) for word, score in zip(tags.words, tags.scores, strict=True)}
            found = [Tag(word=word, score=scores[word]) for word in tags.names]
            return TagAnswer(
                tags=found, scores=scores, threshold=tags.threshold, seconds=time.monotonic() - begun
            )

        return answer("/v1/tag", compute)

    @router.post("/v1/mask", response_model=MaskAnswer, responses=_ERRORS, summary="Where the words are")
    def mask(
        image: Photo,
        words: Words,
        encoding: Annotated[
            Literal["png", "rle"],
            Form(description="png: one label map; rle: run lengths of each class, as COCO has them."),
        ] = "png",
    ) -> Response:
        def compute() -> MaskAnswer:
            if encoding == "rle":
                needs_pycocotools()
            begun = time.monotonic()
            segmentation = service.mask(image, _split(words))
            return _mask_answer(segmentation, encoding, begun)

        return answer("/v1/mask", compute)

    # Coroutines: they answer while all threads compute.
    @router.get("/health", summary="Whether the server answers")
    async def health() -> dict[str, str]:
        return {"status": "UP", "version": __version__}

    @router.get("/metrics", response_class=PlainTextResponse, summary="Counts, for Prometheus")
    async def metrics_text() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return router


def _split(words: list[str]) -> list[str]:
    """A field may hold several words, with semicolons between them: `cat; dog, puppy` are two classes."""
    return [word for field in words for word in map(str.strip, field.split(";")) if word]


def _answered(compute: Callable[[], BaseModel]) -> Response:
    try:
        return Response(compute().model_dump_json(), media_type="application/json")
    except BusyError:
        return busy_answer(_RETRY_SECONDS)
    except TooLargeError as error:
        return JSONResponse({"detail": str(error)}, status_code=413)
    except ImageError as error:
        return JSONResponse({"detail": str(error)}, status_code=415)
    except InputError as error:
        return JSONResponse({"detail": str(error)}, status_code=400)
    except TagmaskError as error:
        _LOG.error("a request failed", exc_info=error)
        return JSONResponse({"detail": str(error)}, status_code=503)


def _mask_answer(segmentation: Segmentation, encoding: str, begun: float) -> MaskAnswer:
    labels, words = segmentation.labels, segmentation.words
    pixels, size = pixels_of(labels, words), (labels.shape[0], labels.shape[1])
    described = described_classes(words, pixels, labels.size, segmentation.class_confidence)
    rles: dict[str, dict[str, object]] = {}
    mask = None
    if encoding == "rle":
        rles = {words[each.label]: run_lengths(each, size) for each in segmentation.regions("class")}
    else:
        mask = base64.b64encode(mask_png(labels, ignore_index_for(len(words)))).decode("ascii")
    return MaskAnswer(
        words=list(words),
        background=segmentation.background,
        colors=[tuple(colour) for colour in overlay_colours(len(words)).tolist()],
        width=size[1],
        height=size[0],
        classes=[FoundClass(**each, rle=rles.get(each["word"])) for each in described],
        mask=mask,
        seconds=time.monotonic() - begun,
    )
