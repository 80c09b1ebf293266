"""Turn averaged planes in 0..1 into labels: the background is what no plane claims.

Unlike cosines (`dense.labels`), planes are final scores: no scale, no softmax, no threshold.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32

from tagmask.confidence import WinningScores
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.labels import PixelLabels, refined_strips
from tagmask.dense.sliding import SlidingSettings

__all__ = ["label_planes"]


def label_planes(
    maps: CosineMaps,
    classes: Sequence[int],
    settings: SlidingSettings,
    *,
    background: bool,
    empty_label: int,
    keep_scores: bool = False,
    keep_winning: bool = False,
    observe: Callable[[int, Float32[np.ndarray, "c strip w"]], None] | None = None,
) -> PixelLabels:
    """Label every pixel of one image by its planes, after PAMR if enabled.

    Args:
        maps: the planes of the windows, in place of cosines; at least one.
        classes: the label of each plane.
        settings: of the sliding-window inference.
        background: label 0 has the plane 1 - max of the others, and wins ties.
        empty_label: without a background, the label of pixels where every plane is 0.
        keep_scores: also return the planes, that of the background first.
        keep_winning: also return the greatest score of every pixel.
        observe: called with the first row and the planes of each strip, that of the background first.
    """
    height, width = maps.size
    first = int(background)
    labels = np.empty((height, width), np.int32)
    scores = np.empty((first + len(classes), height, width), np.float32) if keep_scores else None
    winning = np.empty((height, width), np.float32) if keep_winning else None
    greatest_foreground = 0.0
    table = torch.tensor(list(classes), device=maps.cosines.device)
    for top, bottom, planes in refined_strips(maps, settings):
        best, index = planes.max(dim=0)
        label = table[index]
        if background:
            rest = 1 - best
            label = torch.where(rest >= best, 0, label)
        else:
            rest = torch.zeros_like(best)
            label = torch.where(best > 0, label, empty_label)
        labels[top:bottom] = label.cpu().numpy()
        shown = torch.cat([rest[None], planes]) if background else planes
        if scores is not None:
            scores[:, top:bottom] = shown.cpu().numpy()
        if observe is not None:
            observe(top, shown.cpu().numpy())
        if winning is not None:
            winning[top:bottom] = torch.maximum(best, rest).cpu().numpy()
            greatest_foreground = max(greatest_foreground, float(best.max()))
    return PixelLabels(
        labels, scores, None if winning is None else WinningScores(winning, greatest_foreground)
    )
