"""Checkpoints to go on from: whole or not there, and read without running what is in them.

Weights that are not trained are left out: a frozen CLIP is read again from its own file.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tagmask.errors import WeightsError
from tagmask.files import atomic_open

__all__ = [
    "TrainingState",
    "fill",
    "frozen_hash",
    "read_training_state",
    "trainable_weights",
    "write_training_state",
]


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that a run needs to go on as if it had never stopped.

    No state of random numbers is among it: what a step draws follows from the seed, the step and the rank.
    """

    step: int
    """Steps done."""
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that take gradients, and all buffers."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def frozen_hash(model: nn.Module) -> str:
    """Hash of the parameters that are not trained, to see that a run goes on with the same ones."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def write_training_state(path: Path, step: int, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write a checkpoint, in place of the last one.

    Raises:
        OutputError: it cannot be written; the last one is untouched.
    """
    buffer = io.BytesIO()
    torch.save({"step": step, "model": trainable_weights(model), "optimiser": optimiser.state_dict()}, buffer)
    with atomic_open(path) as file:
        file.write(buffer.getbuffer())


def read_training_state(path: Path) -> TrainingState | None:
    """Read a checkpoint onto the CPU; None where there is none.

    Raises:
        WeightsError: it is damaged, or no checkpoint.
    """
    if not path.exists():
        return None
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        return TrainingState(int(held["step"]), held["model"], held["optimiser"])
    except Exception as error:  # damage shows as errors of any kind
        raise WeightsError(
            f"{path} cannot be read as a checkpoint: {error}; remove its folder to begin anew"
        ) from error


def fill(model: nn.Module, held: Mapping[str, Tensor], path: Path) -> None:
    """Put weights in place; all that is trained must be there, and nothing else.

    Raises:
        WeightsError: names or shapes differ.
    """
    wanted = trainable_weights(model)
    wrong = sorted(wanted.keys() ^ held.keys()) or [
        name for name in wanted if wanted[name].shape != held[name].shape
    ]
    if wrong:
        raise WeightsError(
            f"{path} holds another model's weights: {len(wrong)} differ, such as {wrong[0]}; "
            "give the settings that it was trained with"
        )
    model.load_state_dict(held, strict=False)
