"""Predict an image's labels with a student: several scales, flip, and optionally a dense CRF.

    image -> [scaled, mirrored] -> logits on each grid -> resized to the image -> mean -> argmax
    with a CRF: that mean -> softmax over the classes in its argmax -> CRF -> argmax
    with a threshold: pixels whose greatest score is below it -> background, or the ignore index

Full-size logits are computed in strips of rows, so that memory depends on the strip and not on the image.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8, UInt16
from torch import Tensor
from torch.nn import functional

from tagmask.checks import check_choice, check_number
from tagmask.clip.finite import check_computed
from tagmask.confidence import WinningScores
from tagmask.errors import InputError
from tagmask.refine.crf import CRF_SETTINGS, dense_crf
from tagmask.results import ignore_index_for
from tagmask.types import Image, Pixels, Size
from tagmask.weak.students.student_file import TrainedStudent

__all__ = ["EVALUATIONS", "EvaluationSettings", "Predicted", "predict"]

_STRIP = 1 << 22
"""Number of full-size logits computed at once."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Inference settings of a student.

    Raises:
        InputError: a value out of range.
    """

    scales: tuple[float, ...] = (1.0,)
    """Scales of the image; logits are averaged over them."""
    flip: bool = False
    """Also process every scale mirrored."""
    crf: str | None = None
    """Dense CRF settings, by name (`tagmask.refine.crf`); None: no CRF."""
    longest: int | None = 2048
    """Maximum long side: larger images are first downscaled with antialiasing; the labels have the original
    size. None: no limit."""
    threshold: float = 0.0
    """Pixels whose greatest score is below it become background; without a background, the ignore index."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales is empty. Give at least one scale, as in scales=(1.0,).")
        for scale in self.scales:
            check_number("scale", scale, 0.05, 8)
        if self.crf is not None:
            check_choice("crf", self.crf, tuple(CRF_SETTINGS))
        if self.longest is not None:
            check_number("longest", self.longest, 32, whole=True)
        check_number("threshold", self.threshold, 0, 1)


_PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)

EVALUATIONS: Mapping[str, EvaluationSettings] = MappingProxyType(
    {
        "plain": EvaluationSettings(),
        "paper/voc": EvaluationSettings(_PAPER_SCALES, flip=True, crf="weakclip/student-voc", longest=None),
        "paper/coco": EvaluationSettings(_PAPER_SCALES, flip=True, crf="weakclip/coco", longest=None),
    }
)
"""A single forward pass, and the evaluation settings of WeakCLIP's paper."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """A student's prediction for an image."""

    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
    """Class per pixel, at the image's size; uint16 for 256 classes or more."""
    scores: Float[np.ndarray, "k h w"] | None
    """Softmax of the logits, or the CRF's output (0 for classes outside its input); None unless requested."""
    winning: WinningScores | None = None
    """The greatest score of every pixel; None unless requested."""


def predict(
    student: TrainedStudent,
    image: Image,
    settings: EvaluationSettings,
    *,
    keep_scores: bool = False,
    keep_winning: bool = False,
) -> Predicted:
    """Predict the label of every pixel.

    Args:
        student: in evaluation mode.
        image: upright RGB, 0..255.
        settings: see `EVALUATIONS` for the paper's.
        keep_scores: also return the score of every class at every pixel.
        keep_winning: also return the greatest score of every pixel.

    Raises:
        WeightsError: the scores are NaN or infinite.

    Source:
        WeakCLIP's retraining: cubic scaling, mean logits, softmax over the kept classes, CRF, argmax.
        Unspecified there and chosen here: the kept classes are those in the argmax of the mean; logits are
        resized to the image's size in one step.
    """
    with torch.no_grad():
        views = list(_views(student, image, settings))
        size: Size = image.shape[:2]
        classes = len(student.card.words)
        foreground = int(student.card.background)
        low_score_label = 0 if student.card.background else ignore_index_for(classes)
        if settings.crf is None:
            labels, winning = _labels(
                views, size, classes, foreground, scored=keep_winning or settings.threshold > 0
            )
            if winning is not None:
                labels[winning.plane < settings.threshold] = low_score_label
            scores = _softmax(views, size, np.arange(classes)).numpy() if keep_scores else None
            return Predicted(labels, scores, winning if keep_winning else None)
        kept = np.unique(_labels(views, size, classes, foreground, scored=False)[0])
        refined = dense_crf(_softmax(views, size, kept), image, CRF_SETTINGS[settings.crf]).numpy()
    labels = kept[refined.argmax(0)]
    winning = WinningScores.of(refined, int((kept < foreground).sum()))
    labels[winning.plane < settings.threshold] = low_score_label
    scores = None
    if keep_scores:
        scores = np.zeros((classes, *size), np.float32)
        scores[kept] = refined
    return Predicted(labels, scores, winning if keep_winning else None)


class _Interpolation(NamedTuple):
    """Linear interpolation along one axis: two source cells per pixel, and the weight of the second."""

    low: Int[Tensor, " pixels"]
    high: Int[Tensor, " pixels"]
    weight: Float[Tensor, " pixels"]


class _View(NamedTuple):
    """Logits of one scale and flip pass, and the interpolation of the image's rows and columns in them."""

    logits: Float[Tensor, "k gh gw"]
    rows: _Interpolation
    columns: _Interpolation


def _views(student: TrainedStudent, image: Image, settings: EvaluationSettings) -> Iterator[_View]:
    kind = student.card.kind
    device = next(student.net.parameters()).device
    size: Size = image.shape[:2]
    pixels = torch.tensor(image, device=device).permute(2, 0, 1)[None].float()
    if settings.longest is not None and max(size) > settings.longest:
        pixels = _resized(pixels, settings.longest / max(size), smooth=True)
    for scale in settings.scales:
        scaled = pixels if scale == 1 else _resized(pixels, scale, smooth=False)
        h, w = scaled.shape[-2:]
        below, right = -h % kind.multiple, -w % kind.multiple
        mirrors = (False, True) if settings.flip else (False,)
        batch = torch.cat([scaled.flip(3) if mirrored else scaled for mirrored in mirrors])
        batch = functional.pad(_normalised(batch, student), (0, right, 0, below))
        for logits, mirrored in zip(student.net(batch), mirrors, strict=True):
            gh, gw = logits.shape[-2:]
            if kind.aligned:
                rows = _aligned(size[0], gh)
                columns = _aligned(size[1], gw)
            else:
                rows = _centred(size[0], gh * h / (h + below), gh)
                columns = _centred(size[1], gw * w / (w + right), gw)
            if mirrored:
                columns = _Interpolation(*(tensor.flip(0) for tensor in columns))
            check_computed(logits, "The student's scores")
            yield _View(logits.float(), _to(rows, device), _to(columns, device))


def _resized(pixels: Pixels, scale: float, *, smooth: bool) -> Float[Tensor, "b 3 h1 w1"]:
    h, w = (max(round(side * scale), 1) for side in pixels.shape[-2:])
    scaled = functional.interpolate(
        pixels, size=(h, w), mode="bicubic", align_corners=False, antialias=smooth
    )
    return scaled.clamp(0, 255)


def _normalised(pixels: Pixels, student: TrainedStudent) -> Pixels:
    mean, std = (pixels.new_tensor(each)[:, None, None] for each in (student.card.mean, student.card.std))
    return (pixels / 255 - mean) / std


def _centred(pixels: int, span: float, cells: int) -> _Interpolation:
    """Map pixels to the first `span` of `cells` cells without aligned corners (half-pixel centres)."""
    return _interpolate((torch.arange(pixels, dtype=torch.float64) + 0.5) * (span / pixels) - 0.5, cells)


def _aligned(pixels: int, cells: int) -> _Interpolation:
    """Map pixels to cells with aligned corners: the first to the first, the last to the last."""
    return _interpolate(torch.arange(pixels, dtype=torch.float64) * ((cells - 1) / max(pixels - 1, 1)), cells)


def _interpolate(positions: Float[Tensor, " pixels"], cells: int) -> _Interpolation:
    clamped = positions.clamp(0, cells - 1)
    low = clamped.floor().long()
    return _Interpolation(low, (low + 1).clamp(max=cells - 1), (clamped - low).float())


def _to(interpolation: _Interpolation, device: torch.device) -> _Interpolation:
    return _Interpolation(*(tensor.to(device) for tensor in interpolation))


def _strips(size: Size, classes: int) -> Iterator[slice]:
    step = max(_STRIP // (classes * size[1]), 1)
    return (slice(top, min(top + step, size[0])) for top in range(0, size[0], step))


def _labels(
    views: Sequence[_View], size: Size, classes: int, foreground: int, *, scored: bool
) -> tuple[UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"], WinningScores | None]:
    """The best class of every pixel and, if scored, its softmax over all classes."""
    labels = np.empty(size, np.uint8 if ignore_index_for(classes) == 255 else np.uint16)
    plane = np.empty(size, np.float32) if scored else None
    greatest_foreground = 0.0
    for rows in _strips(size, classes):
        mean = _mean(views, rows)
        labels[rows] = mean.argmax(0).cpu().numpy()
        if plane is not None:
            scores = mean.softmax(0)
            plane[rows] = scores.amax(0).cpu().numpy()
            greatest_foreground = max(greatest_foreground, float(scores[foreground:].max()))
    return labels, None if plane is None else WinningScores(plane, greatest_foreground)


def _mean(views: Sequence[_View], rows: slice) -> Float[Tensor, "k rows w"]:
    """Logits of some rows at the image's size, averaged over the views."""
    total, *others = (_upsampled(view, rows) for view in views)
    for other in others:
        total += other
    return total / len(views)


def _upsampled(view: _View, rows: slice) -> Float[Tensor, "k rows w"]:
    low, high, weight = (tensor[rows] for tensor in view.rows)
    lines = torch.lerp(view.logits[:, low], view.logits[:, high], weight[:, None])
    return torch.lerp(lines[:, :, view.columns.low], lines[:, :, view.columns.high], view.columns.weight)


def _softmax(
    views: Sequence[_View], size: Size, kept: Int[np.ndarray, " kept"] | np.ndarray
) -> Float[Tensor, "kept h w"]:
    """Softmax over some classes, on the CPU."""
    indices = torch.from_numpy(kept.astype(np.int64)).to(views[0].logits.device)
    kept_views = [view._replace(logits=view.logits[indices]) for view in views]
    out = torch.empty(len(kept), *size)
    for rows in _strips(size, len(kept)):
        out[:, rows] = _mean(kept_views, rows).softmax(0).cpu()
    return out
