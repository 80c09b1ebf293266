"""Folders of training runs: `run.json` and the lock of a run folder, without images.

`run.json` records beside the settings what readers of the model need, such as the class names, and whether
the run is finished.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from tagmask import __version__
from tagmask.errors import InputError
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity, read_identity
from tagmask.runs.ownership import is_run_folder

__all__ = ["open_training", "read_metadata", "refuse_old_folder"]

_OUTPUTS = ("log.csv", "checkpoint.pt", "model.safetensors", "student.onnx")


def open_training(
    folder: Path, kind: str, settings: Mapping[str, object], metadata: Mapping[str, object]
) -> RunFolder:
    """Begin a training run in a folder, or go on with it; close what is returned.

    Args:
        folder: created if it does not exist.
        kind: kind of run: "weakclip", a student's name, ...
        settings: all settings that affect the output.
        metadata: what readers of the folder need; recorded at the first start only.

    Raises:
        InputError: the folder has a run of another kind or other settings, files of another program, or
            another process uses it.
        OutputError: the folder is not writable.
    """
    refuse_old_folder(folder)
    if not is_run_folder(folder):
        for name in _OUTPUTS:
            if os.path.lexists(folder / name):
                raise InputError(
                    f"{folder / name} is in the way: it was not written by a training run of this folder, "
                    f"and is never overwritten. Choose another folder, or move {name} away."
                )
    recorded = {"tagmask": __version__, "finished": False, **metadata}
    return RunFolder.open(folder, RunIdentity(kind, settings, recorded), images=False)


def read_metadata(folder: Path, kind: str) -> Mapping[str, object]:
    """Read what a finished training run recorded.

    Raises:
        InputError: the folder has no run of this kind, or the run is not finished.
    """
    refuse_old_folder(folder)
    identity = read_identity(folder / "run.json") if is_run_folder(folder) else None
    if identity is None or identity.kind != kind:
        content = "no run" if identity is None else f"a run of kind {identity.kind}"
        raise InputError(f"{folder} contains {content}. Give the folder of a {kind} run.")
    if identity.metadata.get("finished") is not True:
        raise InputError(
            f"The run in {folder} is not finished. Run the command that started it again to resume."
        )
    return identity.metadata


def refuse_old_folder(folder: Path) -> None:
    """Refuse a folder of before there was `run.json`.

    Raises:
        InputError: it has a `stage.json`.
    """
    if (folder / "stage.json").exists():
        raise InputError(
            f"{folder} was written by an earlier version of tagmask: it has a stage.json and no run.json. "
            "Choose another folder, and run its step again."
        )
