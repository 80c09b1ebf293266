"""The web server of `tagmask serve`.

    request -> guards (address, password, size) -> a router -> worker threads

`server` makes one application of any routers; `label_studio` is the first of them.
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
