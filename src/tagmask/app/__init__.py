"""The web servers of `tagmask serve` and `tagmask review`.

    request -> guards (address, password or session, size) -> a router -> worker threads

`server` makes one application of any routers. For Label Studio, `label_studio` has the routes. For the review
page, `review_app` puts together a run (`reviewed_run`, `gallery`), its photos, redraws (`live`), jobs and the
files of the page.
"""

from importlib.util import find_spec

from tagmask.errors import InputError

__all__ = ["check_installed"]


def check_installed() -> None:
    """Check that the packages of the extra `app` are there.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(f"{missing[0]} is not installed. Run `pip install 'tagmask[app]'`.")
