"""Time and memory of the dense CRF on an image of 375 x 500; memory is measured in a separate process."""

import multiprocessing
import time

import numpy as np
import torch

from benchmarks.inputs import make_image
from benchmarks.process_memory import memory_bytes
from tagmask.refine.crf import CRF_SETTINGS, dense_crf

__all__ = ["crf_cost"]

SIZE = (375, 500)
CLASSES = 21
SETTINGS = CRF_SETTINGS["cls-seg"]


def make_planes() -> torch.Tensor:
    """Mask-like probabilities (c, h, w): smooth, a few classes per pixel, every class somewhere."""
    generator = torch.Generator().manual_seed(0)
    coarse = 4 * torch.randn(1, CLASSES, 12, 16, generator=generator)
    full = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=False)
    return full[0].softmax(dim=0)


def crf_seconds() -> float:
    """Seconds of one call."""
    planes, image = make_planes(), make_image(*SIZE)
    start = time.perf_counter()
    dense_crf(planes, image, SETTINGS)
    return time.perf_counter() - start


def peak_growth() -> int:
    """Peak bytes of one call in a fresh process, above the memory before it."""
    dense_crf(torch.rand(2, 8, 8), np.zeros((8, 8, 3), np.uint8), SETTINGS)  # the first call loads code
    planes, image = make_planes(), make_image(*SIZE)
    before = memory_bytes("VmRSS")
    dense_crf(planes, image, SETTINGS)
    return memory_bytes("VmHWM") - before


def crf_cost(repeats: int) -> str:
    """Return a line with time and memory."""
    crf_seconds()
    seconds = float(np.median([crf_seconds() for _ in range(repeats)]))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        memory = pool.apply(peak_growth)
    h, w = SIZE
    return (
        f"* crf: {h} x {w}, {CLASSES} classes, {SETTINGS.rounds} iterations: {seconds:.2f} s, "
        f"{memory / 2**20:.0f} MiB in addition to the input"
    )
