"""The routes of the review page: a run, its images, masks and photos."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from tagmask.app.gallery import GalleryFilter
from tagmask.app.live import Live, RedrawOptions
from tagmask.app.mask_images import body_limit, grey_png, mask_png, read_mask_png, regions_png
from tagmask.app.photos import Photos, photo_bytes, upright_photo
from tagmask.app.requests import LONGEST_TEXT, Texts
from tagmask.app.reviewed_run import ReviewedRun, Which
from tagmask.app.run_summary import summarise
from tagmask.regions.superpixels import superpixels

__all__ = ["image_router", "redraw_router"]

_PAGE_LIMIT: Final = 500

Key = Annotated[str, Query(max_length=4096)]


class Redraw(BaseModel):
    """A request for another mask; what is None stays as in the run."""

    key: str
    words: Texts | None = Field(None, min_length=1)
    background: Texts | None = None
    threshold: float | None = Field(None, ge=0, le=1)
    refine: Literal["none", "pamr", "tlp", "crf"] | None = None


class Review(BaseModel):
    """What a person decided about an image."""

    key: str
    review: Literal["accepted", "rejected"] | None


def image_router(run: ReviewedRun, live: Live) -> APIRouter:
    """Return the routes that read a run and record what a person decided."""
    router = APIRouter(prefix="/api")
    photos = Photos(run)

    @router.get("/run")
    def about() -> Response:
        return JSONResponse(summarise(run, live))

    @router.get("/images")
    def images(
        word: Annotated[str | None, Query(max_length=LONGEST_TEXT)] = None,
        status: str = "",
        review: str = "",
        search: Annotated[str, Query(max_length=LONGEST_TEXT)] = "",
        sort: Literal["confidence", "name"] = "confidence",
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=0, le=_PAGE_LIMIT)] = 60,
    ) -> Response:
        chosen = GalleryFilter(
            word=word or None,
            status=_among("status", status, ("todo", "done", "failed")),
            review=_among("review", review, ("accepted", "rejected", "corrected", "none")),
            search=search,
            sort=sort,
        )
        return JSONResponse(run.images(chosen, offset, limit))

    @router.get("/image")
    def image(key: Key) -> Response:
        return JSONResponse(run.detailed_image(run.row(key)))

    @router.get("/photo")
    def photo(key: Key) -> Response:
        data, kind = photo_bytes(run.row(key))
        return Response(data, media_type=kind)

    @router.get("/thumbnail")
    def thumbnail(
        key: Key, size: Annotated[int, Query(ge=16, le=1024)] = 256, v: str | None = None
    ) -> Response:
        cached = "private, max-age=31536000, immutable" if v else "no-store"
        drawn = photos.thumbnail(run.row(key), size)
        return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": cached})

    @router.get("/mask")
    def mask(key: Key, which: Which = "newest") -> Response:
        return _png(mask_png(run.mask(run.row(key), which), run.classes.ignore_index))

    @router.get("/superpixels")
    def regions(key: Key) -> Response:
        return _png(regions_png(superpixels(upright_photo(run.row(key)))))

    @router.put("/mask")
    async def correct(key: Key, request: Request) -> Response:
        row = await run_in_threadpool(run.row, key)
        if row.width is None or row.height is None:
            raise HTTPException(409, "This image has no mask yet, so there is nothing to correct.")
        size = (row.height, row.width)
        body = await _limited(request, body_limit(size))

        def keep() -> dict[str, object]:
            return run.correct(key, read_mask_png(body, size, run.classes))

        return JSONResponse(await run_in_threadpool(keep))

    @router.delete("/mask")
    def take_back(key: Key) -> Response:
        return JSONResponse(run.take_back(key))

    @router.post("/review")
    def review(body: Review) -> Response:
        return JSONResponse(run.review(body.key, body.review))

    return router


def redraw_router(run: ReviewedRun, live: Live) -> APIRouter:
    """Return the routes that need the model."""
    router = APIRouter(prefix="/api")

    @router.post("/redraw")
    def redraw(body: Redraw) -> Response:
        options = RedrawOptions(
            words=None if body.words is None else tuple(body.words),
            background=None if body.background is None else tuple(body.background),
            threshold=body.threshold,
            refine=body.refine,
        )
        return JSONResponse(live.redraw(run.row(body.key), options))

    @router.get("/doubt")
    def doubt(key: Key) -> Response:
        return _png(grey_png(live.doubt(run.row(key))))

    return router


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png")


def _among(name: str, text: str, known: tuple[str, ...]) -> frozenset[str]:
    chosen = frozenset(part for part in text.split(",") if part)
    if not chosen <= frozenset(known):
        raise HTTPException(422, f"Unknown {name}. Give some of {', '.join(known)}.")
    return chosen


async def _limited(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise HTTPException(413, "The mask has more bytes than a mask of this image can have.")
    return bytes(body)
