"""The files of the pages: a fixed list, read from the package."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

__all__ = ["package_page", "page_files", "page_router"]

_TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webp": "image/webp",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
}


def package_page() -> Traversable:
    """The folder of the pages in the package."""
    return files("tagmask.app") / "page"


def page_files(folder: Traversable) -> dict[str, Traversable]:
    """Return the files that are served, by their path below a folder; none of other types."""
    return {name: file for name, file in _walk(folder, "") if name.rpartition(".")[2] in _TYPES}


def _content_type(name: str) -> str:
    """The type of a file that is served."""
    return _TYPES[name.rpartition(".")[2]]


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry


def page_router(page: Mapping[str, Traversable], index: str) -> APIRouter:
    """Return the routes of the pages' own files.

    Args:
        page: the files, by name.
        index: the one that `/` answers with.
    """
    router = APIRouter(include_in_schema=False)

    def answer(name: str) -> Response:
        if name not in page:
            raise HTTPException(404, "There is no such file.")
        return Response(
            page[name].read_bytes(), media_type=_content_type(name), headers={"Cache-Control": "no-cache"}
        )

    @router.get("/")
    def first() -> Response:
        return answer(index)

    @router.get("/page/{name:path}")
    def file(name: str) -> Response:
        return answer(name)

    return router
