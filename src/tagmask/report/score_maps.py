"""Draw the steps behind tags and masks: a row per word, a column per step."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float32

from tagmask.errors import ShapeError
from tagmask.pipelines.score_maps import CamSteps, Crop, TagSteps
from tagmask.report.contact_sheet import Cell, Heading, Row, contact_sheet, resize_longest, upsample_map
from tagmask.report.heatmap import heat_overlay
from tagmask.types import Image, Size

__all__ = ["cam_sheet", "tag_sheet"]

_SIDE = 220
"""Longest side of a cell, in pixels."""
_BLANK = (236, 236, 232)
_OUTSIDE = 0.25
"""Brightness of a crop's patches that are hidden."""


def tag_sheet(image: Image, steps: TagSteps, classes: Sequence[int]) -> PIL.Image.Image:
    """Draw TagCLIP's steps for some classes.

    Args:
        image: upright RGB.
        steps: from `tag_steps`.
        classes: one row each.

    Raises:
        ShapeError: there are no classes.
    """
    headings = [
        Heading("image"),
        Heading("attention kept", "patch scores, 0 to 1, with the last block's attention"),
        Heading("coarse", "patch scores, 0 to 1, without it"),
        Heading("attention-refined", "without the class mask; relative to the best of all words"),
        Heading("class mask", "the patches that count for this word"),
        Heading("refined", "with both masks; relative to the best of all words"),
        Heading("crop", "in which a candidate is re-identified; hidden patches are dark"),
    ]
    small, size = _small(image)
    # Relative to all words, so that a word that is nowhere has a dark map.
    once, refined = (each / max(float(each.max()), 1e-30) for each in (steps.once, steps.refined))
    rows = []
    for c in classes:
        crop = steps.crops.get(c)
        cells = (
            small,
            heat_overlay(small, upsample_map(steps.kept[c], size)),
            heat_overlay(small, upsample_map(steps.coarse[c], size)),
            heat_overlay(small, upsample_map(once[c], size)),
            heat_overlay(small, _enlarged(steps.class_mask[c], size)),
            heat_overlay(small, upsample_map(refined[c], size)),
            np.full((*size, 3), _BLANK, np.uint8) if crop is None else _cropped(image, crop),
        )
        scores = [f"coarse {steps.coarse[c].max():.2f}", f"refined {steps.refined[c].max():.2f}"]
        scores += [] if crop is None else [f"crop {crop.score:.2f}"]
        tag = ", a tag" if c in steps.chosen else ""
        rows.append(Row(cells, f"{steps.words[c]}: {', '.join(scores)}, final {steps.final[c]:.2f}{tag}"))
    return contact_sheet(headings, rows)


def cam_sheet(image: Image, steps: CamSteps) -> PIL.Image.Image:
    """Draw CLIP-ES's steps, a row per tag.

    Raises:
        ShapeError: there are no tags.
    """
    if not steps.words:
        raise ShapeError("There are no tags to draw. Give tags.")
    headings = [
        Heading("image"),
        Heading("Grad-CAM", "of the word's probability among the tags and the background"),
        Heading("boxes", "around its regions: what is spread"),
        Heading("refined", "spread along the attention affinity"),
        Heading("mask", "pixels where the word has the greatest map"),
    ]
    small, size = _small(image)
    rows = []
    for word, cam, box, refined, mask in zip(
        steps.words, steps.cams, steps.boxes, steps.refined, steps.masks, strict=True
    ):
        cells = (
            small,
            heat_overlay(small, upsample_map(cam, size)),
            heat_overlay(small, _enlarged(box, size)),
            heat_overlay(small, upsample_map(refined, size)),
            heat_overlay(small, _enlarged(mask, size)),
        )
        rows.append(Row(cells, word))
    return contact_sheet(headings, rows)


def _small(image: Image) -> tuple[Cell, Size]:
    small = resize_longest(image, _SIDE)
    return small, (small.shape[0], small.shape[1])


def _enlarged(mask: Bool[np.ndarray, "_ _"], size: Size) -> Float32[np.ndarray, "h w"]:
    """Resize a mask without smoothing its edges."""
    rows, columns = ((np.arange(n) * cells) // n for n, cells in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)].astype(np.float32)


def _cropped(image: Image, crop: Crop) -> Cell:
    """Return the crop at the size of a cell, with the patches outside its mask darkened."""
    h, w = image.shape[:2]
    gh, gw = crop.mask.shape
    x0, y0, x1, y1 = crop.box
    top, bottom, left, right = y0 * h // gh, y1 * h // gh, x0 * w // gw, x1 * w // gw
    bright = _enlarged(crop.mask, (h, w))[top:bottom, left:right, None]
    part = image[top:bottom, left:right] * (_OUTSIDE + (1 - _OUTSIDE) * bright)
    longest = max(1, round(_SIDE * max((bottom - top) / h, (right - left) / w)))
    return resize_longest(part.astype(np.uint8), longest)
