"""Training checkpoints: written atomically, and read without running code in them.

Frozen weights are left out: a frozen CLIP is loaded from its own file again.
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
    "frozen_hash",
    "load_weights",
    "read_training_state",
    "trainable_weights",
    "write_training_state",
]


@dataclass(frozen=True, eq=False)
class TrainingState:
    """State that a run resumes from.

    It has no state of random number generators: each step seeds them from the seed, the step and the rank.
    """

    step: int
    """Steps done."""
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Weights that training changes: trainable parameters and all buffers."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def frozen_hash(model: nn.Module) -> str:
    """Hash of the frozen parameters, to check that a run resumes with the same ones."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def write_training_state(path: Path, step: int, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write a checkpoint that replaces the last one.

    Raises:
        OutputError: it cannot be written; the last one is kept.
    """
    buffer = io.BytesIO()
    torch.save({"step": step, "model": trainable_weights(model), "optimiser": optimiser.state_dict()}, buffer)
    with atomic_open(path) as file:
        file.write(buffer.getbuffer())


def read_training_state(path: Path) -> TrainingState | None:
    """Read a checkpoint to the CPU; None if the file does not exist.

    Raises:
        WeightsError: the file is damaged or not a checkpoint.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return TrainingState(int(state["step"]), state["model"], state["optimiser"])
    except Exception as error:  # damage shows as errors of any kind
        raise WeightsError(
            f"{path} cannot be read as a checkpoint: {error}. Remove its folder to start over."
        ) from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load the trainable weights of a model; names and shapes must match exactly.

    Raises:
        WeightsError: names or shapes differ.
    """
    expected = trainable_weights(model)
    wrong = sorted(expected.keys() ^ weights.keys()) or [
        name for name in expected if expected[name].shape != weights[name].shape
    ]
    if wrong:
        raise WeightsError(
            f"{path} has another model's weights: {len(wrong)} differ, such as {wrong[0]}. "
            "Give the settings that it was trained with."
        )
    model.load_state_dict(weights, strict=False)
