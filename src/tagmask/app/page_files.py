"""The pages' files: HTML, style and scripts, which come with the package."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

__all__ = ["page_router"]

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def page_router(index: str | None) -> APIRouter:
    """Return the routes of the pages' files.

    Args:
        index: the file that `/` answers with; None for none.
    """
    router = APIRouter(include_in_schema=False)
    contents = {
        each.name: (each.read_bytes(), _TYPES[each.name.rpartition(".")[2]])
        for each in (files("tagmask.app") / "page").iterdir()
        if each.name.rpartition(".")[2] in _TYPES
    }

    def answer(name: str) -> Response:
        if name not in contents:
            return Response(status_code=404)
        content, kind = contents[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    @router.get("/page/{name}")
    async def page(name: str) -> Response:
        return answer(name)

    if index is not None:

        @router.get("/")
        async def first() -> Response:
            return answer(index)

    return router
