"""What training a WeakCLIP costs, before it starts: parameters, operations, time and memory.

Parameters and operations are counted; time and memory come from a few steps on made-up crops. Nothing is
written. On a CPU, where a whole batch takes long, steps of 1 and of 2 crops are measured and extended to the
batch size on a straight line.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from tagmask.clip.packed import packed_flops
from tagmask.weak.config import TrainConfig
from tagmask.weak.model import ParameterCounts, WeakClip
from tagmask.weak.samples import Batch
from tagmask.weak.tasks import WeakClipTask
from tagmask.weak.training_step import compute_gradients, new_optimiser

__all__ = ["TrainingCost", "training_cost"]

_STEPS = 3
"""Measured steps of each batch size, after one that is not measured."""


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """The cost of a training run on this machine."""

    parameters: ParameterCounts
    """As the paper counts them."""
    updated: int
    """Parameters that the optimiser changes."""
    tower_flops: int
    """Floating-point operations of the image tower, for one crop: two for a multiplication and addition."""
    head_flops: int
    """Of everything after it, forward."""
    text_flops: int
    """Of the class texts, forward, which do not depend on the batch size."""
    step_flops: int | None
    """Of a whole step, forward and backward; None if there is nothing to train."""
    crop: int
    """Side of a crop, in pixels."""
    batch: int
    steps: int
    measured: tuple[int, ...]
    """Batch sizes of the measured steps."""
    step_seconds: float | None
    """Of a whole step, without reading images; None if there is nothing to train."""
    crop_seconds: float
    """Of one crop's forward pass in evaluation mode, with the class texts encoded before."""
    memory: int | None
    """Peak of the process, or of the GPU's allocated memory, in bytes; None where it cannot be measured."""
    device: str


@dataclass(frozen=True)
class _Measured:
    batch: int
    seconds: float
    memory: int | None
    flops: int


def training_cost(model: WeakClip, config: TrainConfig) -> TrainingCost:
    """Count and measure.

    Args:
        model: as it is trained, on its device; its weights change.
        config: of the run, for one process.
    """
    device = model.contexts.device
    task = WeakClipTask(model, config)
    groups = [group for group in task.groups() if group.parameters]
    sizes: Sequence[int] = (config.data.batch,) if device.type == "cuda" else (1, 2)[: config.data.batch]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(config.run.seed)
        forward = _forward_flops(model, config)
        steps = [_measure_steps(task, config, size) for size in sizes] if groups else []
        crop_seconds = _crop_seconds(model, config)
    memory = [step.memory for step in steps if step.memory is not None]
    return TrainingCost(
        parameters=model.counts(),
        updated=sum(parameter.numel() for group in groups for parameter in group.parameters),
        tower_flops=forward[0],
        head_flops=forward[1],
        text_flops=forward[2],
        step_flops=round(_extended(sizes, [step.flops for step in steps], config)) if steps else None,
        crop=config.augment.crop,
        batch=config.data.batch,
        steps=config.schedule.steps if groups else 0,
        measured=tuple(sizes),
        step_seconds=_extended(sizes, [step.seconds for step in steps], config) if steps else None,
        crop_seconds=crop_seconds,
        memory=round(_extended(sizes, memory, config)) if memory else None,
        device=str(device),
    )


def _extended(sizes: Sequence[int], values: Sequence[int | float], config: TrainConfig) -> float:
    """The value at the batch size, on the line through the measured ones; never below the last."""
    if len(sizes) == 1:
        return float(values[0])
    slope = (values[1] - values[0]) / (sizes[1] - sizes[0])
    return float(max(values[0] + slope * (config.data.batch - sizes[0]), values[-1]))


def _forward_flops(model: WeakClip, config: TrainConfig) -> tuple[int, int, int]:
    """Operations of tower, head and texts."""
    model.eval()
    pixels = _batch(model, config, 1).pixels
    with torch.no_grad():
        with _counter() as tower:
            trunk = model.features(pixels)
        with _counter() as texts:
            vectors = model.encode_texts()
        with _counter() as head:
            model.head(trunk, vectors)
    return tower.get_total_flops(), head.get_total_flops(), texts.get_total_flops()


def _measure_steps(task: WeakClipTask, config: TrainConfig, size: int) -> _Measured:
    groups = task.groups()
    parameters = [parameter for group in groups for parameter in group.parameters]
    optimiser = new_optimiser(groups, config.optimiser)
    batch = _batch(task.model, config, size)
    device = batch.pixels.device
    task.model.train()
    _reset_peak(device)
    with _counter() as counter:  # slows the step down: it is not measured
        compute_gradients(task.losses, task.model, parameters, batch, config)
        optimiser.step()
    seconds = []
    for _ in range(_STEPS):
        began = _now(device)
        compute_gradients(task.losses, task.model, parameters, batch, config)
        optimiser.step()
        seconds.append(_now(device) - began)
    return _Measured(size, median(seconds), _peak(device), counter.get_total_flops())


def _crop_seconds(model: WeakClip, config: TrainConfig) -> float:
    model.eval()
    pixels = _batch(model, config, 1).pixels
    seconds = []
    with torch.inference_mode():
        texts = model.encode_texts()
        for _ in range(1 + _STEPS):
            began = _now(pixels.device)
            model.head(model.features(pixels), texts)
            seconds.append(_now(pixels.device) - began)
    return median(seconds[1:])


def _batch(model: WeakClip, config: TrainConfig, size: int) -> Batch:
    """Made-up crops: smooth noise, and labels in blocks."""
    side = config.augment.crop
    pixels = functional.interpolate(torch.randn(size, 3, 8, 8), size=(side, side), mode="bilinear")
    blocks = torch.randint(len(model.words), (size, 1, 4, 4)).float()
    labels = functional.interpolate(blocks, size=(side, side), mode="nearest")[:, 0].long()
    return Batch(("made-up",) * size, pixels, labels).to(model.contexts.device)


def _attention_flops(query: object, key: object, value: object, *_: object, **__: object) -> int:
    count: int = sdpa_flop_count(query, key, value)
    return count


def _counter() -> FlopCounterMode:
    # Torch counts fused attention on GPUs only.
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={on_cpu: _attention_flops, **packed_flops()})


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak(device: torch.device) -> int | None:
    """Peak memory since `_reset_peak`: the GPU's, or that of the process where the system reports it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
