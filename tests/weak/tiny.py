"""A tiny training run: a task for tests, and a program that tests start and kill."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tagmask.bench.validation import DataSetValidation
from tagmask.data.sample import Dataset, Sample
from tagmask.files import write_bytes
from tagmask.weak.augment import Crop
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import with_settings
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.loop import Report, fit
from tagmask.weak.samples import Batch, TrainingCrop
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.training_state import trainable_weights

CLASSES = 3
ROOT = Path(__file__).parents[2]


class TinySamples:
    """Synthetic crops: the class of a pixel is its brightest channel."""

    def __len__(self) -> int:
        return 7

    def sample(self, epoch: int, index: int) -> TrainingCrop:
        rng = np.random.default_rng((epoch, index))
        pixels = rng.standard_normal((3, 8, 8)).astype(np.float32)
        labels = pixels.argmax(axis=0).astype(np.uint8)
        labels[0] = IGNORE_INDEX
        return TrainingCrop(f"image-{index}", Crop(pixels, labels))


class TinyTask:
    """A few convolutions, part of them frozen."""

    def __init__(self, *, dropout: float = 0.1, norm: bool = True) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(6, CLASSES, 1),
        )
        self.model[0].requires_grad_(False)

    def groups(self) -> list[ParameterGroup]:
        head = list(self.model[5].parameters())
        rest = list(self.model[1:5].parameters())
        return [
            ParameterGroup("rest", tuple(rest)),
            ParameterGroup("head", tuple(head), factor=3.0, decays=False),
        ]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.model(batch.pixels)
        # per image, so that processes that share a batch get the result of a single process
        each = (
            cross_entropy(logits, batch.labels, ignore_index=IGNORE_INDEX, reduction="none").sum(dim=(1, 2))
            / 56
        )
        size = logits.square().mean()
        return {"entropy": each.mean(), "size": size, "total": each.mean() + 0.01 * size}

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        return PIL.Image.new("RGB", (8, 8))

    def segment(self, image: np.ndarray) -> np.ndarray:
        assert not self.model.training
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 128 - 1
        with torch.no_grad():
            return self.model(pixels)[0].argmax(dim=0).numpy().astype(np.uint8)

    def save(self, path: Path) -> None:
        write_bytes(path, save(trainable_weights(self.model)))


class SlowTask(TinyTask):
    """A slow task, so that a test can kill it midway."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        time.sleep(0.02)
        return super().losses(batch)


def tiny_validation(every: int = 15, images: int = 5) -> DataSetValidation:
    """Images whose class is the brightest channel, too."""

    def image(seed: int) -> np.ndarray:
        return np.random.default_rng(100 + seed).integers(0, 256, (8, 8, 3), np.uint8)

    def mask(seed: int) -> np.ndarray:
        return image(seed).argmax(axis=2).astype(np.uint8)

    samples = [Sample(f"image-{i}", partial(image, i), read_mask=partial(mask, i)) for i in range(images)]
    dataset = Dataset("bright", ("a", "b", "c"), (), samples)
    return DataSetValidation(dataset, "bright all", every, samples)


def config(*changes: str) -> TrainConfig:
    defaults = [
        "steps=40", "warmup=5", "batch=4", "optimiser.lr=0.01", "log_every=4", "checkpoint_every=10",
        "picture_every=20", "floor=1e-4", "device=cpu",
    ]  # fmt: skip
    return with_settings(replace(TrainConfig()), [*defaults, *changes])


def start(folder: Path, kind: str, stderr: int | None = None, **environment: str) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.weak.tiny", str(folder), kind],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
    )


def main(folder: Path, kind: str) -> None:
    """Train in `folder`: "slow", to be killed, or "shared", independent of the number of processes."""
    torch.set_num_threads(1)
    task = SlowTask() if kind == "slow" else TinyTask(dropout=0.0, norm=False)

    def report_step(report: Report) -> None:
        sys.stdout.write(f"{report.step}\n")
        sys.stdout.flush()

    validation = tiny_validation() if kind == "shared" else None
    fit(task, TinySamples(), config(), folder, watch=report_step, validation=validation)
    if sys.platform == "linux":
        names = sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
        sys.stderr.write("".join(f"thread {name}\n" for name in names))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
