"""A student's labels of a picture: over several scales, mirrored, settled by a dense CRF where asked for.

    picture -> [scaled, mirrored] -> logits on each grid -> enlarged to the picture's size -> mean -> argmax
    with a CRF: that mean -> softmax over the classes in its argmax -> CRF -> argmax

Full-size logits are made in strips of rows, so that memory follows the strip and not the photo.
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
from tagmask.errors import InputError
from tagmask.refine.crf import CRF_SETTINGS, dense_crf
from tagmask.results import ignore_index_for
from tagmask.types import Image, Pixels, Size
from tagmask.weak.students.student_file import TrainedStudent

__all__ = ["EVALUATIONS", "EvaluationSettings", "Predicted", "predict"]

_STRIP = 1 << 22
"""Logits at full size that are made at a time."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How a picture is looked at.

    Raises:
        InputError: a value out of range.
    """

    scales: tuple[float, ...] = (1.0,)
    """Factors on the picture's sides; logits are averaged over them."""
    flip: bool = False
    """Also look at the mirror image, at every scale."""
    crf: str | None = None
    """Settings of a dense CRF by name (`tagmask.refine.crf`); None leaves it out."""
    longest: int | None = 2048
    """Pictures with a longer side are reduced to it first, smoothly; labels keep their size. None: never."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales are empty; give at least one, as in scales=(1.0,)")
        for scale in self.scales:
            check_number("scale", scale, 0.05, 8)
        if self.crf is not None:
            check_choice("crf", self.crf, tuple(CRF_SETTINGS))
        if self.longest is not None:
            check_number("longest", self.longest, 32, whole=True)


_PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)

EVALUATIONS: Mapping[str, EvaluationSettings] = MappingProxyType(
    {
        "plain": EvaluationSettings(),
        "paper/voc": EvaluationSettings(_PAPER_SCALES, flip=True, crf="weakclip/student-voc", longest=None),
        "paper/coco": EvaluationSettings(_PAPER_SCALES, flip=True, crf="weakclip/coco", longest=None),
    }
)
"""One look; and how WeakCLIP's paper evaluates its students."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a student says of a picture."""

    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
    """Class per pixel, at the picture's own size; uint16 from 256 classes on."""
    scores: Float[np.ndarray, "k h w"] | None
    """Softmax of the logits, or what the CRF made of it (0 for classes it was not shown); if asked for."""


def predict(
    student: TrainedStudent, image: Image, settings: EvaluationSettings, *, keep_scores: bool = False
) -> Predicted:
    """Label every pixel.

    Args:
        student: in evaluation mode.
        image: upright RGB, 0..255.
        settings: see `EVALUATIONS` for the paper's.
        keep_scores: also give every class's score at every pixel.

    Source:
        WeakCLIP's retraining: cubic scaling, logits averaged, softmax over the classes that are kept, CRF,
        argmax. Open there and settled here: the classes kept are those in the argmax of the mean; logits are
        enlarged to the picture's own size in one step.
    """
    with torch.no_grad():
        looks = list(_views(student, image, settings))
        size: Size = image.shape[:2]
        classes = len(student.card.words)
        dtype = np.uint8 if ignore_index_for(classes) == 255 else np.uint16
        labels = np.empty(size, dtype)
        for rows in _strips(size, classes):
            labels[rows] = _mean(looks, rows).argmax(0).cpu().numpy()
        everything = np.arange(classes)
        if settings.crf is None:
            return Predicted(labels, _softmax(looks, size, everything).numpy() if keep_scores else None)
        kept = np.unique(labels)
        agreed = dense_crf(_softmax(looks, size, kept), image, CRF_SETTINGS[settings.crf])
    labels = kept[agreed.argmax(0).numpy()]
    if not keep_scores:
        return Predicted(labels, None)
    scores = np.zeros((classes, *size), np.float32)
    scores[kept] = agreed.numpy()
    return Predicted(labels, scores)


class _Reading(NamedTuple):
    """Which two places each pixel of one axis reads, and how much of the second."""

    low: Int[Tensor, " pixels"]
    high: Int[Tensor, " pixels"]
    part: Float[Tensor, " pixels"]


class _View(NamedTuple):
    """Logits of one scale, mirrored or not, and where the picture's rows and columns lie in them."""

    logits: Float[Tensor, "k gh gw"]
    rows: _Reading
    columns: _Reading


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
                columns = _Reading(*(each.flip(0) for each in columns))
            yield _View(logits.float(), _on(rows, device), _on(columns, device))


def _resized(pixels: Pixels, scale: float, *, smooth: bool) -> Float[Tensor, "b 3 h1 w1"]:
    h, w = (max(round(side * scale), 1) for side in pixels.shape[-2:])
    scaled = functional.interpolate(
        pixels, size=(h, w), mode="bicubic", align_corners=False, antialias=smooth
    )
    return scaled.clamp(0, 255)


def _normalised(pixels: Pixels, student: TrainedStudent) -> Pixels:
    mean, std = (pixels.new_tensor(each)[:, None, None] for each in (student.card.mean, student.card.std))
    return (pixels / 255 - mean) / std


def _centred(pixels: int, span: float, places: int) -> _Reading:
    """Pixels spread evenly over the first `span` places, centres on centres."""
    return _read_at((torch.arange(pixels, dtype=torch.float64) + 0.5) * (span / pixels) - 0.5, places)


def _aligned(pixels: int, places: int) -> _Reading:
    """First pixel on the first place, last on the last."""
    return _read_at(torch.arange(pixels, dtype=torch.float64) * ((places - 1) / max(pixels - 1, 1)), places)


def _read_at(positions: Float[Tensor, " pixels"], places: int) -> _Reading:
    inside = positions.clamp(0, places - 1)
    low = inside.floor().long()
    return _Reading(low, (low + 1).clamp(max=places - 1), (inside - low).float())


def _on(reading: _Reading, device: torch.device) -> _Reading:
    return _Reading(*(each.to(device) for each in reading))


def _strips(size: Size, classes: int) -> Iterator[slice]:
    step = max(_STRIP // (classes * size[1]), 1)
    return (slice(top, min(top + step, size[0])) for top in range(0, size[0], step))


def _mean(looks: Sequence[_View], rows: slice) -> Float[Tensor, "k rows w"]:
    """Logits of some of the picture's rows at its own size, averaged over the looks."""
    first, *others = (_enlarged(look, rows) for look in looks)
    for other in others:
        first += other
    return first / len(looks)


def _enlarged(look: _View, rows: slice) -> Float[Tensor, "k rows w"]:
    low, high, part = (each[rows] for each in look.rows)
    lines = torch.lerp(look.logits[:, low], look.logits[:, high], part[:, None])
    return torch.lerp(lines[:, :, look.columns.low], lines[:, :, look.columns.high], look.columns.part)


def _softmax(
    looks: Sequence[_View], size: Size, kept: Int[np.ndarray, " kept"] | np.ndarray
) -> Float[Tensor, "kept h w"]:
    """Softmax over some classes, on the CPU."""
    chosen = torch.from_numpy(kept.astype(np.int64)).to(looks[0].logits.device)
    some = [look._replace(logits=look.logits[chosen]) for look in looks]
    out = torch.empty(len(kept), *size)
    for rows in _strips(size, len(kept)):
        out[:, rows] = _mean(some, rows).softmax(0).cpu()
    return out
