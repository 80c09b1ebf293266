"""Run the user's Python files, which register custom methods, before a command."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tagmask.errors import InputError, TagmaskError

__all__ = ["run_plugins"]


def run_plugins(files: Sequence[Path]) -> None:
    """Run each file once, as `python FILE` would.

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
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except TagmaskError:
            raise
        except Exception as error:
            raise InputError(f"--plugin {file} failed: {type(error).__name__}: {error}") from error
