"""Attention maps: the last block's attention of chosen patches, under any of the dense methods.

As in figures 2 and 4 of SCLIP. CLIP's original attention hardly depends on the query patch; the dense methods
replace it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec
from tagmask.dense.rule import SecondPassContext, block_attention, extract_shared_features
from tagmask.dense.sliding import SlidingSettings, position_rule, preprocess
from tagmask.errors import InputError
from tagmask.papers import tagclip
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.types import Attention, Image, Size, TextFeatures

__all__ = ["WHOLE", "Points", "check_points", "layer_attention", "patch_attention", "patch_of"]

Points = Sequence[tuple[int, int]]
"""Pixels (x, y), counted from 0 at the top left."""

WHOLE = SlidingSettings(crop=None)
"""The whole image at once, with its short side at 336 pixels."""


def check_points(points: Points, size: Size) -> None:
    """Check that points lie in the image.

    Args:
        points: pixels (x, y).
        size: of the image, (h, w).

    Raises:
        InputError: a point is outside the image.

    Example:
        >>> check_points([(0, 0), (64, 0)], (48, 64))
        Traceback (most recent call last):
        tagmask.errors.InputError: 64,0 is outside the image of 64 x 48 pixels (w x h). Give 0..63,0..47.
    """
    h, w = size
    for x, y in points:
        if not (0 <= x < w and 0 <= y < h):
            raise InputError(
                f"{x},{y} is outside the image of {w} x {h} pixels (w x h). Give 0..{w - 1},0..{h - 1}."
            )


def patch_of(point: tuple[int, int], size: Size, grid: Size) -> tuple[int, int]:
    """Return row and column of the patch at a pixel (x, y); the grid spans the whole image, as for masks.

    Example:
        >>> patch_of((319, 100), size=(240, 320), grid=(21, 28))
        (8, 27)
    """
    (x, y), (h, w), (gh, gw) = point, size, grid
    return (2 * y + 1) * gh // (2 * h), (2 * x + 1) * gw // (2 * w)


@torch.inference_mode()
def patch_attention(
    clip: Clip,
    image: Image,
    points: Points,
    methods: Sequence[str],
    settings: SlidingSettings = WHOLE,
    texts: TextFeatures | None = None,
) -> Float32[np.ndarray, "methods points gh gw"]:
    """Return the attention weights of the patch at each point over all patches, in the last block.

    Weights are averaged over heads; the class token is left out. For a method with several streams, this is
    the first; for a method whose block keeps each patch's own value, it is 1 at that patch. Methods that
    interpolate the position table in the same way share one forward pass through all blocks but the last.

    Args:
        clip: the frozen model.
        image: upright RGB; encoded whole, whatever windows the settings have.
        points: pixels (x, y) of the image, one query patch each.
        methods: dense methods of `tagmask.methods()`.
        settings: the short side after scaling, the position rule and the logit scale.
        texts: unit text features for ResCLIP's second pass. None: the attention of its first pass.

    Returns:
        The unscaled weights: a row sums to the method's attention row, less the class token's weight.

    Raises:
        InputError: a point outside the image, or an unknown method.
    """
    size = (image.shape[0], image.shape[1])
    check_points(points, size)
    depth = len(clip.vision.blocks)
    rules = [dense_rule(name, depth) for name in methods]
    tables = [position_rule(settings, rule) for rule in rules]
    pixels = preprocess(clip, image, settings.short_side)[None]
    context = None if texts is None else SecondPassContext(pixels, texts, settings.logit_scale)
    grid = clip.vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    patches = _patches(points, size, grid)
    maps = np.empty((len(methods), len(points), *grid), np.float32)
    for i, x in extract_shared_features(clip.vision, pixels, rules, tables):
        rows = _rows(block_attention(x, rules[i], context), patches, x.patches)
        maps[i] = rows.reshape(len(points), *grid).cpu().numpy()
    return maps


@torch.inference_mode()
def layer_attention(
    clip: Clip, image: Image, points: Points, settings: TagclipSettings
) -> tuple[tuple[str, ...], Float32[np.ndarray, "maps points gh gw"]]:
    """Return the attention of the patch at each point in every layer, and what TagCLIP's DMAR makes of it.

    Args:
        clip: the frozen model.
        image: upright RGB; encoded at its own size.
        points: pixels (x, y) of the image, one query patch each.
        settings: of TagCLIP.

    Returns:
        A name per map, and the maps: each layer's head-averaged attention; the mean of the settings' layers;
        the number of layers that vote for each patch; and W, the mean where enough layers agree.

    Raises:
        InputError: a point outside the image.
    """
    size = (image.shape[0], image.shape[1])
    check_points(points, size)
    pixels = tagclip.preprocess_bicubic(clip, image, settings)
    depth = len(clip.vision.blocks)
    every = CaptureSpec(attention=frozenset(range(depth - 1)))
    settings = replace(settings, dmar=True, dmar_masks="both")
    tower = tagclip.encode_image(clip, pixels, settings, extra=every)
    layers = [layer[0, 1:, 1:] for layer in (*tower.attention.values(), tower.last_attention)]
    attention = tagclip.patch_attention(tower, settings)
    votes = tower.count_votes(settings.vote_mean)[0]
    chosen = tagclip.scaled_layers(settings.attention_layers, depth)
    names = [f"layer {layer}" for layer in range(depth)]
    names += [f"mean of {', '.join(map(str, chosen))}", "layers that agree", "masked mean"]
    patches = _patches(points, size, tower.grid)
    rows = torch.stack(
        [layer[patches] for layer in (*layers, attention.averaged, votes.float(), attention.masked)]
    )
    return tuple(names), rows.unflatten(2, tower.grid).cpu().numpy()


def _patches(points: Points, size: Size, grid: Size) -> list[int]:
    """Flat index of the patch at each point."""
    return [row * grid[1] + column for row, column in (patch_of(point, size, grid) for point in points)]


def _rows(weights: Attention | None, patches: Sequence[int], count: int) -> Float[Tensor, "points patches"]:
    """Rows of some of `count` patches, averaged over heads, without the class token."""
    if weights is None:
        return torch.eye(count)[list(patches)]
    # The class token, if there is one, comes first.
    return weights[0, :, -count:, -count:][:, list(patches)].float().mean(dim=0)
