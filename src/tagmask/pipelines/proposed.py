"""Masks whose regions come from elsewhere: each proposed region gets one class."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tagmask.confidence import WinningScores
from tagmask.pipelines.labelled import LabelledImage
from tagmask.regions.proposals import RegionScores

__all__ = ["label_regions"]


def label_regions(
    image: LabelledImage, scores: RegionScores, classes: Sequence[int], *, lowest: float, otherwise: int
) -> LabelledImage:
    """Give each region the class of its mean scores; smaller regions lie over larger ones.

    Pixels in no region keep their label and their score.

    Args:
        image: labelled pixel by pixel.
        scores: of each region: all rows were added.
        classes: the label of each score map.
        lowest: regions whose greatest mean score is below it get the label `otherwise`, as pixels do.
        otherwise: the label of the background, or the ignore index.
    """
    means = scores.means()
    if not means.size:
        return image
    best = means.max(axis=1)
    labels = np.where(best < lowest, otherwise, np.array(classes)[means.argmax(axis=1)]).astype(np.int32)
    index = scores.proposals.index_map()
    covered = index >= 0
    painted, winning = image.labels.copy(), image.winning
    painted[covered] = labels[index[covered]]
    if winning is not None:
        plane = winning.plane.copy()
        plane[covered] = best[index[covered]]
        winning = WinningScores(plane, winning.greatest_foreground)
    return replace(image, labels=painted, winning=winning)
