"""Python files of the user's own, which register methods before a command runs."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tagmask.errors import InputError, TagmaskError

__all__ = ["run_plugins"]


def run_plugins(files: Sequence[Path]) -> None:
    """Run each file once, as `python FILE` would.

    Raises:
        InputError: a file that is not there, is no Python, or fails.
    """
    for number, file in enumerate(files):
        path = file.expanduser()
        if path.suffix != ".py" or not path.is_file():
            raise InputError(f"--plugin {file} is no Python file. Give the path of a .py file.")
        spec = importlib.util.spec_from_file_location(f"tagmask_plugin_{number}", path)
        assert spec is not None  # the ending says that it is Python
        assert spec.loader is not None
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except TagmaskError:
            raise
        except Exception as error:
            raise InputError(f"--plugin {file} failed: {type(error).__name__}: {error}") from error
