"""What one training step computes: losses, gradients, the optimiser."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import torch
from torch import Tensor, nn

from tagmask.weak.config import OptimiserSettings, TrainConfig
from tagmask.weak.samples import Batch
from tagmask.weak.students.kind import ParameterGroup

__all__ = ["compute_gradients", "new_optimiser", "step_seed"]


def compute_gradients(
    losses: Callable[[Batch], Mapping[str, Tensor]],
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    config: TrainConfig,
) -> tuple[Mapping[str, Tensor], Tensor]:
    """Compute the losses of a batch and the gradients of their total, clipped if the settings say so.

    Args:
        losses: loss terms by name, with "total".
        model: of the losses; all its gradients are reset first.
        parameters: the trained ones.
        batch: on the model's device.
        config: precision and clipping.

    Returns:
        The losses, and the gradients' norm before clipping.
    """
    model.zero_grad(set_to_none=True)  # also of parameters that are in no group
    mixed = config.run.precision == "bfloat16"
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=mixed):
        values = losses(batch)
    values["total"].backward()
    return values, nn.utils.clip_grad_norm_(parameters, config.optimiser.clip or inf)


def new_optimiser(groups: Sequence[ParameterGroup], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Build the optimiser of the groups; the caller sets their learning rates in each step."""
    param_groups = [
        {"params": list(group.parameters), "weight_decay": settings.weight_decay if group.decays else 0.0}
        for group in groups
    ]
    if settings.kind == "sgd":
        return torch.optim.SGD(param_groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(param_groups, lr=settings.lr, betas=settings.betas)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step of one process, mixed so that any two seeds differ in many bits."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 1009 + rank)
    return int(torch.randint(2**62, (), generator=generator))
