"""Memory of a benchmark run over thousands of images: `python -m benchmarks.memory`.

Images of many sizes are generated, masked by the bundled model and scored, as in `tagmask bench run`. The
process's memory is recorded along the way: a run that kept images, masks or scores would show a slope.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import tagmask
from tagmask.bench.benchmark_run import Run, run_benchmark
from tagmask.bench.protocol import Protocol
from tagmask.data.sample import Dataset, Sample
from tagmask.resolve import tag_recipe
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Produced
from tagmask.settings.presets.own_words import own_masks, own_tags
from tagmask.types import Image

WORDS = ("tree", "flower", "fish", "bird", "cat", "car", "boat", "house", "cup", "star")
BACKGROUND = ("grass", "sand", "water", "sky")
MEASUREMENTS = 20
"""Number of memory measurements."""


def main() -> None:
    """Measure masks, then tags, and print both curves."""
    parser = argparse.ArgumentParser(description="Memory of a benchmark run over thousands of images")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    clip = tagmask.load("miniature", device="cpu")
    for name, protocol in protocols().items():
        start = time.monotonic()
        curve = memory_curve(clip, protocol, options.images, options.workers)
        seconds = time.monotonic() - start
        half = [mebibytes for image, mebibytes in curve if image >= options.images // 2]
        change = half[-1] - half[0]
        print(f"{name}, {options.images} images, {options.workers} workers, {seconds:.0f} s")
        print_curve(curve)
        print(
            f"second half: {min(half):.1f} to {max(half):.1f} MiB, from start to end {change:+.1f}",
            flush=True,
        )


def protocols() -> dict[str, Protocol]:
    """The measured runs: small windows and one sentence per word, since the score does not matter."""
    masks = replace(own_masks(WORDS, BACKGROUND), templates=("a {}.",), short_side=64, crop=64, stride=64)
    quick = {"templates": ("a {}.",), "min_patches": 1, "max_patches": 64, "cwr": False}
    tags = tag_recipe(own_tags(WORDS, BACKGROUND), overrides=quick)
    return {"masks": Protocol(recipe=masks), "tags": Protocol(recipe=tags, metric="map")}


def noise_dataset(count: int) -> Dataset:
    """A data set of noise images, from 96 x 128 to 192 x 256."""
    samples = [
        Sample(
            id=f"{seed:012d}",
            read_image=partial(noise_image, seed),
            tags=(seed % len(WORDS),),
            read_mask=partial(noise_labels, seed),
        )
        for seed in range(count)
    ]
    return Dataset(name="noise", classes=("background", *WORDS), tag_classes=WORDS, samples=samples)


def noise_image(seed: int) -> Image:
    """Noise in blocks of 8 x 8 pixels."""
    height, width = size(seed)
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def noise_labels(seed: int) -> np.ndarray:
    """Random labels in blocks of 8 x 8 pixels."""
    height, width = size(seed)
    labels = np.random.default_rng(seed + 1).integers(0, 1 + len(WORDS), (height // 8, width // 8), np.uint8)
    return labels.repeat(8, axis=0).repeat(8, axis=1)


def size(seed: int) -> tuple[int, int]:
    """(h, w), multiples of 8."""
    rng = np.random.default_rng(seed + 2)
    return int(rng.integers(12, 25)) * 8, int(rng.integers(16, 33)) * 8


def memory_curve(
    clip: tagmask.Clip, protocol: Protocol, images: int, workers: int
) -> list[tuple[int, float]]:
    """Return (images done, MiB in memory) along one run."""
    curve: list[tuple[int, float]] = []

    def record_memory(produced: Iterable[Produced], plan: Plan) -> Iterator[Produced]:
        for done, each in enumerate(produced, start=1):
            yield each
            if done % max(1, plan.todo // MEASUREMENTS) == 0:
                curve.append((done, resident()))

    with tempfile.TemporaryDirectory() as folder:
        run = Run(protocol=protocol, dataset=noise_dataset(images))
        summary = run_benchmark(clip, run, Path(folder), workers=workers, watch=record_memory)
        size_of_file = (Path(folder) / "run.db").stat().st_size / 1e6
    print(
        json.dumps(
            {"scored": summary.scored, "partial": list(summary.partial), "results in MB": size_of_file}
        )
    )
    return curve


def resident() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def print_curve(curve: list[tuple[int, float]]) -> None:
    """Print one line per measurement, with a bar."""
    top = max(mebibytes for _, mebibytes in curve)
    for image, mebibytes in curve:
        print(f"{image:>7} images  {mebibytes:7.1f} MiB  {'#' * round(50 * mebibytes / top)}")


if __name__ == "__main__":
    main()
