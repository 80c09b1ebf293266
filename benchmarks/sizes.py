"""Peak memory and time of extreme cases: very large and very small images, many words. One process each.

    python -m benchmarks.sizes

Random weights of ViT-B/16's size, precision auto; one sentence per word, so that text encoding is negligible.
"""

import gc
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch

import tagmask
from benchmarks.inputs import make_image, make_weights
from benchmarks.process_memory import memory_bytes, reset_peak

CASES = (
    ("sclip/coco-stuff", (4000, 6000)),
    ("sclip/coco-object", (480, 640)),
    ("sclip+pamr/coco-object", (480, 640)),
    ("sc-clip/coco-object", (480, 640)),
    ("resclip/coco-object", (480, 640)),
    ("cls-seg/coco2017", (480, 640)),
    ("tagclip/coco2017", (4000, 6000)),
    ("sclip/coco-stuff", (1, 1)),
    ("sclip/coco-stuff", (1, 3000)),
    ("sclip/coco-stuff", (16, 16)),
    ("cls-seg/coco2017", (1, 3000)),
)


def measure(weights: str, recipe: str, size: tuple[int, int]) -> tuple[float, float, float, str]:
    """Return MiB after loading, MiB at the peak, seconds, and the shape of the result."""
    clip = tagmask.load(weights, precision="auto", activation="quickgelu")
    image = make_image(*size)
    templates = ("a photo of a {}.",)
    gc.collect()
    reset_peak()
    loaded = memory_bytes("VmRSS") / 2**20
    start = time.perf_counter()
    if recipe.startswith("tagclip"):
        shape: tuple[int, ...] = tagmask.Tagger(clip, recipe=recipe, templates=templates)(image).scores.shape
    else:
        settings = {"tags": [0, 4, 31]} if recipe.startswith("cls-seg") else {}
        shape = tagmask.Segmenter(clip, recipe=recipe, templates=templates)(image, **settings).labels.shape
    peak = memory_bytes("VmHWM") / 2**20
    return loaded, peak, time.perf_counter() - start, "x".join(map(str, shape))


def main() -> None:
    """Print the table."""
    print("| recipe | image | loaded | peak | seconds | result |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        weights = str(Path(scratch) / "ViT-B-16.pt")
        torch.save(make_weights(), weights)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for recipe, size in CASES:
                loaded, peak, seconds, shape = pool.apply(measure, (weights, recipe, size))
                print(
                    f"| {recipe} | {size[0]}x{size[1]} | {loaded:.0f} MiB | {peak:.0f} MiB | {seconds:.1f} "
                    f"| {shape} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
