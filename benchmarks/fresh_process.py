"""Calls in a fresh process, so that peaks of memory do not mix, with a limit of time."""

import multiprocessing
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_fresh_process"]

_Result = TypeVar("_Result")


def in_fresh_process(work: Callable[..., _Result], *args: object, limit: float) -> _Result | None:
    """Call a function of a module in a process of its own.

    Args:
        work: the function.
        args: its arguments.
        limit: seconds after which the process is ended.

    Returns:
        The result; None if the limit was reached, or if the system ended the process.
    """
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        try:
            return pool.apply_async(work, args).get(limit)
        except multiprocessing.TimeoutError:
            return None
