"""The training loop of the miniature CLIP: one schedule, one checkpoint, one part of a batch per core."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tagmask.errors import InputError
from tagmask.files import atomic_open
from tagmask.miniature.training.towers import Towers

__all__ = ["Gradients", "Progress", "Schedule", "Terms", "advance", "begin", "train_until_done"]

logger = logging.getLogger("tagmask")

Terms = dict[str, float]
"""The value of each loss term, and of the accuracy, in one part of a step."""
Gradients = Callable[[int, float, int], tuple[Terms, list[Tensor | None]]]
"""Computes the terms and the gradient of every parameter from the step, the fraction of the stage that is
done, and the part of the batch."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings that both stages have."""

    minutes: float
    """CPU time of training, summed over cores, without drawing the images."""
    learning_rate: float
    """Its peak; it falls to 0 as a cosine."""
    warmup: int = 150
    """Steps in which the learning rate rises from 0."""
    text_share: float = 0.2
    """Factor of the text tower's learning rate."""
    weight_decay: float = 0.05
    parts: int = 2
    """Parts of a batch, computed in parallel; each is contrasted only within itself."""
    averaging: float = 0.998
    """Decay of the running mean of the weights, per step."""
    checkpoint_minutes: float = 5.0
    seed: int = 0


@dataclass(eq=False)
class Progress:
    """State of a stage, from which it can be resumed."""

    model: Towers
    optimizer: torch.optim.AdamW
    averaged: dict[str, Tensor]
    """Running mean of the weights; these are the stage's result."""
    step: int = 0
    seconds: float = 0.0
    """CPU time of training, over all restarts."""

    def save(self, path: Path, settings: Schedule) -> None:
        """Write a checkpoint; it replaces an earlier one atomically."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "step": self.step,
            "seconds": self.seconds,
            "settings": dataclasses.asdict(settings),
        }
        with atomic_open(path) as stream:
            torch.save(state, stream)

    def restore(self, path: Path, settings: Schedule) -> None:
        """Resume from a checkpoint.

        Raises:
            InputError: the checkpoint has other settings.
        """
        saved = torch.load(path, weights_only=True)
        if saved["settings"] != dataclasses.asdict(settings):
            raise InputError(
                f"{path} belongs to a run with {saved['settings']}. Give the same settings or another folder."
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averaged, self.step, self.seconds = saved["averaged"], saved["step"], saved["seconds"]

    def done(self, settings: Schedule) -> float:
        """Return the fraction of the stage's time that has passed, 0..1."""
        return min(self.seconds / (settings.minutes * 60), 1.0)


def begin(model: Towers, settings: Schedule) -> Progress:
    """Create a stage before its first step."""
    text = {id(p) for p in model.text.parameters()}
    groups = [
        {
            "params": [
                p for p in model.parameters() if (id(p) in text) == is_text and (p.ndim > 1) == matrix
            ],
            "weight_decay": settings.weight_decay * matrix,
            "share": settings.text_share if is_text else 1.0,
        }
        for is_text in (False, True)
        for matrix in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    return Progress(model, optimizer, {k: v.detach().clone() for k, v in model.state_dict().items()})


def train_until_done(run: Progress, checkpoint: Path, settings: Schedule, gradients: Gradients) -> None:
    """Train for `settings.minutes` of CPU time, with a checkpoint every few minutes and at the end."""
    saved_at = time.monotonic()
    sums: Terms = {}
    while run.seconds < settings.minutes * 60:
        began = time.process_time()
        terms = advance(run, settings, gradients)
        run.seconds += time.process_time() - began
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value / _LOG_STEPS
        if run.step % _LOG_STEPS == 0:
            values = ", ".join(f"{name} {value:.3f}" for name, value in sums.items())
            logger.info("Step %d, %.1f minutes: %s", run.step, run.seconds / 60, values)
            sums = {}
        if time.monotonic() - saved_at > settings.checkpoint_minutes * 60:
            saved_at = time.monotonic()
            run.save(checkpoint, settings)
    run.save(checkpoint, settings)


def advance(run: Progress, settings: Schedule, gradients: Gradients) -> Terms:
    """Run one training step; returns the value of each term."""
    done = run.done(settings)
    warm = min(1.0, (run.step + 1) / settings.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = group["share"] * (
            settings.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        )

    def compute(part: int) -> tuple[Terms, list[Tensor | None]]:
        torch.set_num_threads(1)  # per thread: parallelism comes from the parts
        return gradients(run.step, done, part)

    # Threads suffice, since torch releases the GIL. One part per core is faster than two cores that share
    # every small matrix product.
    with ThreadPoolExecutor(settings.parts) as pool:
        results = list(pool.map(compute, range(settings.parts)))
    for p, *grads in zip(run.model.parameters(), *(grads for _, grads in results), strict=True):
        present = [g for g in grads if g is not None]
        p.grad = torch.stack(present).sum(dim=0).div_(settings.parts) if present else None
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    share = 1 - min(settings.averaging, run.step / (10 + run.step))
    with torch.no_grad():
        for name, now in run.model.state_dict().items():
            run.averaged[name].lerp_(now, share)
    first = results[0][0]
    return {name: sum(terms[name] for terms, _ in results) / settings.parts for name in first}


_LOG_STEPS = 50
