"""Peak memory and time of images at the edges: very large, very small, many words. A process each.

    python -m benchmarks.sizes

Made-up weights of ViT-B/16's size, precision auto; one sentence a word, so that text takes no part.
"""

import gc
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch

import tagmask
from benchmarks.field import held
from benchmarks.world import make_image, make_weights

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


def once(weights: str, recipe: str, size: tuple[int, int]) -> tuple[float, float, float, str]:
    """MiB with weights and image at hand and at the peak, seconds, and the shape of the answer."""
    clip = tagmask.load(weights, precision="auto", activation="quickgelu")
    image = make_image(*size)
    templates = ("a photo of a {}.",)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew, after loading
    before = held("VmRSS") / 2**20
    began = time.perf_counter()
    if recipe.startswith("tagclip"):
        shape: tuple[int, ...] = tagmask.Tagger(clip, recipe=recipe, templates=templates)(image).scores.shape
    else:
        settings = {"tags": [0, 4, 31]} if recipe.startswith("cls-seg") else {}
        shape = tagmask.Segmenter(clip, recipe=recipe, templates=templates)(image, **settings).labels.shape
    after = held("VmHWM") / 2**20
    return before, after, time.perf_counter() - began, "x".join(map(str, shape))


def main() -> None:
    """Print the table."""
    print("| recipe | image | loaded | peak | seconds | answer |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        weights = str(Path(scratch) / "ViT-B-16.pt")
        torch.save(make_weights(), weights)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for recipe, size in CASES:
                before, after, spent, shape = pool.apply(once, (weights, recipe, size))
                print(
                    f"| {recipe} | {size[0]}x{size[1]} | {before:.0f} MiB | {after:.0f} MiB | {spent:.1f} "
                    f"| {shape} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
