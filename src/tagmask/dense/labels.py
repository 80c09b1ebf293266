"""Turn cosine maps into labels: upsample, refine, softmax over names, best class, thresholds.

Images are processed in strips of rows, so memory does not grow with the image's size. As coded by SCLIP's
authors, the softmax runs over *names*, not classes; a class then takes the score of its best name.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from tagmask.confidence import WinningScores
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.prompts import Names, merge_names
from tagmask.dense.sliding import SlidingSettings
from tagmask.dense.windows import resize_matrix
from tagmask.refine.pamr import halo, pamr

__all__ = ["PixelLabels", "label_pixels", "refined_rows", "strip_height"]

_STRIP = 2**24
"""Numbers in one strip of full-resolution maps: 64 MiB in float32."""
_REFINED_STRIP = 2**26
"""The same with PAMR, margins included: 256 MiB. The margins of narrow strips would be most of the work."""


Strip = tuple[int, int, Float[Tensor, "c strip w"]]
"""First row, last row (not included), scores of the classes in between."""


@dataclass(frozen=True, eq=False)
class PixelLabels:
    """The label of every pixel of one image, and what it was decided by, on request."""

    labels: Integer[np.ndarray, "h w"]
    """int32, at the image's own size."""
    scores: Float[np.ndarray, "c h w"] | None
    """Score of every class at every pixel."""
    winning: WinningScores | None
    """The greatest score of every pixel."""


def label_pixels(
    maps: CosineMaps,
    names: Names,
    settings: SlidingSettings,
    *,
    background: bool,
    ignore_index: int,
    keep_scores: bool = False,
    keep_winning: bool = False,
    observe: Callable[[int, Float[np.ndarray, "c strip w"]], None] | None = None,
) -> PixelLabels:
    """Label every pixel of one image.

    The first label wins ties. With `area_thd`, classes that cover too little of the foreground get score 0,
    and the labels are computed again.

    Args:
        maps: the cosines of one image.
        names: classes and their names.
        settings: of the sliding-window inference.
        background: the first class is the background: it gets the pixels below `settings.prob_thd` and is
            exempt from `settings.area_thd`.
        ignore_index: the label of pixels below `settings.prob_thd` if there is no background.
        keep_scores: also return the score of every class at every pixel.
        keep_winning: also return the greatest score of every pixel.
        observe: called with each strip's first row and the score of every class in it.
    """
    height, width = maps.size
    labels = np.empty((height, width), np.int32)
    scores = np.empty((len(names.classes), height, width), np.float32) if keep_scores else None
    winning = np.empty((height, width), np.float32) if keep_winning else None
    greatest_foreground = 0.0
    # The softmax preserves the order of the cosines, so it is skipped if only the best class is needed.
    needs_softmax = (
        keep_scores
        or keep_winning
        or observe is not None
        or settings.prob_thd > 0
        or settings.area_thd is not None
        or settings.logit_scale <= 0
        or maps.corrections is not None
    )
    strips: Iterable[Strip] = class_scores(maps, names, settings, softmax=needs_softmax)
    dropped = torch.zeros(len(names.classes), dtype=torch.bool, device=maps.cosines.device)
    if settings.area_thd is not None:
        # An image of one strip shares its scores between both passes; larger images compute them twice.
        one_strip = strip_height(maps, settings) >= height
        strips = list(strips) if one_strip else strips
        dropped = small_classes(strips, len(names.classes), settings.area_thd, background=background)
        strips = strips if one_strip else class_scores(maps, names, settings)
    low_score_label = 0 if background else ignore_index
    for top, bottom, strip in strips:
        if settings.area_thd is not None:
            strip[dropped] = 0
        best, index = strip.max(dim=0)
        if settings.prob_thd > 0:
            index = torch.where(best < settings.prob_thd, low_score_label, index)
        labels[top:bottom] = index.cpu().numpy()
        if scores is not None:
            scores[:, top:bottom] = strip.cpu().numpy()
        if observe is not None:
            observe(top, strip.cpu().numpy())
        if winning is not None:
            # With a head, scores are no probabilities: the least-squares fit may leave 0..1.
            sure = best if maps.corrections is None else best.clamp(0, 1)
            winning[top:bottom] = sure.cpu().numpy()
            if len(strip) > background:
                greatest = float(strip[int(background) :].max())
                greatest_foreground = max(
                    greatest_foreground, greatest if maps.corrections is None else min(greatest, 1.0)
                )
    return PixelLabels(
        labels, scores, None if winning is None else WinningScores(winning, greatest_foreground)
    )


def small_classes(
    strips: Iterable[Strip], classes: int, share: float, *, background: bool
) -> Bool[Tensor, " c"]:
    """Mark foreground classes that win at most `share` of the pixels won by any foreground class."""
    # max(...).indices instead of argmax: equal, but much faster over this dimension.
    best = (strip.max(dim=0).indices.flatten() for _, _, strip in strips)
    areas = sum(torch.bincount(labels, minlength=classes) for labels in best)
    assert isinstance(areas, Tensor)  # an image has at least one strip
    foreground = areas[1:] if background else areas
    small = areas <= share * foreground.sum()
    if background:
        small[0] = False
    return small


def class_scores(
    maps: CosineMaps, names: Names, settings: SlidingSettings, *, softmax: bool = True
) -> Iterator[Strip]:
    """Yield strips (top, bottom, scores): PAMR if enabled, softmax over names, best name of each class.

    Without the softmax the scores are cosines; their order is the same. A head's corrections, refined like
    the cosines, are added to the probabilities of the classes.
    """
    height, _ = maps.size
    strip = strip_height(maps, settings)
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        planes = refined_rows(maps, settings, top, bottom)
        scores, corrections = planes[: len(names.texts)], planes[len(names.texts) :]
        if softmax:
            scores = torch.softmax(scores * settings.logit_scale, dim=0)
        merged = merge_names(scores, names)
        yield top, bottom, merged if maps.corrections is None else merged + corrections


def refined_rows(
    maps: CosineMaps, settings: SlidingSettings, top: int, bottom: int
) -> Float[Tensor, "planes strip w"]:
    """Rows top..bottom of `CosineMaps.rows` after PAMR, equal to the same rows of the whole image."""
    if not settings.pamr_steps:
        return maps.rows(top, bottom)
    margin = _margin(settings)
    first, last = max(top - margin, 0), min(bottom + margin, maps.size[0])
    refined = pamr(
        maps.rows(first, last),
        _guide_rows(maps, first, last),
        steps=settings.pamr_steps,
        dilations=settings.pamr_dilations,
    )
    return refined[:, top - first : bottom - first]


def _margin(settings: SlidingSettings) -> int:
    return halo(settings.pamr_steps, settings.pamr_dilations) if settings.pamr_steps else 0


def strip_height(maps: CosineMaps, settings: SlidingSettings) -> int:
    """Number of rows of the full-size maps to process at a time."""
    # At least the margin, or most of the work would be recomputing margins.
    margin = _margin(settings)
    numbers = _REFINED_STRIP if margin else _STRIP
    return max(16, margin, numbers // (len(maps.cosines) * maps.size[1]) - 2 * margin)


def _guide_rows(maps: CosineMaps, top: int, bottom: int) -> Float[Tensor, "3 strip w"]:
    """Rows of the normalised image, resized bilinearly to its original size."""
    height, width = maps.size
    down = resize_matrix(maps.pixels.shape[-2], height)[top:bottom].to(maps.pixels.device)
    across = resize_matrix(maps.pixels.shape[-1], width).to(maps.pixels.device)
    return down @ maps.pixels @ across.T
