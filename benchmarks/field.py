"""What the dense CRF costs on an image of usual size: time here, memory in a process of its own.

Memory is read as Linux tells it.
"""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.world import make_image
from tagmask.refine.crf import CRF_SETTINGS, dense_crf

__all__ = ["crf_cost"]

SIZE = (375, 500)
CLASSES = 21
SETTINGS = CRF_SETTINGS["cls-seg"]


def make_planes() -> torch.Tensor:
    """Probabilities (c, h, w) as masks have them: smooth, a few classes a pixel, every class somewhere."""
    generator = torch.Generator().manual_seed(0)
    coarse = 4 * torch.randn(1, CLASSES, 12, 16, generator=generator)
    full = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=False)
    return full[0].softmax(dim=0)


def refine() -> float:
    """Seconds of one call."""
    planes, image = make_planes(), make_image(*SIZE)
    start = time.perf_counter()
    dense_crf(planes, image, SETTINGS)
    return time.perf_counter() - start


def held(field: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" at most so far (`getrusage` counts the parent's too)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(kilobytes)


def growth() -> int:
    """By how many bytes one call raises what a process holds that has done nothing else."""
    dense_crf(torch.rand(2, 8, 8), np.zeros((8, 8, 3), np.uint8), SETTINGS)  # what the first call loads
    planes, image = make_planes(), make_image(*SIZE)
    before = held("VmRSS")
    dense_crf(planes, image, SETTINGS)
    return held("VmHWM") - before


def crf_cost(repeats: int) -> str:
    """A line on time and memory."""
    refine()
    spent = float(np.median([refine() for _ in range(repeats)]))
    with multiprocessing.get_context("spawn").Pool(1) as alone:
        memory = alone.apply(growth)
    h, w = SIZE
    return (
        f"* crf: {h} x {w}, {CLASSES} classes, {SETTINGS.rounds} rounds: {spent:.2f} s, "
        f"{memory / 2**20:.0f} MiB beside the planes"
    )
