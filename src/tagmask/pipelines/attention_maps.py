"""Where a patch looks: the last block's attention of chosen points, under any of the dense methods.

What SCLIP's figures 2 and 4 show. CLIP's own attention hardly depends on the patch that asks; the methods
differ in whom they let it listen to instead.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.rule import SecondPassContext, block_attention, extract_shared_features
from tagmask.dense.sliding import SlidingSettings, position_rule, preprocess_cv2
from tagmask.errors import InputError
from tagmask.types import Attention, Image, Size, TextFeatures

__all__ = ["WHOLE", "Points", "check_points", "patch_attention", "patch_of"]

Points = Sequence[tuple[int, int]]
"""(x, y) of pixels, from the left and from the top, counted from 0."""

WHOLE = SlidingSettings(crop=None)
"""The image at once, its short side 336 pixels."""


def check_points(points: Points, size: Size) -> None:
    """Refuse points that are not in the image.

    Raises:
        InputError: naming the point and the image's size.

    Example:
        >>> check_points([(0, 0), (64, 0)], (48, 64))
        Traceback (most recent call last):
        tagmask.errors.InputError: 64,0 is outside the image, 64 pixels wide and 48 high; give 0..63,0..47
    """
    h, w = size
    for x, y in points:
        if not (0 <= x < w and 0 <= y < h):
            raise InputError(
                f"{x},{y} is outside the image, {w} pixels wide and {h} high; give 0..{w - 1},0..{h - 1}"
            )


def patch_of(point: tuple[int, int], size: Size, grid: Size) -> tuple[int, int]:
    """Row and column of the patch at a pixel; the grid is spread over the image, as it is for masks.

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
    """How much the patch at each point takes from every other, in the last block, under each method.

    The mean over heads, without the class token. A method with several streams shows its first; one whose
    block only keeps each patch's own value shows that patch alone. Methods that stretch the position table
    alike share all blocks but the last.

    Args:
        clip: the frozen model.
        image: upright RGB; seen whole, whatever windows the settings have.
        points: pixels of the image.
        methods: names of `tagmask.methods()`.
        settings: the methods' own numbers and the short side after scaling.
        texts: unit features of the words that ResCLIP's second look asks for. None: its first look is shown.

    Returns:
        The weights themselves: a row sums to what the method's rows do, less the class token's part.

    Raises:
        InputError: a point outside the image, or an unknown method.
    """
    size = (image.shape[0], image.shape[1])
    check_points(points, size)
    depth = len(clip.vision.blocks)
    rules = [dense_rule(name, depth) for name in methods]
    tables = [position_rule(settings, rule) for rule in rules]
    pixels = preprocess_cv2(clip, image, settings.short_side)[None]
    context = None if texts is None else SecondPassContext(pixels, texts, settings.logit_scale)
    grid = clip.vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    columns = grid[1]
    patches = [row * columns + column for row, column in (patch_of(point, size, grid) for point in points)]
    found = np.empty((len(methods), len(points), *grid), np.float32)
    for i, x in extract_shared_features(clip.vision, pixels, rules, tables):
        rows = _rows(block_attention(x, rules[i], context), patches, x.patches)
        found[i] = rows.reshape(len(points), *grid).cpu().numpy()
    return found


def _rows(weights: Attention | None, patches: Sequence[int], count: int) -> Float[Tensor, "points patches"]:
    """Rows of some of `count` patches, head-averaged, class token dropped where there is one."""
    if weights is None:
        return torch.eye(count)[list(patches)]
    # The class token comes first where there is one.
    return weights[0, :, -count:, -count:][:, list(patches)].float().mean(dim=0)
