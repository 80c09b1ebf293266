"""Time and memory of refining one image's maps: none, PAMR, TLP and the dense CRF.

    python -m benchmarks.refine_cost [--repeats N] [--size HxW ...]

From an image's cosines to its labels, for the 21 classes (56 names) of VOC21, without weights: the cosines
are made up, smooth, at the size that `sclip/voc21` gives. Memory is the peak of a fresh process above the
memory before the call.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.inputs import make_image
from benchmarks.process_memory import memory_bytes
from tagmask.cli.bench_cost import parse_size
from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.labels import label_pixels
from tagmask.dense.prompts import Names, split_names
from tagmask.dense.propagation import propagate_maps
from tagmask.dense.resize import resize_cv2_linear, short_side_size
from tagmask.dense.windows import plan_windows, stitch_matrices
from tagmask.pipelines.labelled import apply_crf
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import MaskRecipe
from tagmask.settings.refinement import REFINERS
from tagmask.types import Image, Size

GRID = 14
"""Patches along a window's side."""


def make_maps(image: Image, names: int) -> CosineMaps:
    """Cosines of an image's windows of 224 pixels at short side 336: smooth, within -0.1..0.4."""
    size = (image.shape[0], image.shape[1])
    scaled = short_side_size(size, 336)
    plan = plan_windows(scaled, 224, 112)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(plan), names, 4, 4, generator=generator) * 0.5 - 0.1
    maps = torch.nn.functional.interpolate(coarse, (GRID, GRID), mode="bilinear", align_corners=False)
    pixels = torch.from_numpy(resize_cv2_linear(image, scaled)).permute(2, 0, 1).float() / 64 - 2
    down, across = stitch_matrices(plan, (GRID, GRID), scaled, size)
    return stitch(maps, plan, down, across, pixels)


@torch.inference_mode()
def refined_labels(image: Image, maps: CosineMaps, texts: torch.Tensor, recipe: MaskRecipe) -> object:
    """Labels as `DensePipeline` gives them."""
    names: Names = split_names([", ".join(recipe.background), *recipe.words])
    if recipe.tlp_steps:
        maps = propagate_maps(maps, texts, recipe)
    crf = recipe.crf is not None
    pixels = label_pixels(maps, names, recipe, background=True, ignore_index=255, keep_scores=crf)
    if recipe.crf is None or pixels.scores is None:
        return pixels.labels
    return apply_crf(torch.from_numpy(pixels.scores), image, recipe.crf, wrapped=False).max(dim=0).indices


def prepared(refiner: str, size: Size) -> Callable[[], object]:
    """The work of one image, with everything before it done."""
    recipe = mask_recipe("sclip/voc21", overrides={"refine": refiner})
    assert isinstance(recipe, MaskRecipe)
    image = make_image(*size)
    texts = torch.randn(56, 512, generator=torch.Generator().manual_seed(0))
    maps = make_maps(image, len(texts))
    return lambda: refined_labels(image, maps, texts, recipe)


def seconds(refiner: str, size: Size, repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    work = prepared(refiner, size)
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_growth(refiner: str, size: Size) -> int:
    """Peak bytes of one call in this process, above the memory before it."""
    prepared(refiner, (48, 64))()  # the first call loads code
    work = prepared(refiner, size)
    before = memory_bytes("VmRSS")
    work()
    return memory_bytes("VmHWM") - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", action="append", help="HEIGHTxWIDTH; default: 375x500 and 1500x2000")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads\n")
    print("| refinement | image | s | MiB |\n|---|---|---|---|")
    for text in options.size or ("375x500", "1500x2000"):
        size = parse_size(text)
        for refiner in REFINERS:
            taken = seconds(refiner, size, options.repeats)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                memory = pool.apply(peak_growth, (refiner, size))
            print(f"| {refiner} | {size[0]} x {size[1]} | {taken:.2f} | {memory / 2**20:.0f} |", flush=True)


if __name__ == "__main__":
    main()
