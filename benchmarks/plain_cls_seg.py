"""Plain implementation of CLS-SEG and CLIP-ES: from the tags of an image to its masks.

A separate forward pass of the image tower; then, for each tag, the last block forward and backward, the
affinity normalised and squared, and the map resized to the image. Nothing is shared between tags, or with the
forward pass of tagging; only the gradients of the weights, which the authors' program computes and discards,
are omitted.

Written from the definitions only; see `benchmarks.plain`, whose image preprocessing and flood fill it uses.
The CRF is `tagmask.refine.crf`: only its input and output are implemented here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import _component_boxes, _tagclip_pixels
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
    qkv,
    run_block,
    vision_blocks,
)
from tagmask.refine.crf import CRF_SETTINGS, dense_crf

if TYPE_CHECKING:
    from tagmask.settings.recipes import TagFirstRecipe

__all__ = ["mask_names", "plain_cams", "plain_cls_seg", "plain_crf_image", "plain_planes"]

IGNORE_INDEX = 255
"""Label of pixels below the confidence threshold."""
TINY = 1e-7


def mask_names(recipe: "TagFirstRecipe") -> list[str]:
    """Text prompts of a recipe's masks: every class, then the background names."""
    return [*(recipe.prompts or recipe.words), *recipe.background]


# -- Forward pass of the tower -------------------------------------------------------------------------------


def _positions(tensors: Tensors, rows: int, columns: int) -> Tensor:
    """Position table resized and rounded to float16, even at its stored size."""
    row, image = as_image(tensors)
    resized = F.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)
    return as_table(row, resized).half().float()


def _between_patches(logits: Tensor) -> Tensor:
    """Attention between patches (p, p) from logits (heads, n, n): mean over heads, no class token."""
    return torch.softmax(logits, dim=-1).mean(dim=0)[1:, 1:]


@torch.no_grad()
def _trunk(tensors: Tensors, image: np.ndarray) -> tuple[Tensor, list[Tensor], int]:
    """Tokens before the last block, attention of the blocks before it, and the number of patch rows."""
    pixels = _tagclip_pixels(tensors, image)
    rows, columns = (side // patch_size(tensors) for side in pixels.shape[1:])
    x = embed(tensors, pixels, _positions(tensors, rows, columns))
    attention = []
    for block in vision_blocks(tensors)[:-1]:
        x, logits = run_block(tensors, block, x)
        attention.append(_between_patches(logits))
    return x, attention, rows


# -- Grad-CAM of a probability -------------------------------------------------------------------------------


def _scaled(z: Tensor) -> Tensor:
    z = z - z.min()
    return z / (TINY + z.max())


def _cam(tensors: Tensors, x: Tensor, text: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Map (p,) of one tag, row `index` of `text`, and the last block's attention (p, p)."""
    block = vision_blocks(tensors)[-1]
    u = norm(tensors, f"{block}.ln_1", x).requires_grad_()
    q, k, v = qkv(tensors, block, u)
    logits = (q * HEAD**-0.5) @ k.transpose(-2, -1)
    tokens = finish(tensors, block, x, torch.softmax(logits, dim=-1) @ v)
    feature = norm(tensors, "visual.ln_post", tokens)[1:].mean(dim=0) @ tensors["visual.proj"]
    feature = feature / feature.norm()
    probability = torch.softmax(tensors["logit_scale"].exp() * (text @ feature), dim=0)[index]
    (gradient,) = torch.autograd.grad(probability, u)
    weights = gradient[1:].mean(dim=0)
    cam = (weights * u.detach()[1:]).sum(dim=1).clamp(min=0)
    return _scaled(_scaled(cam)), _between_patches(logits.detach())


# -- Affinity ------------------------------------------------------------------------------------------------


def _affinity(attention: Sequence[Tensor], layers: Sequence[int]) -> Tensor:
    """Three rounds of column and row normalisation; symmetrised; squared."""
    t = torch.stack([attention[layer] for layer in layers]).mean(dim=0)
    for _ in range(3):
        t = t / t.sum(dim=0, keepdim=True)
        t = t / t.sum(dim=1, keepdim=True)
    t = (t + t.T) / 2
    return t @ t


def _box_mask(cam: Tensor, threshold: float, rows: int) -> Tensor:
    """1 inside the boxes of the regions above the threshold, else 0; always 0 in the last row and column."""
    levels = (255 * cam.numpy()).astype(np.uint8).reshape(rows, -1)
    columns = levels.shape[1]
    mask = torch.zeros(rows, columns)
    for x0, y0, x1, y1 in _component_boxes(levels > int(threshold * int(levels.max()))):
        mask[y0 : min(y1, rows - 1), x0 : min(x1, columns - 1)] = 1
    return mask.flatten()


def plain_cams(
    tensors: Tensors, image: np.ndarray, recipe: "TagFirstRecipe", tags: Sequence[int], text: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Map (rows, columns) of each tag, before and after refinement, 0..1; `text` as for `plain_cls_seg`."""
    text = text.clone()  # a tensor of inference mode cannot take part in autograd
    competing = torch.cat([text[list(tags)], text[len(recipe.words) :]])
    x, attention, rows = _trunk(tensors, image)
    cams = []
    for index in range(len(tags)):
        cam, last = _cam(tensors, x, competing, index)
        affinity = _affinity([*attention, last], recipe.variant.attention_layers)
        masked = affinity * _box_mask(cam, recipe.variant.box_threshold, rows)[None, :]
        refined = _scaled(masked @ cam)
        cams.append((cam.reshape(rows, -1), refined.reshape(rows, -1)))
    return cams


# -- Full size, labels ---------------------------------------------------------------------------------------


def _bilinear(n: int, size: int) -> Tensor:
    """Matrix (size, n) for linear resizing with half-pixel centres; edges are replicated."""
    matrix = np.zeros((size, n), np.float32)
    for i in range(size):
        at = min(max((i + 0.5) * n / size - 0.5, 0), n - 1)
        low = int(at)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, n - 1)] += at - low
    return torch.from_numpy(matrix)


def plain_planes(
    tensors: Tensors, image: np.ndarray, recipe: "TagFirstRecipe", tags: Sequence[int], text: Tensor
) -> Tensor:
    """Planes (k, h, w): background, if the recipe has one, then tags; `text` as for `plain_cls_seg`."""
    h, w = image.shape[:2]
    cams = [refined for _, refined in plain_cams(tensors, image, recipe, tags, text)]
    full = [_bilinear(len(cam), h) @ cam @ _bilinear(cam.shape[1], w).T for cam in cams]
    planes = torch.stack(full).to(torch.float16 if recipe.variant.half_planes else torch.float32)
    if recipe.variant.background_power is None:
        return planes
    background = (1 - planes.amax(dim=0, keepdim=True)) ** recipe.variant.background_power
    return torch.cat([background, planes])


def plain_crf_image(image: np.ndarray) -> np.ndarray:
    """Image that the authors' program gives to the CRF: BGR minus the mean; negative values wrap around."""
    centred = image[:, :, ::-1].astype(np.float32) - np.float32([104.008, 116.669, 122.675])
    return (np.trunc(centred).astype(np.int32) & 255).astype(np.uint8)


def _crf_planes(planes: Tensor, image: np.ndarray, recipe: "TagFirstRecipe") -> Tensor:
    """Planes after the CRF, with energies computed in the planes' precision."""
    assert recipe.crf is not None
    values = planes.numpy()
    floor, one = values.dtype.type(1e-5), values.dtype.type(1)
    energies = -np.log(np.clip(values, floor, one))
    guide = plain_crf_image(image) if recipe.crf_wrapped else image
    return dense_crf(torch.from_numpy(np.exp(-energies.astype(np.float32))), guide, CRF_SETTINGS[recipe.crf])


def plain_cls_seg(
    tensors: Tensors,
    image: np.ndarray,
    recipe: "TagFirstRecipe",
    tags: Sequence[int],
    text: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Labels (h, w) and planes (k, h, w) of the given tags; `text`: precomputed features of `mask_names`.

    Label 0 is the background and label c + 1 class c; without a background plane label c is class c.
    """
    if text is None:
        text = plain_text(tensors, mask_names(recipe), recipe.templates)
    planes = plain_planes(tensors, image, recipe, tags, text)
    if recipe.crf:
        planes = _crf_planes(planes, image, recipe)
    keys = list(tags) if recipe.variant.background_power is None else [0, *(tag + 1 for tag in tags)]
    best = planes.float().amax(dim=0)
    labels = torch.tensor(keys)[torch.from_numpy(planes.numpy().argmax(axis=0))]  # the first wins ties
    if recipe.variant.confidence is not None:
        labels[best < recipe.variant.confidence] = IGNORE_INDEX
    return labels, planes
