"""Plugins: Python code of the user's that registers methods and data sets.

A plugin is a module that calls `tagmask.register_method` or `tagmask.register_dataset` on import. It is

* a file that the command line is given: `tagmask --plugin FILE.py ...`, or
* part of an installed package, which names it in the entry point group `tagmask.plugins`.

Installed plugins are imported only when a name is not built in, or when all names are listed.
"""

import importlib.util
import logging
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from tagmask.errors import InputError, TagmaskError

__all__ = ["GROUP", "load_installed", "run_files"]

GROUP = "tagmask.plugins"
"""The entry point group of installed plugins; each entry names a module."""

_LOG = logging.getLogger(__name__)


def run_files(files: Sequence[Path]) -> None:
    """Run each plugin file once, as `python FILE` would.

    Raises:
        InputError: a file is missing, is not Python, or fails.
    """
    for number, file in enumerate(files):
        path = file.expanduser()
        if path.suffix != ".py" or not path.is_file():
            raise InputError(f"--plugin {file} is not a Python file. Give the path of an existing .py file.")
        spec = importlib.util.spec_from_file_location(f"tagmask_plugin_{number}", path)
        assert spec is not None  # guaranteed by the suffix .py
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # dataclasses and pickle search for a class's module there
        try:
            spec.loader.exec_module(module)
        except TagmaskError:
            raise
        except Exception as error:
            raise InputError(f"--plugin {file} failed: {type(error).__name__}: {error}") from error


@cache
def load_installed() -> None:
    """Import the plugins of installed packages, once. One that fails is named in a warning and left out."""
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            _LOG.warning(
                "The plugin %s (%s) failed: %s: %s", point.name, point.value, type(error).__name__, error
            )
