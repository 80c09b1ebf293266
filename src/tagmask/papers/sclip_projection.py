"""Training of SCLIP's learned projection, the only part of the family that learns anything.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, ablation: one projection shared by queries and keys, learned from 64 images.

How it was trained is not described. Here: it begins as the last block's query projection, everything else is
frozen, and AdamW follows the cross-entropy of random windows. Every window is a fresh one, so its way to the
last block is computed anew, without a gradient: keeping the inputs of all windows would take gigabytes, and
none of them would be read twice.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer, UInt8
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_number
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.prompts import Names
from tagmask.dense.sliding import preprocess_cv2
from tagmask.errors import InputError, ShapeError
from tagmask.types import Pixels, Size, TextFeatures
from tagmask.variants.learned import Projection, fingerprint, projected, query_projection

__all__ = ["IGNORE_INDEX", "LabelledImage", "ProjectionSettings", "Watch", "train_projection"]

IGNORE_INDEX = 255
"""The label of pixels that training does not look at."""

LabelledImage = tuple[UInt8[np.ndarray, "_ _ 3"], Integer[np.ndarray, "_ _"]]
"""An image, upright RGB, and the class of each of its pixels or `IGNORE_INDEX`."""

Watch = Callable[[int, float], None]
"""Called with the steps done and the loss of the last one."""


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """One training run."""

    images: int = 64
    """So many are drawn."""
    steps: int = 1000
    batch: int = 8
    """Windows a step."""
    rate: float = 1e-4
    """AdamW's, falling to 0 as a half cosine."""
    weight_decay: float = 1e-4
    short_side: int = 336
    """The images' short side after scaling, in pixels."""
    crop: int = 224
    """Side of a window in pixels."""
    logit_scale: float = 40.0
    """Multiplies cosines before the softmax over classes."""
    bias: bool = True
    """A bias is learned too; without it training begins from the matrix alone."""
    seed: int = 0
    """Of the images drawn, their order, the windows and their flips."""

    def __post_init__(self) -> None:
        for name in ("images", "steps", "batch", "short_side", "crop"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        for name in ("rate", "weight_decay", "logit_scale"):
            check_number(name, getattr(self, name), 0)


def train_projection(
    clip: Clip,
    samples: Iterable[LabelledImage],
    names: Names,
    texts: TextFeatures,
    settings: ProjectionSettings,
    watch: Watch | None = None,
) -> Projection:
    """Learn the projection of "sclip-learned" from a few labelled images.

    The same samples in the same order, settings and hardware give the same projection.

    Args:
        clip: the frozen model.
        samples: images and their labels, from any reader; `settings.images` of them are held at once.
        names: classes, in the order of the labels, and their names.
        texts: unit features of `names.texts`.
        settings: the run.
        watch: told of every step.

    Raises:
        InputError: no samples, or labels that are no class.
        ShapeError: an image and its labels differ in size.
    """
    if settings.crop < clip.vision.patch:
        raise InputError(
            f"crop is {settings.crop} pixels and a patch of these weights has {clip.vision.patch}; "
            "give at least that"
        )
    rng = np.random.default_rng(settings.seed)
    drawn = [_scaled(clip, sample, len(names.classes), settings) for sample in _draw(samples, settings, rng)]
    start = query_projection(clip.vision)
    matrix = start.matrix.clone().requires_grad_()
    bias = start.bias.clone().requires_grad_() if settings.bias and start.bias is not None else None
    learning = [matrix] if bias is None else [matrix, bias]
    optimiser = torch.optim.AdamW(learning, lr=settings.rate, weight_decay=settings.weight_decay)
    slope = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    losses = []
    for step in range(1, settings.steps + 1):
        chosen = rng.integers(len(drawn), size=settings.batch)
        cuts = [_window(drawn[i], settings.crop, rng) for i in chosen]
        pixels, labels = (torch.stack(parts) for parts in zip(*cuts, strict=True))
        logits = class_logits(clip, pixels, names, texts, matrix, bias) * settings.logit_scale
        loss = pixel_loss(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        slope.step()
        losses.append(float(loss.detach()))
        if watch is not None:
            watch(step, losses[-1])
    told = {"images": len(drawn), "words": names.classes, "loss": _ends(losses), "weights": clip.name}
    return Projection(
        matrix.detach(),
        None if bias is None else bias.detach(),
        fingerprint(clip.vision),
        json.dumps({**asdict(settings), **told}),
    )


def class_logits(
    clip: Clip,
    pixels: Pixels,
    names: Names,
    texts: TextFeatures,
    matrix: Float[Tensor, "d d"],
    bias: Float[Tensor, " d"] | None,
) -> Float[Tensor, "b c h w"]:
    """Cosine of each class's best name at every pixel; the gradient reaches the projection only."""
    with torch.no_grad():
        tower = extract_features(clip.vision, pixels, bicubic_nudged)
    patches = F.normalize(tower.project_last_block(projected(tower, matrix, bias))[:, 1:], dim=-1)
    cosines = (patches @ texts.T).transpose(1, 2).unflatten(2, tower.grid)
    size = (pixels.shape[-2], pixels.shape[-1])
    wide = F.interpolate(cosines, size=size, mode="bilinear", align_corners=False)
    if len(names.texts) == len(names.classes):
        return wide
    # Split, not indexed: the way back of an index is as large as all texts, for every class.
    counts = [names.owners.count(owner) for owner in range(len(names.classes))]
    return torch.stack([part.amax(dim=1) for part in wide.split(counts, dim=1)], dim=1)


def pixel_loss(logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the pixels that have a class; 0 where none has."""
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


# -- Images and windows --------------------------------------------------------------------------------------

_Scaled = tuple[Float[Tensor, "3 _ _"], Int64[Tensor, "_ _"]]
"""Normalised pixels, and the class of each."""


def _draw(
    samples: Iterable[LabelledImage], settings: ProjectionSettings, rng: np.random.Generator
) -> list[LabelledImage]:
    """So many of all, each as likely as any other, without holding more."""
    held: list[LabelledImage] = []
    for seen, sample in enumerate(samples):
        if len(held) < settings.images:
            held.append(sample)
        elif (place := int(rng.integers(seen + 1))) < settings.images:
            held[place] = sample
    if not held:
        raise InputError("got no images to train on; give at least one with its labels")
    return held


def _scaled(clip: Clip, sample: LabelledImage, classes: int, settings: ProjectionSettings) -> _Scaled:
    image, labels = sample
    if image.shape[:2] != labels.shape:
        raise ShapeError(
            f"an image of {image.shape[:2]} (h, w) has labels of {labels.shape}; give one a pixel"
        )
    strange = np.setdiff1d(labels, [*range(classes), IGNORE_INDEX])
    if len(strange):
        raise InputError(
            f"labels hold {strange[:5].tolist()}; with {classes} classes give 0 to {classes - 1}, "
            f"or {IGNORE_INDEX} for pixels to leave out"
        )
    pixels = preprocess_cv2(clip, image, settings.short_side)
    near = _nearest(labels, (pixels.shape[-2], pixels.shape[-1]))
    return pixels, torch.from_numpy(near.astype(np.int64)).to(clip.device)


def _nearest(labels: Integer[np.ndarray, "h w"], size: Size) -> Integer[np.ndarray, "h1 w1"]:
    rows, columns = (
        (np.arange(wanted) + 0.5) * given // wanted for wanted, given in zip(size, labels.shape, strict=True)
    )
    near: Integer[np.ndarray, "h1 w1"] = labels[rows.astype(int)[:, None], columns.astype(int)]
    return near


def _window(sample: _Scaled, crop: int, rng: np.random.Generator) -> _Scaled:
    """A random square, flipped half of the time; what lies outside the image is zero and has no class."""
    pixels, labels = sample
    h, w = labels.shape
    top, left = (int(rng.integers(max(side - crop, 0) + 1)) for side in (h, w))
    cut = pixels[:, top : top + crop, left : left + crop]
    truth = labels[top : top + crop, left : left + crop]
    if rng.random() < 0.5:
        cut, truth = cut.flip(-1), truth.flip(-1)
    missing = (0, crop - truth.shape[1], 0, crop - truth.shape[0])
    return F.pad(cut, missing), F.pad(truth, missing, value=IGNORE_INDEX)


def _ends(losses: list[float]) -> list[float]:
    """Mean loss of the first and of the last tenth of the steps."""
    tenth = max(len(losses) // 10, 1)
    return [round(float(np.mean(part)), 4) for part in (losses[:tenth], losses[-tenth:])]
