"""One loop for all that is trained here: steps, logs, checkpoints, and the way back after a stop.

    FOLDER/stage.json  log.csv  checkpoint.pt  pictures/  models/  model.safetensors

What a step draws at random follows from (seed, step, rank) alone, and its pictures from (seed, position).
So a run that was killed and taken up again gives the losses, and the model, of one that was not.
"""

import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Protocol, runtime_checkable

import PIL.Image
import torch
from torch import Tensor, nn

from tagmask.errors import OutputError, TagmaskError, TrainingError
from tagmask.files import write_bytes
from tagmask.weak.config import OptimiserSettings, TrainConfig
from tagmask.weak.distributed import Ranks, averaged, in_step, joined, wait_for_all
from tagmask.weak.run_folder import open_run_folder
from tagmask.weak.samples import Batch, CropSource, batches
from tagmask.weak.schedules import learning_rate
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.train_log import TrainLog
from tagmask.weak.training_state import fill, frozen_hash, read_training_state, write_training_state

__all__ = ["MODEL_FILE", "Report", "Task", "fit"]

MODEL_FILE = "model.safetensors"
"""What a finished run leaves in its folder."""

_CHECKPOINT = "checkpoint.pt"

_LOG = logging.getLogger(__name__)


@runtime_checkable
class Task(Protocol):
    """What is trained, and how a batch tells it so."""

    @property
    def model(self) -> nn.Module:
        """All of it, on its device."""
        ...

    def groups(self) -> list[ParameterGroup]:
        """What is trained, each parameter once."""
        ...

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named terms, each a number, and "total", which is minimised: means over the batch's pictures."""
        ...

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Something to look at; None for nothing. Leaves the model as it was."""
        ...

    def save(self, path: Path) -> None:
        """Write the model for those who use it, whole or not at all."""
        ...


@dataclass(frozen=True)
class Report:
    """How a run stands."""

    step: int
    """Steps done."""
    steps: int
    losses: Mapping[str, float]
    """Of the last step, "total" among them."""
    lr: float
    """Of the first group."""
    images_per_s: float
    """Since the last report."""
    seconds_left: float


def fit(
    task: Task,
    samples: CropSource,
    config: TrainConfig,
    folder: Path,
    *,
    inputs: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    watch: Callable[[Report], None] | None = None,
) -> Path:
    """Train, or go on training, and leave the model in the folder.

    Under `torchrun` every process calls this; the first one writes. A run may go on with another number of
    processes: its batches stay the same, what dropout draws does not.

    Args:
        task: the model on its device, and its losses.
        samples: training crops.
        config: how; what decides the outcome must be the same when a run is taken up again.
        folder: where to.
        inputs: what else decides the outcome, for JSON: a hash of the seeds, say; it must stay the same too.
        metadata: kept in the folder for those who use the model.
        watch: called now and then, in the first process.

    Returns:
        The model's file, as the task saves it. Where the run was finished already, nothing is done. A task
        without parameters to train is saved as it is, after 0 steps, with a warning.

    Raises:
        TrainingError: a loss or a gradient is no number. The last checkpoint, before that, is kept.
        InputError: a folder begun with other settings, or in use; a batch that processes cannot share evenly.
        OutputError: the disk is full, or the folder is not to be written to. The last checkpoint is kept.
        TagmaskError: of a picture or a seed that cannot be read.
    """
    device = next(task.model.parameters()).device
    groups = [group for group in task.groups() if group.parameters]
    with joined(device) as ranks, _isolated_rng(device):
        fingerprint_fields = {
            **config.fingerprint_fields(),
            **(inputs or {}),
            "frozen": frozen_hash(task.model),
        }
        opened = open_run_folder(folder, config.model.kind, fingerprint_fields, metadata or {})
        with opened if ranks.first else nullcontext() as stage:
            wait_for_all(ranks)  # the first one has looked at the folder
            path = folder / MODEL_FILE
            if not path.exists():  # it is whole or not there: where it is, all steps were done
                if groups:
                    _Run(task, groups, samples, config, folder, ranks, device).all_steps(watch)
                elif ranks.first:
                    _LOG.warning("nothing to train: no weight of this model is trained; it is saved as it is")
                task.model.eval()
                if ranks.first:
                    task.save(path)
            if stage is not None and not stage.finished:
                stage.finish(steps=config.schedule.steps if groups else 0)
            wait_for_all(ranks)
    return path


@contextmanager
def _isolated_rng(device: torch.device) -> Iterator[None]:
    """Leave the caller's random numbers as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


class _Losses(nn.Module):
    """A task's losses as a module, so that gradients can be shared while they are made."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._task.losses(batch)


class _Run:
    """A run in one process."""

    def __init__(
        self,
        task: Task,
        groups: Sequence[ParameterGroup],
        samples: CropSource,
        config: TrainConfig,
        folder: Path,
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        self.task, self.samples, self.config, self.folder = task, samples, config, folder
        self.ranks, self.device = ranks, device
        self.share = ranks.share_of(config.data.batch)
        self.groups = groups
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.optimiser = _optimiser(groups, config.optimiser)
        if ranks.world > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(task.model)
        self.done = self._restore()
        idle = config.loss.seed == config.loss.crf == 0  # then nothing reaches WeakCLIP's decoder
        self.losses = in_step(_Losses(task), ranks, device, idle=idle)

    def _restore(self) -> int:
        path = self.folder / _CHECKPOINT
        checkpoint = read_training_state(path)
        if checkpoint is None:
            return 0
        fill(self.task.model, checkpoint.model, path)
        self.optimiser.load_state_dict(dict(checkpoint.optimiser))
        return checkpoint.step

    def all_steps(self, watch: Callable[[Report], None] | None) -> None:
        config, run = self.config, self.config.run
        log = TrainLog(self.folder, self.done, tensorboard=run.tensorboard) if self.ranks.first else None
        self.task.model.train()
        began, counted = time.monotonic(), self.done
        try:
            for each in self._batches():
                batch = each.to(self.device)
                values = self._step(batch)
                self.done += 1
                if log is None:
                    continue
                log.add(self.done, values)
                last = self.done == config.schedule.steps
                if last or self.done % run.log_every == 0:
                    log.flush()
                    now = time.monotonic()
                    if watch is not None:
                        watch(self._report(values, (self.done - counted) / max(now - began, 1e-9)))
                    began, counted = now, self.done
                self._keep(batch, log, last)
        except TagmaskError:
            if log is not None:
                with suppress(OutputError):  # what stopped the run is what is to be said
                    log.flush()
            raise

    def _batches(self) -> Iterator[Batch]:
        whole, own = self.config.data.batch, self.share
        starts = range(self.done * whole + self.ranks.rank * own, self.config.schedule.steps * whole, whole)
        return batches(
            self.samples,
            self.config.run.seed,
            [range(start, start + own) for start in starts],
            workers=min(self.config.data.workers, _processors() // self.ranks.world),
            pin=self.device.type == "cuda",
        )

    def _step(self, batch: Batch) -> dict[str, float]:
        """One step; returns what is logged of it."""
        settings = self.config
        torch.manual_seed(_step_seed(settings.run.seed, self.done, self.ranks.rank))
        rates = [
            learning_rate(settings.schedule, settings.optimiser.lr * group.factor, self.done)
            for group in self.groups
        ]
        for own, lr in zip(self.optimiser.param_groups, rates, strict=True):
            own["lr"] = lr
        self.task.model.zero_grad(set_to_none=True)  # of weights that no group has, too
        short = settings.run.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=short):
            losses = self.losses(batch)
        losses["total"].backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.optimiser.clip or inf)
        values = averaged({**losses, "gradient": norm}, self.ranks)
        if not all(map(isfinite, values.values())):
            raise self._gone_wrong(values, batch)
        self.optimiser.step()
        return {**values, "lr": rates[0]}

    def _gone_wrong(self, values: Mapping[str, float], batch: Batch) -> TrainingError:
        held = read_training_state(self.folder / _CHECKPOINT)
        kept = f"the checkpoint of step {held.step} is kept" if held else "there is no checkpoint yet"
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        return TrainingError(
            f"step {self.done + 1} of {self.folder} gave no number ({shown}), "
            f"on {', '.join(batch.names[:4])}; "
            f"{kept}. Train again in another folder with a lower optimiser.lr, or with optimiser.clip=1."
        )

    def _report(self, values: Mapping[str, float], steps_per_s: float) -> Report:
        steps = self.config.schedule.steps
        return Report(
            step=self.done,
            steps=steps,
            losses={name: value for name, value in values.items() if name not in ("lr", "gradient")},
            lr=values["lr"],
            images_per_s=steps_per_s * self.config.data.batch,
            seconds_left=(steps - self.done) / steps_per_s,
        )

    def _keep(self, batch: Batch, log: TrainLog, last: bool) -> None:
        """Checkpoints, sample pictures and models on the way, when they are due."""
        run, name = self.config.run, f"step-{self.done:06d}"
        if run.picture_every and self.done % run.picture_every == 0:
            picture = self.task.picture(batch)
            if picture is not None:
                buffer = io.BytesIO()
                picture.save(buffer, "JPEG", quality=90)
                write_bytes(self.folder / "pictures" / f"{name}.jpg", buffer.getvalue())
        if run.keep_every and self.done % run.keep_every == 0:
            path = self.folder / "models" / f"{name}.safetensors"
            self.task.save(path)
        # Last, so that what else was due is there, or will be done again.
        if last or self.done % run.checkpoint_every == 0:
            log.flush()  # before it, so that no row before a checkpoint is ever missing
            write_training_state(self.folder / _CHECKPOINT, self.done, self.task.model, self.optimiser)


def _processors() -> int:
    """Those that this process may use; workers beyond them only wait for each other."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step of one process: any two differ in many bits, as generators want it."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) * 1009 + rank)
    return int(torch.randint(2**62, (), generator=generator))


def _optimiser(groups: Sequence[ParameterGroup], settings: OptimiserSettings) -> torch.optim.Optimizer:
    held = [
        {"params": list(group.parameters), "weight_decay": settings.weight_decay if group.decays else 0.0}
        for group in groups
    ]
    if settings.kind == "sgd":
        return torch.optim.SGD(held, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(held, lr=settings.lr, betas=settings.betas)
