"""Why does PAMR change the order of MaskCLIP and SCLIP on drawn scenes?

    python -m benchmarks.pamr_order [--weights miniature] [--scenes 100]

SCLIP differs from MaskCLIP in one thing: its last block averages each patch over similar patches. This
experiment asks what is left of that difference after other ways of averaging the same score maps:

    rounds           PAMR, from 0 to 30 rounds
    noisy guide      PAMR of 10 rounds, guided by the image with noise: it no longer finds the edges
    no guide         PAMR of 10 rounds with equal weights: a blur
    true regions     the mean over each region of the ground truth: averaging without any error at edges

If the difference shrinks as the rounds grow, PAMR does what SCLIP's attention does. With true regions, no
averaging is left to do: whoever leads there has the better evidence in its patches. If a noisy guide brings
the papers' order back, the perfect edges of drawn scenes are the reason.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

import tagmask
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.bootstrap import bootstrap_interval, bootstrap_samples, miou, verdict
from tagmask.bench.miniature.ground_truth import objects_only, scenes
from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.labels import label_pixels
from tagmask.dense.prompts import Names, split_names, text_features
from tagmask.dense.sliding import sliding_cosines
from tagmask.dense.windows import resize_matrix
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, Scene
from tagmask.refine.pamr import pamr
from tagmask.settings.presets.own_words import own_masks
from tagmask.settings.recipes import MaskRecipe
from tagmask.types import TextFeatures

__all__ = ["average_regions", "main", "refinements"]

METHODS = ("maskclip", "sclip")
ROUNDS = (1, 3, 10, 30)
_NOISE = 1.0
"""Standard deviation of the noise, in standard deviations of the image."""

Maps = Float[Tensor, "q h w"]


def refinements(
    maps: Maps, guide: Float[Tensor, "3 h w"], regions: UInt8[ndarray, "h w"], seed: int
) -> Iterator[tuple[str, Maps]]:
    """Yield every way of averaging score maps, by name."""
    yield "no refinement", maps
    refined, done = maps, 0
    for rounds in ROUNDS:
        refined, done = pamr(refined, guide, steps=rounds - done), rounds
        yield f"PAMR, {rounds} {'round' if rounds == 1 else 'rounds'}", refined
    noise = torch.randn(guide.shape, generator=torch.Generator().manual_seed(seed))
    noisy = guide + _NOISE * guide.std() * noise
    yield "PAMR, 10 rounds, noise in its guide", pamr(maps, noisy, steps=10)
    yield "PAMR, 10 rounds, no guide", pamr(maps, torch.zeros_like(guide), steps=10)
    yield "mean over each true region", average_regions(maps, regions)


def average_regions(maps: Maps, regions: UInt8[ndarray, "h w"]) -> Maps:
    """Replace every score by its mean over the pixels of the same region."""
    index = torch.from_numpy(regions.astype(np.int64)).flatten()
    flat = maps.flatten(1)
    sums = torch.zeros(len(maps), int(index.max()) + 1).index_add_(1, index, flat)
    return (sums / torch.bincount(index).clamp(min=1))[:, index].view_as(maps)


def counts(
    clip: Clip, scene: Scene, seed: int, recipe: MaskRecipe, names: Names, texts: TextFeatures
) -> Iterator[tuple[tuple[str, str], Int[ndarray, "k k"]]]:
    """Yield the confusion counts of one scene, by refinement and method."""
    rules = [dense_rule(name, len(clip.vision.blocks)) for name in METHODS]
    (both,) = sliding_cosines(clip, [scene.image], texts, recipe, rules)
    first, truth = both[0], objects_only(scene.labels)
    height, width = first.size
    down, across = (
        resize_matrix(old, new) for old, new in zip(first.pixels.shape[1:], (height, width), strict=True)
    )
    guide = down @ first.pixels @ across.T
    # One stack of maps, so that PAMR computes its weights once for both methods.
    stack = torch.cat([maps.rows(0, height) for maps in both])
    for name, refined in refinements(stack, guide, scene.labels, seed):
        for method, part in zip(METHODS, refined.chunk(len(METHODS)), strict=True):
            matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
            matrix.update(_labels(part, first, names, recipe), truth)
            yield (name, method), matrix.matrix


def _labels(refined: Maps, maps: CosineMaps, names: Names, recipe: MaskRecipe) -> Int[ndarray, "h w"]:
    height, width = maps.size
    whole = replace(maps, cosines=refined, down=torch.eye(height), across=torch.eye(width))
    labels: Int[ndarray, "h w"] = label_pixels(whole, names, recipe, background=True, ignore_index=255).labels
    return labels


def _page(measured: Mapping[tuple[str, str], list[Int[ndarray, "k k"]]], number: int) -> Iterator[str]:
    drawn = bootstrap_samples(number)
    yield "| | MaskCLIP | SCLIP | SCLIP - MaskCLIP | SCLIP above |"
    yield "|---|---|---|---|---|"
    for name in dict.fromkeys(name for name, _ in measured):
        first, second = (miou(np.stack(measured[name, method]), drawn) for method in METHODS)
        gap = second - first
        yield (
            f"| {name} | {first[0]:.1f} | {second[0]:.1f} | {gap[0]:+.1f} ± {bootstrap_interval(gap):.1f} "
            f"| {verdict(second, first)} |"
        )


@torch.inference_mode()
def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", default="miniature")
    parser.add_argument("--scenes", type=int, default=100)
    options = parser.parse_args()
    clip = tagmask.load(options.weights, device="cpu")
    recipe = own_masks(CLASS_NAMES, BACKGROUND_NAMES)
    names = split_names([", ".join(recipe.background), *recipe.words])
    texts = text_features(clip, names.texts, recipe.templates)
    measured: dict[tuple[str, str], list[Int[ndarray, "k k"]]] = {}
    for seed, scene in enumerate(scenes(options.scenes)):
        for key, matrix in counts(clip, scene, seed, recipe, names, texts):
            measured.setdefault(key, []).append(matrix)
    print("\n".join(_page(measured, options.scenes)))


if __name__ == "__main__":
    main()
