"""The dense CRF beside pydensecrf2's: labels, time and memory. `make parity-crf` makes the environment.

    python -m benchmarks.crf [PHOTO ...]

Each picture is scaled to 375 x 500, gets 21 planes of probabilities that resemble a segmenter's, and goes
through ten rounds of both with the same settings. Fails if fewer than 99.5 % of the labels are equal.
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

from benchmarks.field import held
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.refine.crf import CRF_SETTINGS, CrfSettings, dense_crf

SIZE = (375, 500)
CLASSES = 21
ROUNDS = 3
LEAST = 0.995
SETTINGS = ("cls-seg", "weakclip/voc")


def picture(source: Path | int) -> np.ndarray:
    """A photo, or the drawn scene of that number."""
    if isinstance(source, int):
        image = PILImage.fromarray(unseen_scene(source).image)
    else:
        image = PILImage.open(source).convert("RGB")
    return np.array(image.resize((SIZE[1], SIZE[0]), PILImage.Resampling.BICUBIC))


def probabilities(image: np.ndarray) -> torch.Tensor:
    """21 planes that follow the picture's colours, blurred as a segmenter's of 24 x 32 patches are."""
    rng = np.random.default_rng(0)
    colours = torch.from_numpy(rng.uniform(0, 255, (CLASSES, 3)).astype(np.float32))
    pixels = torch.from_numpy(image).float()
    near = -((pixels[None] - colours[:, None, None]) ** 2).sum(dim=-1) / 4000
    small = F.adaptive_avg_pool2d(near[None], (24, 32))
    return torch.softmax(F.interpolate(small, SIZE, mode="bilinear", align_corners=False)[0], dim=0)


def ours(image: np.ndarray, planes: torch.Tensor, settings: CrfSettings) -> np.ndarray:
    """Planes after the project's CRF."""
    return dense_crf(planes, image, settings).numpy()


def theirs(image: np.ndarray, planes: torch.Tensor, settings: CrfSettings) -> np.ndarray:
    """Planes after pydensecrf2's."""
    from pydensecrf import densecrf  # type: ignore[import-not-found]

    field = densecrf.DenseCRF2D(SIZE[1], SIZE[0], CLASSES)
    floored = np.clip(planes.numpy(), settings.floor, 1.0).reshape(CLASSES, -1)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(floored)))
    field.addPairwiseGaussian(sxy=settings.near, compat=settings.near_weight)
    field.addPairwiseBilateral(
        sxy=settings.far,
        srgb=settings.colour,
        rgbim=np.ascontiguousarray(image),
        compat=settings.colour_weight,
    )
    return np.array(field.inference(settings.rounds)).reshape(CLASSES, *SIZE)


SIDES: dict[str, Callable[[np.ndarray, torch.Tensor, CrfSettings], np.ndarray]] = {
    "ours": ours,
    "theirs": theirs,
}


def peak(side: str, source: Path | int, name: str) -> float:
    """MiB that one run adds to what the process held before."""
    image = picture(source)
    planes = probabilities(image)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = held("VmRSS") / 2**20
    SIDES[side](image, planes, CRF_SETTINGS[name])
    return held("VmHWM") / 2**20 - before


def compare(source: Path | int, name: str) -> tuple[float, float, float]:
    """Share of equal labels, and the median seconds of each side, taken in turns."""
    image = picture(source)
    planes, settings = probabilities(image), CRF_SETTINGS[name]
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    labels = {}
    for _ in range(ROUNDS):
        for side, solve in SIDES.items():
            began = time.perf_counter()
            labels[side] = solve(image, planes, settings).argmax(axis=0)
            seconds[side].append(time.perf_counter() - began)
    equal = float((labels["ours"] == labels["theirs"]).mean())
    return equal, statistics.median(seconds["ours"]), statistics.median(seconds["theirs"])


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 if labels differ too much."""
    sources: list[Path | int] = [Path(argument) for argument in arguments] or [3, 4]
    print(f"{torch.get_num_threads()} threads, 375 x 500, {CLASSES} classes, 10 rounds; pydensecrf2 uses one")
    print(
        "| picture | settings | labels equal | ours | pydensecrf2 | times faster | memory | pydensecrf2's |"
    )
    print("|---|---|---|---|---|---|---|---|")
    worst = 1.0
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for source in sources:
            for name in SETTINGS:
                equal, own, other = compare(source, name)
                memory = [pool.apply(peak, (side, source, name)) for side in SIDES]
                shown = source.stem if isinstance(source, Path) else f"scene {source}"
                print(
                    f"| {shown} | {name} | {equal:.2%} | {own:.2f} s | {other:.2f} s | {other / own:.2f} "
                    f"| {memory[0]:.0f} MiB | {memory[1]:.0f} MiB |",
                    flush=True,
                )
                worst = min(worst, equal)
    if worst < LEAST:
        print(f"only {worst:.2%} of the labels are equal; at least {LEAST:.1%} are expected")
    return int(worst < LEAST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
