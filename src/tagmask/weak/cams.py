"""Turn class activation maps (CAMs) into masks at a threshold.

An image has a map (h, w) in 0..1, at its own size, for each class of its ground-truth tags; classes count
from 0, without the background. `cam_files` reads them.

    t     background score of every pixel: the threshold
    mask  argmax over {t, maps}: 0 for the background, class + 1 for a class

With t = 0.5 the mask is that of CLIP-ES, whose background is 1 - the highest map: either exceeds the other
where it exceeds 0.5, also in the float16 of its files.

Source: MCTformer (Xu et al., CVPR 2022); CLIP-ES (Lin et al., CVPR 2023).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8

from tagmask.errors import InputError, ShapeError
from tagmask.papers import clip_es
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.pipelines.labelled import apply_crf
from tagmask.types import Image, Size
from tagmask.weak.cam_files import Cams, read_cams
from tagmask.weak.labels import IGNORE_INDEX

__all__ = ["THRESHOLDS", "Cams", "Sweep", "cam_labels", "read_cams", "refined_labels", "sweep"]

THRESHOLDS: Final[tuple[float, ...]] = tuple(i / 100 for i in range(60))
"""The thresholds that MCTformer's evaluation tries."""


def cam_labels(cams: Cams, threshold: float, size: Size) -> UInt8[np.ndarray, "h w"]:
    """Label every pixel: background where no map exceeds the threshold, else the class of the highest map.

    Args:
        cams: maps by class.
        threshold: background score of every pixel.
        size: the image's (h, w).

    Raises:
        ShapeError: a map of another size.

    Example:
        >>> cam_labels({4: np.array([[0.2, 0.9]], np.float32)}, 0.5, (1, 2)).tolist()
        [[0, 5]]
    """
    best, winner = _best(cams, size)
    labels: UInt8[np.ndarray, "h w"] = np.where(best > np.float32(threshold), winner, 0).astype(np.uint8)
    return labels


def refined_labels(image: Image, cams: Cams, crf: str, settings: ClipEsSettings) -> UInt8[np.ndarray, "h w"]:
    """Label every pixel by a dense CRF on the maps and a background of 1 - the highest map, as CLIP-ES does.

    Args:
        image: upright RGB.
        cams: maps by class, at the image's size.
        crf: name of the CRF's settings.
        settings: of CLIP-ES, for planes and confidence.

    Returns:
        Labels as in `cam_labels`, or `IGNORE_INDEX` below `settings.confidence`.
    """
    maps = [torch.from_numpy(cams[c]) for c in cams]
    stack = torch.stack(maps) if maps else torch.zeros(0, *image.shape[:2])
    planes = clip_es.clamped_planes(clip_es.with_background(stack, settings), settings)
    probabilities = apply_crf(torch.from_numpy(planes), image, crf, wrapped=False).numpy()
    labels, _ = clip_es.crf_labels(probabilities, tuple(cams), settings, ignore_index=IGNORE_INDEX)
    return labels.astype(np.uint8)


def _best(cams: Cams, size: Size) -> tuple[Float32[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Highest map value and its label, pixel by pixel; of equal values the first wins."""
    best, winner = np.full(size, -np.inf, np.float32), np.zeros(size, np.uint8)
    for c in cams:
        cam = cams[c]
        if cam.shape != size:
            raise ShapeError(
                f"The map of class {c} is {cam.shape}, but the image is {size} (h, w). "
                "Create maps at the image's size."
            )
        higher = cam > best
        best[higher], winner[higher] = cam[higher], c + 1
    return best, winner


@dataclass(frozen=True)
class Sweep:
    """mIoU of the masks at each threshold."""

    miou: tuple[float, ...]
    """Mean intersection over union of the classes, 0..1, one value per threshold of `THRESHOLDS`."""

    @property
    def best(self) -> float:
        """The threshold with the highest mIoU."""
        return THRESHOLDS[int(np.argmax(self.miou))]

    @property
    def first_peak(self) -> float:
        """The threshold after which the mIoU first does not rise, where MCTformer's evaluation stops."""
        stops = np.flatnonzero(np.diff((0.0, *self.miou)) <= 0)
        return THRESHOLDS[max(int(stops[0]) - 1, 0) if len(stops) else len(self.miou) - 1]


def sweep(pairs: Iterable[tuple[Cams, UInt8[np.ndarray, "_ _"]]], classes: int) -> Sweep:
    """Evaluate all thresholds in one pass over images with ground-truth masks.

    Args:
        pairs: per image, the maps and the ground-truth labels (0 background, class + 1, or `IGNORE_INDEX`).
        classes: number of classes, without the background.

    Returns:
        The mIoU at each threshold; classes that are neither predicted nor in the ground truth do not count.

    Raises:
        ShapeError: a map of another size than its ground truth.
        InputError: a ground-truth label out of range, or no images.
    """
    steps, labels = len(THRESHOLDS) + 1, classes + 1
    # counts[s, p, t]: pixels of true class t whose best class is p and whose best value exceeds s thresholds
    counts = np.zeros(steps * labels * labels, np.int64)
    for cams, truth in pairs:
        best, winner = _best(cams, (truth.shape[0], truth.shape[1]))
        known = truth != IGNORE_INDEX
        if known.any() and truth[known].max() > classes:
            raise InputError(
                f"A ground-truth label is {truth[known].max()}. "
                f"Expected 0 to {classes}, or {IGNORE_INDEX} to ignore a pixel."
            )
        exceeded = np.searchsorted(np.asarray(THRESHOLDS, np.float32), best[known], side="left")
        flat = (exceeded * labels + winner[known]) * labels + truth[known]
        counts += np.bincount(flat, minlength=len(counts))
    if not counts.any():
        raise InputError(
            "No image has both activation maps and a ground-truth mask. "
            "Choosing a threshold needs at least one such image."
        )
    return Sweep(tuple(_mious(counts.reshape(steps, labels, labels))))


def _mious(counts: Int[np.ndarray, "s c c"]) -> Float[np.ndarray, " t"]:
    # above[i]: pixels labelled with a class at threshold i; all others are background
    above = counts[::-1].cumsum(axis=0)[::-1][1:]
    matrix = above.copy()
    matrix[:, 0] += counts.sum(axis=(0, 1)) - above.sum(axis=1)
    intersection = np.diagonal(matrix, axis1=1, axis2=2)
    union = matrix.sum(axis=1) + matrix.sum(axis=2) - intersection
    iou = np.where(union > 0, intersection / np.maximum(union, 1), np.nan)
    miou: Float[np.ndarray, " t"] = np.nanmean(iou, axis=1)
    return miou
