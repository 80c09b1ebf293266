"""The dense CRF compared with pydensecrf2: labels, time, memory. `make parity-crf` sets up the environment.

    python -m benchmarks.crf [PHOTO ...]

Each image is resized to 375 x 500 and gets 21 probability maps that resemble a segmenter's; both CRFs run ten
iterations with the same settings. Fails if fewer than 99.5 % of the labels are equal.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from torch.nn import functional as F

from benchmarks.process_memory import memory_bytes, reset_peak
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.refine.crf import CRF_SETTINGS, CrfSettings, dense_crf

SIZE = (375, 500)
CLASSES = 21
ROUNDS = 3
MIN_EQUAL = 0.995
SETTINGS = ("cls-seg", "weakclip/voc")


def load_image(source: Path | int) -> np.ndarray:
    """Load a photo, or draw the miniature scene of this seed, at 375 x 500."""
    if isinstance(source, int):
        image = PILImage.fromarray(unseen_scene(source).image)
    else:
        image = PILImage.open(source).convert("RGB")
    return np.array(image.resize((SIZE[1], SIZE[0]), PILImage.Resampling.BICUBIC))


def probabilities(image: np.ndarray) -> torch.Tensor:
    """21 maps that follow the image's colours, as smooth as those of a segmenter with 24 x 32 patches."""
    rng = np.random.default_rng(0)
    colours = torch.from_numpy(rng.uniform(0, 255, (CLASSES, 3)).astype(np.float32))
    pixels = torch.from_numpy(image).float()
    logits = -((pixels[None] - colours[:, None, None]) ** 2).sum(dim=-1) / 4000
    small = F.adaptive_avg_pool2d(logits[None], (24, 32))
    return torch.softmax(F.interpolate(small, SIZE, mode="bilinear", align_corners=False)[0], dim=0)


def ours(image: np.ndarray, planes: torch.Tensor, settings: CrfSettings) -> np.ndarray:
    """Refine with this package's CRF."""
    return dense_crf(planes, image, settings).numpy()


def theirs(image: np.ndarray, planes: torch.Tensor, settings: CrfSettings) -> np.ndarray:
    """Refine with pydensecrf2."""
    from pydensecrf import densecrf  # type: ignore[import-not-found]

    crf = densecrf.DenseCRF2D(SIZE[1], SIZE[0], CLASSES)
    floored = np.clip(planes.numpy(), settings.floor, 1.0).reshape(CLASSES, -1)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(floored)))
    crf.addPairwiseGaussian(sxy=settings.near, compat=settings.near_weight)
    crf.addPairwiseBilateral(
        sxy=settings.far,
        srgb=settings.colour,
        rgbim=np.ascontiguousarray(image),
        compat=settings.colour_weight,
    )
    return np.array(crf.inference(settings.rounds)).reshape(CLASSES, *SIZE)


PROGRAMS: dict[str, Callable[[np.ndarray, torch.Tensor, CrfSettings], np.ndarray]] = {
    "ours": ours,
    "theirs": theirs,
}


def peak(program: str, source: Path | int, name: str) -> float:
    """Peak MiB of one run, above the memory before it."""
    image = load_image(source)
    planes = probabilities(image)
    reset_peak()
    before = memory_bytes("VmRSS") / 2**20
    PROGRAMS[program](image, planes, CRF_SETTINGS[name])
    return memory_bytes("VmHWM") / 2**20 - before


def compare(source: Path | int, name: str) -> tuple[float, float, float]:
    """Share of equal labels, and the median seconds of each program, run alternately."""
    image = load_image(source)
    planes, settings = probabilities(image), CRF_SETTINGS[name]
    seconds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    labels = {}
    for _ in range(ROUNDS):
        for program, solve in PROGRAMS.items():
            start = time.perf_counter()
            labels[program] = solve(image, planes, settings).argmax(axis=0)
            seconds[program].append(time.perf_counter() - start)
    equal = float((labels["ours"] == labels["theirs"]).mean())
    return equal, statistics.median(seconds["ours"]), statistics.median(seconds["theirs"])


def main(arguments: Sequence[str]) -> int:
    """Print the table; return 1 if too many labels differ."""
    sources: list[Path | int] = [Path(argument) for argument in arguments] or [3, 4]
    threads = torch.get_num_threads()
    print(f"{threads} threads (pydensecrf2: 1), 375 x 500, {CLASSES} classes, 10 iterations")
    print("| image | settings | labels equal | tagmask | pydensecrf2 | speed-up | memory | pydensecrf2's |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 1.0
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for source in sources:
            for name in SETTINGS:
                equal, our_seconds, their_seconds = compare(source, name)
                memory = [pool.apply(peak, (program, source, name)) for program in PROGRAMS]
                label = source.stem if isinstance(source, Path) else f"scene {source}"
                print(
                    f"| {label} | {name} | {equal:.2%} | {our_seconds:.2f} s | {their_seconds:.2f} s "
                    f"| {their_seconds / our_seconds:.2f} | {memory[0]:.0f} MiB | {memory[1]:.0f} MiB |",
                    flush=True,
                )
                worst = min(worst, equal)
    if worst < MIN_EQUAL:
        print(f"Only {worst:.2%} of the labels are equal; expected at least {MIN_EQUAL:.1%}.")
    return int(worst < MIN_EQUAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
