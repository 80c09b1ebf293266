"""The engines in the miniature world, in float32, bfloat16 and int8; and the time of the blocks they run.

    build/openvino/bin/python -m benchmarks.engines [--scenes N] [--photos N]
    build/openvino/bin/python -m benchmarks.engines --time [--pairs N]

The first prints two tables: labels and tags compared with those of torch in float32, mIoU and mAP. int8 is
calibrated on scenes that are not evaluated. The second times a forward pass of all blocks but the last, with
random weights of ViT-B/16's size: all engines in turn in one process, medians of the ratios.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

import tagmask
from benchmarks.inputs import make_image, make_weights, temporary_home
from benchmarks.precision import Predictions
from tagmask.bench.miniature.ground_truth import scenes
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.settings.engine import EngineSettings

ROWS = (
    ("torch", "float32", None),
    ("torch", "bfloat16", None),
    ("openvino", "float32", None),
    ("openvino", "bfloat16", None),
    ("openvino", "float32", "int8"),
    ("openvino", "bfloat16", "int8"),
)
"""Engine, precision of the weights, and of the engine's products if it differs."""
SHAPES = ((6, 224, 224), (1, 384, 512))
"""Windows of an image at short side 336, and an image at its own size."""


def name_of(engine: str, precision: str, products: str | None) -> str:
    """Return the name of a row."""
    return f"{engine} {precision if products is None else f'{products}, rest {precision}'}"


def compare(count: int, photos: int) -> None:
    """Print labels, mIoU, tags and mAP of every row."""
    evaluated = scenes(count)
    calibration = [unseen_scene(count + i).image for i in range(photos)]
    found = {}
    for engine, precision, products in ROWS:
        settings = EngineSettings(engine, products, calibration if products else ())
        found[name_of(engine, precision, products)] = Predictions(precision, evaluated, settings)
    exact = found["torch float32"]
    methods = list(exact.labels)
    print(f"| {count} scenes | scenes with the same tags | mAP | {' | '.join(methods)} |")
    print("|---|---|---|" + "---|" * len(methods))
    for name, each in found.items():
        cells = [f"{each.same_labels(m, exact):.2%}, {each.miou(m, evaluated):.2f}" for m in methods]
        print(
            f"| {name} | {each.same_tags(exact):.1%} | {each.mean_ap(evaluated):.2f} | {' | '.join(cells)} |"
        )


def forward_passes(folder: Path) -> Iterator[tuple[str, Callable[[torch.Tensor], object]]]:
    """Yield each row's forward pass with random weights."""
    file = folder / "ViT-B-16.pt"
    torch.save(make_weights(), file)
    photos = [make_image(375, 500), make_image(500, 375)]
    for engine, precision, products in ROWS:
        settings = EngineSettings(engine, products, photos if products else ())
        clip = tagmask.Segmenter(
            tagmask.load(file, device="cpu", precision=precision), ["cat"], background=[], engine=settings
        ).clip

        def forward(pixels: torch.Tensor, clip: Clip = clip) -> object:
            return extract_features(clip.vision, pixels, bilinear_half)

        yield name_of(engine, precision, products), forward


@torch.inference_mode()
def measure(pairs: int) -> None:
    """Print the time of every row, and its ratio to torch's in the same precision of the weights."""
    with TemporaryDirectory() as folder, temporary_home():
        passes = dict(forward_passes(Path(folder)))
        print("| windows | engine | s | CPU s | times as fast as torch float32 | as torch bfloat16 |")
        print("|---|---|---|---|---|---|")
        for shape in SHAPES:
            pixels = torch.randn(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(0))
            seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
            for repeat in range(pairs + 1):
                for name, forward in passes.items():
                    wall, processor = time.perf_counter(), time.process_time()
                    forward(pixels)
                    if repeat:  # the first run warms up
                        seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
            taken = {name: np.array(rows) for name, rows in seconds.items()}
            for name, rows in taken.items():
                ratios = " | ".join(
                    f"{np.median(taken[f'torch {precision}'][:, 0] / rows[:, 0]):.2f}"
                    for precision in ("float32", "bfloat16")
                )
                wall, processor = np.median(rows, axis=0)
                print(f"| {' x '.join(map(str, shape))} | {name} | {wall:.2f} | {processor:.2f} | {ratios} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--photos", type=int, default=32, help="scenes to calibrate int8 on")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--pairs", type=int, default=9, help="runs of each forward pass")
    options = parser.parse_args()
    if options.time:
        measure(options.pairs)
    else:
        compare(options.scenes, options.photos)


if __name__ == "__main__":
    main()
