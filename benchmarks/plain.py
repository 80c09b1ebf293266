"""Plain implementation of SCLIP and TagCLIP: step by step, without batching.

    text    every sentence at the full 77 tokens, one name at a time
    SCLIP   one window at a time, summed at full resolution with a count per pixel, the map of every name at
            the image's size, synonyms merged at the end
    TagCLIP the last block with its explicit -100 mask, a loop over the texts in the refinement, a flood fill
            for the boxes, one crop at a time in the re-identification

Written from the definitions only, sharing no arithmetic with the package, so that agreement is meaningful;
and without its optimisations, so that a comparison of speed is meaningful. Taken from the package: the
tokenizer, the recipes' names and numbers, and the resize that equals OpenCV's.

`tensors` is always a state dict with OpenAI's names, float32, on the CPU; `image` is uint8 RGB, (h, w, 3).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.plain_clip import (
    HEAD,
    Tensors,
    as_image,
    as_table,
    embed,
    finish,
    norm,
    patch_size,
    plain_text,
    project,
    qkv,
    run_block,
    split,
    stored_grid,
    vision_blocks,
)
from tagmask.dense.resize import resize_cv2_linear

if TYPE_CHECKING:
    from tagmask.settings.recipes import MaskRecipe, TagRecipe

__all__ = [
    "METHODS",
    "class_names",
    "plain_pamr",
    "plain_patch_scores",
    "plain_sclip",
    "plain_tagclip",
    "plain_text",
]

METHODS = ("clip", "maskclip", "sclip", "sclip-q", "sclip-k", "sclip-identity")
"""Variants of the last block that `plain_sclip` implements."""


# -- SCLIP ------------------------------------------------------------------------------------------


def class_names(recipe: "MaskRecipe") -> tuple[list[str], list[int]]:
    """All names of a recipe in the order of its class file, and the class of each."""
    lines = [list(recipe.background)] if recipe.background else []
    lines += [line.split(", ") for line in recipe.words]
    names = [name for line in lines for name in line]
    classes = [index for index, line in enumerate(lines) for _ in line]
    return names, classes


def _sclip_positions(tensors: Tensors, rows: int, columns: int) -> Tensor:
    """Position table resized by a factor with 0.1 added, and only if the *number* of patches differs."""
    grid = stored_grid(tensors)
    if rows * columns == grid * grid:
        return tensors["visual.positional_embedding"]
    row, image = as_image(tensors)
    factors = ((rows + 0.1) / grid, (columns + 0.1) / grid)
    resized = F.interpolate(image, scale_factor=factors, mode="bicubic", align_corners=False)
    return as_table(row, resized)


def _last_block(tensors: Tensors, block: str, x: Tensor, method: str) -> Tensor:
    z = norm(tensors, f"{block}.ln_1", x)
    q, k, v = qkv(tensors, block, z)
    scale = HEAD**-0.5

    def attend(a: Tensor, b: Tensor) -> Tensor:
        return torch.softmax(scale * a @ b.transpose(-2, -1), dim=-1)

    if method == "clip":
        weights = attend(q, k)
    elif method == "maskclip":
        weights = torch.eye(len(x))
    elif method == "sclip":
        weights = attend(q, q) + attend(k, k)
    elif method == "sclip-q":
        weights = attend(q, q)
    elif method == "sclip-k":
        weights = attend(k, k)
    elif method == "sclip-identity":
        heads = split(z)
        weights = torch.softmax(heads @ heads.transpose(-2, -1) / 8, dim=-1)
    else:
        raise ValueError(f"Unknown method {method!r}. Expected one of {', '.join(METHODS)}.")
    return finish(tensors, block, x, weights @ v)


def _window_cosines(tensors: Tensors, window: Tensor, text: Tensor, method: str) -> Tensor:
    """Cosines (q, rows, columns) of each patch of a window (3, h, w) with each name."""
    rows, columns = (side // patch_size(tensors) for side in window.shape[1:])
    *blocks, last = vision_blocks(tensors)
    x = embed(tensors, window, _sclip_positions(tensors, rows, columns))
    for block in blocks:
        x, _ = run_block(tensors, block, x)
    features = project(tensors, _last_block(tensors, last, x, method))
    features = features / features.norm(dim=1, keepdim=True)
    return (features[1:] @ text.T).T.reshape(len(text), rows, columns)


def _resize(maps: Tensor, h: int, w: int) -> Tensor:
    return F.interpolate(maps[None], size=(h, w), mode="bilinear", align_corners=False)[0]


def _slide(tensors: Tensors, pixels: Tensor, text: Tensor, recipe: "MaskRecipe", crop: int) -> Tensor:
    """Mean cosines (q, h, w) over all windows that contain a pixel."""
    h, w = pixels.shape[1:]
    stride = recipe.stride
    total, counts = torch.zeros(len(text), h, w), torch.zeros(h, w)
    for row in range(max(h - crop + stride - 1, 0) // stride + 1):
        for column in range(max(w - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + crop, h), min(column * stride + crop, w)
            top, left = max(bottom - crop, 0), max(right - crop, 0)
            window = pixels[:, top:bottom, left:right]
            cosines = _window_cosines(tensors, window, text, recipe.method)
            total[:, top:bottom, left:right] += _resize(cosines, bottom - top, right - left)
            counts[top:bottom, left:right] += 1
    return total / counts


def _neighbours(x: Tensor, dilation: int) -> list[Tensor]:
    """Eight maps with the neighbour of each pixel in one direction; borders are replicated."""
    h, w = x.shape[-2:]
    padded = F.pad(x[None], (dilation,) * 4, mode="replicate")[0]
    steps = (0, dilation, 2 * dilation)
    offsets = [(y, x) for y in steps for x in steps if (y, x) != (dilation, dilation)]
    return [padded[:, top : top + h, left : left + w] for top, left in offsets]


def plain_pamr(pixels: Tensor, maps: Tensor, rounds: int, dilations: Sequence[int]) -> Tensor:
    """Smooth maps (q, h, w) by the similarity of neighbouring pixels (3, h, w)."""
    neighbours, samples = [], []
    for dilation in dilations:
        eight = _neighbours(pixels, dilation)
        neighbours += eight
        samples += [*eight, pixels]
    deviation = torch.stack(samples).std(dim=0, unbiased=True)
    similarity = [(-(pixels - other).abs() / (1e-8 + 0.1 * deviation)).mean(dim=0) for other in neighbours]
    weights = torch.softmax(torch.stack(similarity), dim=0)
    for _ in range(rounds):
        maps_around = [other for dilation in dilations for other in _neighbours(maps, dilation)]
        maps = torch.stack([weight * other for weight, other in zip(weights, maps_around, strict=True)]).sum(
            dim=0
        )
    return maps


@torch.inference_mode()
def plain_sclip(
    tensors: Tensors, image: np.ndarray, recipe: "MaskRecipe", text: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Labels (h, w) and class scores (c, h, w) of an image; `text`: precomputed features of the names."""
    names, classes = class_names(recipe)
    if text is None:
        text = plain_text(tensors, names, recipe.templates)
    h, w = image.shape[:2]
    factor = min(2048 / max(h, w), recipe.short_side / min(h, w))
    size = (math.floor(h * factor + 0.5), math.floor(w * factor + 0.5))
    pixels = torch.from_numpy(resize_cv2_linear(image, size)).permute(2, 0, 1).float()
    mean, std = torch.tensor([122.771, 116.746, 104.094]), torch.tensor([68.501, 66.632, 70.323])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]

    if recipe.crop is None:
        maps = _resize(_window_cosines(tensors, pixels, text, recipe.method), h, w)
    else:
        maps = _resize(_slide(tensors, pixels, text, recipe, recipe.crop), h, w)
    if recipe.pamr_steps:
        maps = plain_pamr(_resize(pixels, h, w), maps, recipe.pamr_steps, recipe.pamr_dilations)

    scores = torch.softmax(recipe.logit_scale * maps, dim=0)
    count, owner = classes[-1] + 1, torch.tensor(classes)
    if len(names) != count:
        scores = torch.stack([scores[owner == index].amax(dim=0) for index in range(count)])
    if recipe.area_thd is not None:
        area = torch.bincount(scores.argmax(dim=0).flatten(), minlength=count)
        foreground = int(area[1:].sum())
        for index in range(1, count):
            if not area[index] > recipe.area_thd * foreground:
                scores[index] = 0
    best, labels = scores.max(dim=0)
    labels[best < recipe.prob_thd] = 0
    return labels, scores


# -- TagCLIP ----------------------------------------------------------------------------------------


def _tagclip_pixels(tensors: Tensors, image: np.ndarray) -> Tensor:
    """Each side rounded up to whole patches, Pillow's bicubic, OpenAI's normalisation."""
    patch = patch_size(tensors)
    h, w = (math.ceil(side / patch) * patch for side in image.shape[:2])
    resized = Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    return (pixels - mean[:, None, None]) / std[:, None, None]


def _tagclip_positions(tensors: Tensors, rows: int, columns: int) -> Tensor:
    grid = stored_grid(tensors)
    if (rows, columns) == (grid, grid):
        return tensors["visual.positional_embedding"]
    row, image = as_image(tensors)
    resized = F.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)
    return as_table(row, resized).half().float()


def _patch_features(tensors: Tensors, pixels: Tensor, rows: int, columns: int) -> tuple[Tensor, list[Tensor]]:
    """Features of each patch (p, e), and each layer's attention between patches (p, p), mean over heads."""
    *blocks, last = vision_blocks(tensors)
    x = embed(tensors, pixels, _tagclip_positions(tensors, rows, columns))
    attention = []
    for block in blocks:
        x, logits = run_block(tensors, block, x)
        attention.append(torch.softmax(logits, dim=-1).mean(dim=0))
    self_only = torch.full((len(x), len(x)), -100.0).fill_diagonal_(0)
    x, logits = run_block(tensors, last, x, self_only)
    attention.append(torch.softmax(logits, dim=-1).mean(dim=0))
    return project(tensors, x)[1:], [weights[1:, 1:] for weights in attention]


def _scaled(column: Tensor) -> Tensor:
    """Scale to 0..1; all zeros if all values are equal."""
    column = column - column.min()
    return column / column.max() if column.max() > 0 else column


def _component_boxes(on: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Half-open box (x0, y0, x1, y1) of each 8-connected region."""
    remaining = {(int(y), int(x)) for y, x in np.argwhere(on)}
    boxes = []
    while remaining:
        stack, region = [remaining.pop()], []
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            for cell in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if cell in remaining:
                    remaining.remove(cell)
                    stack.append(cell)
        ys, xs = [y for y, _ in region], [x for _, x in region]
        boxes.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    return boxes


def _class_mask(column: Tensor, rows: int, columns: int) -> Tensor:
    """1 inside the boxes of the regions above the mean, else 0; always 0 in the last row and column."""
    scaled = _scaled(column).numpy().reshape(rows, columns)
    levels = (255 * scaled).astype(np.uint8)
    threshold = int(scaled.mean() * levels.max())
    mask = torch.zeros(rows, columns)
    for x0, y0, x1, y1 in _component_boxes(levels > threshold):
        mask[y0 : min(y1, rows - 1), x0 : min(x1, columns - 1)] = 1
    return mask.flatten()


def _refine(coarse: Tensor, attention: list[Tensor], recipe: "TagRecipe", rows: int, columns: int) -> Tensor:
    """Dual-masking attention refinement: (p, q) to (p, q)."""
    votes = torch.zeros(len(coarse), len(coarse))
    for weights in attention:
        votes += weights > weights.mean()
    average = torch.stack([attention[layer] for layer in recipe.variant.attention_layers]).mean(dim=0)
    masked = average * (votes >= recipe.variant.votes)
    refined = masked @ coarse
    for index in range(coarse.shape[1]):
        column = refined[:, index]
        if column.max() > 0:
            weights = _class_mask(column, rows, columns)[None, :] * masked
            refined[:, index] = weights @ coarse[:, index]
    return refined


def _global_score(tensors: Tensors, crop: Tensor, mask: Tensor, text: Tensor) -> Tensor:
    """Probability of every text for a crop (3, h, w); the class token attends only to a mask (h, w)."""
    grid = stored_grid(tensors)
    side = grid * patch_size(tensors)
    visible = F.interpolate(mask[None, None].float(), size=(grid, grid), mode="nearest").flatten()
    bias = torch.zeros(1 + grid * grid, 1 + grid * grid)
    bias[0, 1:][visible == 0] = -1000
    x = embed(tensors, _resize(crop, side, side), tensors["visual.positional_embedding"])
    for block in vision_blocks(tensors):
        x, _ = run_block(tensors, block, x, bias)
    feature = project(tensors, x)[0]
    return torch.softmax(tensors["logit_scale"].exp() * (text @ (feature / feature.norm())), dim=0)


def _reidentify(
    tensors: Tensors, pixels: Tensor, refined: Tensor, text: Tensor, recipe: "TagRecipe", rows: int
) -> tuple[Tensor, list[int]]:
    """Class-wise re-identification: final scores (c,), and the re-identified classes."""
    patch, columns = patch_size(tensors), len(refined) // rows
    local = refined.amax(dim=0)[: len(recipe.words)]
    low, high = refined.min(), refined.max()
    candidates = torch.nonzero(local > low + recipe.variant.candidate_tau * (high - low)).flatten().tolist()
    final, reidentified = local.clone(), []
    for index in candidates:
        mask = _scaled(refined[:, index]).reshape(rows, columns) > recipe.variant.mask_tau
        if not mask.any():
            break
        ys, xs = torch.nonzero(mask.any(dim=1)).flatten(), torch.nonzero(mask.any(dim=0)).flatten()
        x1, x2 = int(xs[0]), min(int(xs[-1]) + 1, columns - 1)
        y1, y2 = int(ys[0]), min(int(ys[-1]) + 1, rows - 1)
        if x1 == x2 or y1 == y2:
            break
        crop = pixels[:, patch * y1 : patch * y2, patch * x1 : patch * x2]
        score = _global_score(tensors, crop, mask[y1:y2, x1:x2], text)[index]
        final[index] = recipe.variant.fusion * local[index] + (1 - recipe.variant.fusion) * score
        reidentified.append(index)
    return final, reidentified


@torch.inference_mode()
def plain_patch_scores(
    tensors: Tensors, image: np.ndarray, recipe: "TagRecipe", text: Tensor
) -> tuple[Tensor, Tensor, int]:
    """Preprocessed image (3, h, w), refined scores (p, q) of its patches, and the number of patch rows."""
    pixels = _tagclip_pixels(tensors, image)
    rows, columns = (side // patch_size(tensors) for side in pixels.shape[1:])
    features, attention = _patch_features(tensors, pixels, rows, columns)
    features = features / features.norm(dim=1, keepdim=True)
    coarse = torch.softmax(tensors["logit_scale"].exp() * (features @ text.T), dim=1)
    refined = _refine(coarse, attention, recipe, rows, columns) if recipe.variant.dmar else coarse
    return pixels, refined, rows


@torch.inference_mode()
def plain_tagclip(
    tensors: Tensors, image: np.ndarray, recipe: "TagRecipe", text: Tensor | None = None
) -> tuple[Tensor, tuple[int, ...], list[int]]:
    """Scores (c,), tags, and the re-identified classes; `text`: precomputed features of the names."""
    if text is None:
        text = plain_text(tensors, [*recipe.words, *recipe.background], recipe.templates)
    pixels, refined, rows = plain_patch_scores(tensors, image, recipe, text)
    if recipe.variant.cwr:
        final, reidentified = _reidentify(tensors, pixels, refined, text, recipe, rows)
    else:
        final, reidentified = refined.amax(dim=0)[: len(recipe.words)], []
    low, high = final.min(), final.max()
    tags = torch.nonzero(final > low + recipe.tag_tau * (high - low)).flatten().tolist()
    return final, tuple(tags or [int(final.argmax())]), reidentified
