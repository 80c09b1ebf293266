"""Programs run with the tools' own libraries, in the environments of `make bridges`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

__all__ = ["BridgeError", "answer_of", "read_answer", "run_program"]

_ROOT = Path(__file__).parents[2]
_PROGRAMS = Path(__file__).parent / "programs"
_TIMEOUT = 600
_WITH_TAGMASK = (
    "import runpy, sys; sys.path += sys.argv.pop(1).split(';'); sys.argv.pop(0);"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""The tool's own packages come first; what they lack, such as torch, comes from tagmask's environment."""


class BridgeError(Exception):
    """A tool refused what it was given, or its environment is not there."""


def run_program(environment: str | None, program: str, *arguments: object, tagmask: bool = False) -> str:
    """Run one of `programs` and return what it prints.

    Args:
        environment: a folder of build/bridges; None for tagmask's own environment.
        program: its file name.
        *arguments: of the program.
        tagmask: whether it imports tagmask too.

    Raises:
        BridgeError: the environment is not there, or the program fails.
    """
    python = Path(sys.executable)
    if environment is not None:
        python = _ROOT / "build" / "bridges" / environment / "bin" / "python"
        if not python.exists():
            raise BridgeError(f"There is no environment {environment}. Run: make bridges")
    command = [str(python), str(_PROGRAMS / program), *map(str, arguments)]
    if tagmask:
        paths = [str(Path(path).absolute()) for path in sys.path if path]
        command[1:1] = ["-c", _WITH_TAGMASK, ";".join(paths)]
    with tempfile.TemporaryDirectory() as home:
        variables = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(_PROGRAMS), "HOME": home, "TMPDIR": home,
            "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TAGMASK_HOME": home,
            "FIFTYONE_DO_NOT_TRACK": "true", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        done = subprocess.run(
            command, env=variables, cwd=home, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    if done.returncode:
        raise BridgeError(f"{program} failed in {environment}:\n{done.stdout}{done.stderr}")
    return done.stdout


def read_answer(path: Path) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    """Return the library with its version, and the pixels of each word in each image."""
    with np.load(path) as file:
        described = json.loads(str(file["described"]))
        images = {
            name: {word: file[key] for word, key in words.items()}
            for name, words in described["images"].items()
        }
    return described["library"], images


def answer_of(
    environment: str | None, program: str, *arguments: object
) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
    """Run a program that ends with `Answer.write`, and read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.npz"
        run_program(environment, program, *arguments, out)
        return read_answer(out)
