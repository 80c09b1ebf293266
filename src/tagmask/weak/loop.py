"""The training loop of WeakCLIP and students: steps, logs, checkpoints, resuming.

    FOLDER/run.json  log.csv  checkpoint.pt  pictures/  models/  model.safetensors
           validation.csv  best.safetensors

The randomness of a step depends only on (seed, step, rank), and its images only on (seed, position). So a
run that was killed and resumed gives the same losses and the same model as an uninterrupted one.
"""

import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Protocol, runtime_checkable

import PIL.Image
import torch
from torch import Tensor, nn

from tagmask.errors import InputError, OutputError, TagmaskError, TrainingError
from tagmask.files import write_bytes
from tagmask.runs.folder import RunFolder
from tagmask.types import Image
from tagmask.weak.config import TrainConfig
from tagmask.weak.distributed import (
    Ranks,
    averaged,
    data_parallel,
    process_group,
    summed,
    wait_for_all,
)
from tagmask.weak.mask_folder import Mask
from tagmask.weak.samples import Batch, CropSource, batches
from tagmask.weak.schedules import learning_rate
from tagmask.weak.stop_signals import signals_held
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.train_log import TrainLog
from tagmask.weak.training_folder import open_training
from tagmask.weak.training_state import (
    frozen_hash,
    load_optimiser,
    load_weights,
    read_training_state,
    write_training_state,
)
from tagmask.weak.training_step import compute_gradients, new_optimiser, step_seed
from tagmask.weak.validation import BestModel, Validation

__all__ = ["MODEL_FILE", "Report", "Task", "fit"]

MODEL_FILE = "model.safetensors"
"""The trained model in a finished run's folder."""

_CHECKPOINT = "checkpoint.pt"

_LOG = logging.getLogger(__name__)


@runtime_checkable
class Task(Protocol):
    """A model to train and its losses."""

    @property
    def model(self) -> nn.Module:
        """The whole model, on its device."""
        ...

    def groups(self) -> list[ParameterGroup]:
        """The trained parameters, each in exactly one group."""
        ...

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar loss terms by name, and "total", which is minimised; means over the batch's images."""
        ...

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Draw a sample picture for people, or return None. Must not change the model."""
        ...

    def save(self, path: Path) -> None:
        """Write the trained model to a file, atomically."""
        ...


@runtime_checkable
class SegmentingTask(Task, Protocol):
    """A task whose model labels pixels, so that it can be validated."""

    def segment(self, image: Image) -> Mask:
        """Label every pixel of an image; the model is in evaluation mode."""
        ...


@dataclass(frozen=True)
class Report:
    """Progress of a run."""

    step: int
    """Steps done."""
    steps: int
    """Steps in total."""
    losses: Mapping[str, float]
    """Of the last step, including "total"."""
    lr: float
    """Learning rate of the first parameter group."""
    images_per_s: float
    """Throughput since the last report."""
    seconds_left: float
    """Estimated time left."""


def fit(
    task: Task,
    samples: CropSource,
    config: TrainConfig,
    folder: Path,
    *,
    inputs: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
    watch: Callable[[Report], None] | None = None,
    validation: Validation | None = None,
) -> Path:
    """Train a model, or resume its training, and save it in the folder.

    Under `torchrun` every process calls this; the first one writes. A run may resume with another number of
    processes: the batches stay the same, the randomness of dropout does not.

    Args:
        task: the model on its device, and its losses.
        samples: training crops.
        config: settings; those that affect the model must be the same when a run resumes.
        folder: run folder.
        inputs: other inputs that affect the model, such as a hash of the seeds, as JSON values; they must
            stay the same too.
        metadata: recorded in the folder for users of the model.
        watch: called with progress reports, in the first process only.
        validation: measures the model at intervals and after the last step; the best model is kept beside the
            last.

    Returns:
        The model's file, as the task saves it. A finished run is left as it is. A task without trainable
        parameters is saved unchanged, after 0 steps, with a warning.

    Raises:
        TrainingError: a loss or gradient is NaN or infinite. The last checkpoint is kept.
        InputError: the folder has other settings, was validated on other images, or is in use; the batch size
            is not divisible by the number of processes.
        OutputError: the disk is full, or the folder is not writable. The last checkpoint is kept.
        TagmaskError: an image or a seed cannot be read.
    """
    device = next(task.model.parameters()).device
    groups = [group for group in task.groups() if group.parameters]
    with process_group(device) as ranks, _isolated_rng(device):
        fingerprint_fields = {
            **config.fingerprint_fields(),
            **(inputs or {}),
            "frozen": frozen_hash(task.model),
        }
        opened = (
            open_training(folder, config.model.kind, fingerprint_fields, metadata or {})
            if ranks.first
            else nullcontext()
        )
        with opened as run:
            if run is not None and validation is not None:
                _check_validation(run, validation)
            wait_for_all(ranks)  # until the first process has checked the folder
            path = folder / MODEL_FILE
            if not path.exists():  # written atomically: if it exists, all steps were done
                if groups:
                    _Run(task, groups, samples, config, folder, ranks, device, validation).all_steps(watch)
                elif ranks.first:
                    _LOG.warning(
                        "Nothing to train: this model has no trainable weights. It is saved unchanged."
                    )
                task.model.eval()
                if ranks.first:
                    task.save(path)
            if run is not None and not run.recorded["finished"]:
                run.record(finished=True, steps=config.schedule.steps if groups else 0)
            wait_for_all(ranks)
    return path


def _check_validation(run: RunFolder, validation: Validation) -> None:
    """Check that a run that resumes is validated on the same images as before."""
    before = run.recorded.get("validation")
    if before is None:
        run.record(validation=validation.identity)
    elif before != validation.identity:
        raise InputError(
            f"{run.path} was validated on {before}, not on {validation.identity}. Give the same images, so "
            "that its figures can be compared, or none."
        )


@contextmanager
def _isolated_rng(device: torch.device) -> Iterator[None]:
    """Leave the caller's random number generators unchanged."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


class _Losses(nn.Module):
    """A task's losses as a module, so that DistributedDataParallel can average gradients in backward."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self._task.losses(batch)


class _Run:
    """A training run in one process."""

    def __init__(
        self,
        task: Task,
        groups: Sequence[ParameterGroup],
        samples: CropSource,
        config: TrainConfig,
        folder: Path,
        ranks: Ranks,
        device: torch.device,
        validation: Validation | None,
    ) -> None:
        self.task, self.samples, self.config, self.folder = task, samples, config, folder
        self.ranks, self.device, self.validation = ranks, device, validation
        self.segment = task.segment if isinstance(task, SegmentingTask) else None
        self.local_batch = ranks.share_of(config.data.batch)
        self.groups = groups
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.optimiser = new_optimiser(groups, config.optimiser)
        if ranks.world > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(task.model)
        self.done = self._restore()
        self.best: BestModel | None = None
        if validation is not None and ranks.first:
            self.best = BestModel(folder, self.done, validation.name)
        unused = config.loss.seed == config.loss.crf == 0  # then WeakCLIP's decoder gets no gradient
        self.losses = data_parallel(_Losses(task), ranks, device, unused=unused)

    def _restore(self) -> int:
        path = self.folder / _CHECKPOINT
        checkpoint = read_training_state(path)
        if checkpoint is None:
            return 0
        load_weights(self.task.model, checkpoint.model, path)
        load_optimiser(self.optimiser, checkpoint.optimiser, path)
        return checkpoint.step

    def all_steps(self, watch: Callable[[Report], None] | None) -> None:
        config, run = self.config, self.config.run
        log = TrainLog(self.folder, self.done, tensorboard=run.tensorboard) if self.ranks.first else None
        self.task.model.train()
        report_time, report_step = time.monotonic(), self.done
        stop = False
        try:
            with signals_held() as signal_held:
                for each in self._batches():
                    batch = each.to(self.device)
                    values, stop = self._step(batch, stop=signal_held())
                    self.done += 1
                    last = stop or self.done == config.schedule.steps
                    validated = self._validate()
                    if log is not None:
                        log.add(self.done, values)
                        if last or self.done % run.log_every == 0:
                            log.flush()
                            now = time.monotonic()
                            if watch is not None:
                                speed = (self.done - report_step) / max(now - report_time, 1e-9)
                                watch(self._report(values, speed))
                            report_time, report_step = now, self.done
                        self._save_outputs(batch, log, last or validated)
                    if stop:
                        break
            if stop:  # another process got the signal
                raise KeyboardInterrupt
        except TagmaskError:
            if log is not None:
                with suppress(OutputError):  # report the error that stopped the run, not this one
                    log.flush()
            raise

    def _batches(self) -> Iterator[Batch]:
        batch, local = self.config.data.batch, self.local_batch
        starts = range(self.done * batch + self.ranks.rank * local, self.config.schedule.steps * batch, batch)
        return batches(
            self.samples,
            self.config.run.seed,
            [range(start, start + local) for start in starts],
            workers=min(self.config.data.workers, _cpu_count() // self.ranks.world),
            pin=self.device.type == "cuda",
        )

    def _step(self, batch: Batch, *, stop: bool) -> tuple[dict[str, float], bool]:
        """Run one step; return the values to log, and whether any process shall stop after it."""
        settings = self.config
        torch.manual_seed(step_seed(settings.run.seed, self.done, self.ranks.rank))
        rates = [
            learning_rate(settings.schedule, settings.optimiser.lr * group.factor, self.done)
            for group in self.groups
        ]
        for group, lr in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = lr
        losses, norm = compute_gradients(self.losses, self.task.model, self.parameters, batch, settings)
        shared = {**losses, "gradient": norm, "stop": norm.new_tensor(float(stop))}
        values = averaged(shared, self.ranks)
        any_stop = values.pop("stop") > 0
        if not all(map(isfinite, values.values())):
            raise self._diverged(values, batch)
        self.optimiser.step()
        return {**values, "lr": rates[0]}, any_stop

    def _diverged(self, values: Mapping[str, float], batch: Batch) -> TrainingError:
        saved = read_training_state(self.folder / _CHECKPOINT)
        checkpoint = f"The checkpoint of step {saved.step} is kept" if saved else "There is no checkpoint yet"
        losses = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        return TrainingError(
            f"Training diverged at step {self.done + 1} of {self.folder} ({losses}), "
            f"on {', '.join(batch.names[:4])}. {checkpoint}. "
            "Train again in another folder with a lower optimiser.lr, or with optimiser.clip=1."
        )

    def _validate(self) -> bool:
        """Validate if it is due after this step; every process takes its share of the images."""
        validation = self.validation
        if validation is None or self.segment is None:
            return False
        if self.done % validation.every and self.done != self.config.schedule.steps:
            return False
        self.task.model.eval()
        own = validation.counts(self.segment, self.ranks.rank, self.ranks.world)
        self.task.model.train()
        counts = summed(own, self.ranks, self.device)
        if self.best is not None:
            self.best.add(self.done, validation.miou(counts), self.task.save)
        return True

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

    def _save_outputs(self, batch: Batch, log: TrainLog, checkpoint: bool) -> None:
        """Write sample pictures, intermediate models and checkpoints when they are due.

        `checkpoint`: it is due in any case.
        """
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
        # Last: everything else of this step is then written, or is done again when the run resumes.
        if checkpoint or self.done % run.checkpoint_every == 0:
            log.flush()  # first, so that the log has all rows up to the checkpoint
            write_training_state(self.folder / _CHECKPOINT, self.done, self.task.model, self.optimiser)


def _cpu_count() -> int:
    """Number of CPUs this process may use; more workers would only compete for them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
