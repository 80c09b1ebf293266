"""Turn cosine maps into labels: upsample, refine, softmax over names, best class, thresholds.

Images are processed in strips of rows, so memory does not grow with the image's size. As coded by SCLIP's
authors, the softmax runs over *names*, not classes; a class then takes the score of its best name.

Where only the best class is asked, or its probability, the scores of the others are not kept
(`dense.best_texts`). The labels then differ only where two classes tie within rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from tagmask.confidence import WinningScores
from tagmask.dense.best_texts import BestTexts, Competition, best_of_planes, best_of_tiles
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.prompts import Names, merge_names
from tagmask.dense.sliding import SlidingSettings
from tagmask.dense.windows import resize_matrix
from tagmask.refine.pamr import Rows, held_numbers, pamr, pamr_strips

__all__ = ["PixelLabels", "class_scores", "label_pixels", "refined_strips"]

_STRIP = 2**24
"""Numbers in one strip of full-resolution maps: 64 MiB in float32."""
_WHOLE = 2**22
"""Numbers of maps that PAMR refines at once on a processor: 16 MiB, about its cache."""
_REFINED = 2**28
"""Numbers that PAMR may hold: 1 GiB. More texts than that are refined in groups."""
_SHARED = 2**26
"""Scores that are kept for the second of two passes: 256 MiB. Others are computed twice."""


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
    needs_scores = (
        keep_scores
        or observe is not None
        or settings.logit_scale <= 0
        or maps.corrections is not None
        or maps.hidden is not None
    )
    if not needs_scores:
        found = _label_by_best(maps, names, settings, background, ignore_index, keep_winning)
        if found is not None:
            return found
    height, width = maps.size
    labels = np.empty((height, width), np.int32)
    scores = np.empty((len(names.classes), height, width), np.float32) if keep_scores else None
    winning = np.empty((height, width), np.float32) if keep_winning else None
    greatest_foreground = 0.0
    strips: Iterable[Strip] = class_scores(maps, names, settings)
    shared = len(names.classes) * height * width <= _SHARED
    dropped = torch.zeros(len(names.classes), dtype=torch.bool, device=maps.cosines.device)
    if settings.area_thd is not None:
        strips = list(strips) if shared else strips
        areas = count_winners((strip.max(dim=0).indices for _, _, strip in strips), len(names.classes))
        dropped = small_classes(areas, settings.area_thd, background=background)
        strips = strips if shared else class_scores(maps, names, settings)
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


def _label_by_best(
    maps: CosineMaps,
    names: Names,
    settings: SlidingSettings,
    background: bool,
    ignore_index: int,
    keep_winning: bool,
) -> PixelLabels | None:
    """Label every pixel by its best text alone; None if every class covers too little."""
    height, width = maps.size
    labels = np.empty((height, width), np.int32)
    winning = np.empty((height, width), np.float32) if keep_winning else None
    greatest_foreground = 0.0
    owners = torch.tensor(names.owners, device=maps.cosines.device)
    competition = Competition(
        torch.arange(len(owners), device=owners.device),
        settings.logit_scale,
        background=names.owners.count(0) if background and keep_winning else 0,
        count=len(owners) if keep_winning or settings.prob_thd > 0 else None,
    )
    strips: Iterable[tuple[int, int, BestTexts]] = best_strips(maps, settings, competition)
    if settings.area_thd is not None:
        whole = BestTexts.joined([best for _, _, best in strips], 0)
        areas = count_winners([owners[whole.index]], len(names.classes))
        dropped = small_classes(areas, settings.area_thd, background=background)
        if dropped.all():
            return None
        strips = [(0, height, whole)]
        if dropped.any():
            remaining = replace(competition, texts=competition.texts[~dropped[owners]], count=None)
            strips = (
                (top, bottom, best.with_total_of(whole.rows(top, bottom)))
                for top, bottom, best in best_strips(maps, settings, remaining)
            )
    low_score_label = 0 if background else ignore_index
    for top, bottom, best in strips:
        index = owners[best.index]
        if best.total is not None:
            probability = best.total.reciprocal()
            if settings.prob_thd > 0:
                index = torch.where(probability < settings.prob_thd, low_score_label, index)
            if winning is not None:
                winning[top:bottom] = probability.cpu().numpy()
                if best.foreground is not None:
                    greatest = ((best.foreground - best.score).exp() * probability).max()
                    greatest_foreground = max(greatest_foreground, float(greatest))
        labels[top:bottom] = index.cpu().numpy()
    return PixelLabels(labels, None, None if winning is None else WinningScores(winning, greatest_foreground))


def best_strips(
    maps: CosineMaps, settings: SlidingSettings, competition: Competition
) -> Iterator[tuple[int, int, BestTexts]]:
    """Yield strips (top, bottom, best texts), after PAMR if enabled.

    With PAMR, many texts are refined in groups and the best of each group compete, so memory does not grow
    with their number.
    """
    if not settings.pamr_steps:
        yield from best_of_tiles(maps, competition)
        return
    best: BestTexts | None = None
    groups = competition.texts.split(_group_size(maps, settings))
    for group in groups:
        strips = _refined_best(maps, settings, competition, group)
        if len(groups) == 1:
            yield from strips
            return
        found = BestTexts.joined([part for _, _, part in strips], 0)
        best = found if best is None else best.against(found)
    if best is not None:
        yield 0, maps.size[0], best


def _refined_best(
    maps: CosineMaps, settings: SlidingSettings, competition: Competition, group: Int[Tensor, " n"]
) -> Iterator[tuple[int, int, BestTexts]]:
    """The best of a group of texts after PAMR; sums of exponentials are over the group."""
    local = replace(
        competition,
        texts=torch.arange(len(group), device=group.device),
        background=int((group < competition.background).sum()),
        count=None if competition.count is None else len(group),
    )
    for top, bottom, planes in refined_strips(replace(maps, cosines=maps.cosines[group]), settings):
        best = best_of_planes(planes, local)
        yield top, bottom, replace(best, index=group[best.index].int())


def _group_size(maps: CosineMaps, settings: SlidingSettings) -> int:
    """Number of texts that are refined at the same time."""
    return max(1, _REFINED // held_numbers(maps.size[1], settings.pamr_steps, settings.pamr_dilations))


def count_winners(best: Iterable[Int[Tensor, "strip w"]], classes: int) -> Int[Tensor, " c"]:
    """Number of pixels that each class wins."""
    areas = sum(torch.bincount(labels.flatten(), minlength=classes) for labels in best)
    assert isinstance(areas, Tensor)  # an image has at least one strip
    return areas


def small_classes(areas: Int[Tensor, " c"], share: float, *, background: bool) -> Bool[Tensor, " c"]:
    """Mark foreground classes that win at most `share` of the pixels won by any foreground class."""
    foreground = areas[1:] if background else areas
    small = areas <= share * foreground.sum()
    if background:
        small[0] = False
    return small


def class_scores(maps: CosineMaps, names: Names, settings: SlidingSettings) -> Iterator[Strip]:
    """Yield strips (top, bottom, scores): PAMR if enabled, softmax over names, best name of each class.

    A head's corrections, refined like the cosines, are added to the probabilities of the classes.
    """
    for top, bottom, planes in refined_strips(maps, settings):
        scores, corrections = planes[: len(names.texts)], planes[len(names.texts) :]
        merged = merge_names(torch.softmax(scores * settings.logit_scale, dim=0), names)
        yield top, bottom, merged if maps.corrections is None else merged + corrections


def refined_strips(
    maps: CosineMaps, settings: SlidingSettings
) -> Iterator[tuple[int, int, Float[Tensor, "planes strip w"]]]:
    """Yield strips (top, bottom, planes) of `CosineMaps.rows`, after PAMR if enabled."""
    height, width = maps.size
    count = len(maps.cosines) + (0 if maps.corrections is None else len(maps.corrections))
    if not settings.pamr_steps:
        strip = max(1, _STRIP // (count * width))
        for top in range(0, height, strip):
            bottom = min(top + strip, height)
            yield top, bottom, maps.rows(top, bottom)
        return
    guide = _guide(maps)
    steps, dilations = settings.pamr_steps, settings.pamr_dilations
    # Accelerators are faster with the whole image, processors with strips that fit their cache.
    whole = _WHOLE if maps.cosines.device.type == "cpu" else _REFINED
    if count * height * width <= whole:
        refined = pamr(maps.rows(0, height), guide(0, height), steps=steps, dilations=dilations)
        yield 0, height, refined
        return
    yield from pamr_strips(maps.rows, guide, (count, height, width), steps=steps, dilations=dilations)


def _guide(maps: CosineMaps) -> Rows:
    """Rows of the normalised image, resized bilinearly to its original size."""
    height, width = maps.size
    down = resize_matrix(maps.pixels.shape[-2], height).to(maps.pixels.device)
    across = resize_matrix(maps.pixels.shape[-1], width).to(maps.pixels.device)
    return lambda top, bottom: down[top:bottom] @ maps.pixels @ across.T
