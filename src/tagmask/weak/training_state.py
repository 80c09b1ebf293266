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

from tagmask.clip.finite import check_finite
from tagmask.clip.torch_save import read_saved
from tagmask.errors import WeightsError
from tagmask.files import atomic_open
from tagmask.printable import shortened
from tagmask.weak.fitting import misfits

__all__ = [
    "TrainingState",
    "frozen_hash",
    "load_optimiser",
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
        state: Any = read_saved(path)
        step, model, optimiser = int(state["step"]), dict(state["model"]), dict(state["optimiser"])
    except Exception as error:  # damage shows as errors of any kind
        reason = shortened(str(error), 200)
        raise WeightsError(
            f"{path} cannot be read as a checkpoint: {reason}. Remove its folder to start over."
        ) from error
    check_finite(_tensors(state), path)
    return TrainingState(step, model, optimiser)


def _tensors(saved: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Find the tensors of nested dicts, by dotted names; of a dict that is in several, once."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def search(values: Mapping[Any, Any], name: str) -> None:
        if id(values) in seen:
            return
        seen.add(id(values))
        for key, value in values.items():
            if isinstance(value, Tensor):
                found[f"{name}{key}"] = value
            elif isinstance(value, dict):
                search(value, f"{name}{key}.")

    search(saved, "")
    return found


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load the trainable weights of a model; names and shapes must match exactly.

    Raises:
        WeightsError: names, shapes or kinds of tensors differ, or a value is NaN or infinite.
    """
    plain = {
        name: value
        for name, value in weights.items()
        if isinstance(value, Tensor) and value.layout == torch.strided
    }
    problems = misfits(trainable_weights(model), plain)
    if problems or len(plain) < len(weights):
        raise WeightsError(
            f"{path} has another model's weights: {problems or 'not all are plain tensors'}. "
            "Give the settings that it was trained with."
        )
    check_finite(plain, path)
    model.load_state_dict(plain, strict=False)


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any], path: Path) -> None:
    """Load the state of an optimiser; it must be that of the same parameters.

    Raises:
        WeightsError: it is not, or a value is NaN or infinite.
    """
    before = [group.keys() for group in optimiser.param_groups]
    try:
        optimiser.load_state_dict(dict(state))
        fits = before == [group.keys() for group in optimiser.param_groups] and all(
            value.ndim == 0 or value.shape == parameter.shape
            for parameter, values in optimiser.state.items()
            for value in values.values()
            if isinstance(value, Tensor)
        )
    except Exception as error:  # torch checks little, so damage shows as errors of any kind
        raise WeightsError(
            f"{path} has no optimiser's state ({shortened(str(error), 200)}). "
            "Remove its folder to start over."
        ) from error
    if not fits:
        raise WeightsError(f"{path} has another optimiser's state. Give the settings that it was made with.")
    for values in optimiser.state.values():
        check_finite({f"optimiser.{name}": v for name, v in values.items() if isinstance(v, Tensor)}, path)
