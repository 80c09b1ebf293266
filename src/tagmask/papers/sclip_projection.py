"""Training of SCLIP's learned projection, the only trained part of the SCLIP family.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, ablation: one projection shared by queries and keys, learned from 64 images.

The paper does not describe the training. Here the projection starts from the last block's query projection,
everything else is frozen, and AdamW minimises the cross-entropy on random windows. Each step draws new
windows, so the forward pass up to the last block is repeated, without gradient: caching the inputs of all
windows would take gigabytes, and none would be used twice.
"""

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
from tagmask.strict_json import json_text
from tagmask.types import Pixels, Size, TextFeatures
from tagmask.variants.learned import Projection, fingerprint, projected, query_projection

__all__ = ["IGNORE_INDEX", "LabelledImage", "ProjectionSettings", "Watch", "train_projection"]

IGNORE_INDEX = 255
"""The label of pixels that the loss ignores."""

LabelledImage = tuple[UInt8[np.ndarray, "_ _ 3"], Integer[np.ndarray, "_ _"]]
"""An image, upright RGB, and the class of each of its pixels or `IGNORE_INDEX`."""

Watch = Callable[[int, float], None]
"""Callback: the number of steps done and the loss of the last one."""


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """Settings of a training run."""

    images: int = 64
    """Number of images sampled for training."""
    steps: int = 1000
    batch: int = 8
    """Batch size: windows per step."""
    learning_rate: float = 1e-4
    """AdamW's learning rate, decayed to 0 by a half cosine."""
    weight_decay: float = 1e-4
    short_side: int = 336
    """Short side of the resized images, in pixels."""
    crop: int = 224
    """Side of a window in pixels."""
    logit_scale: float = 40.0
    """Multiplies cosines before the softmax over classes."""
    bias: bool = True
    """Also learn a bias; without it, training starts from the matrix alone."""
    seed: int = 0
    """Seed of the sampled images, their order, the windows and their flips."""

    def __post_init__(self) -> None:
        for name in ("images", "steps", "batch", "short_side", "crop"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        for name in ("learning_rate", "weight_decay", "logit_scale"):
            check_number(name, getattr(self, name), 0)


def train_projection(
    clip: Clip,
    samples: Iterable[LabelledImage],
    names: Names,
    texts: TextFeatures,
    settings: ProjectionSettings,
    watch: Watch | None = None,
) -> Projection:
    """Train the projection of "sclip-learned" on a few labelled images.

    The same samples in the same order, settings and hardware give the same projection.

    Args:
        clip: the frozen model.
        samples: images and their labels, from any source; at most `settings.images` are held in memory.
        names: classes, in the order of the labels, and their names.
        texts: unit features of `names.texts`.
        settings: settings of the run.
        watch: called after every step.

    Raises:
        InputError: no samples, or a label outside the classes.
        ShapeError: an image and its labels differ in size.
    """
    if settings.crop < clip.vision.patch:
        raise InputError(
            f"crop is {settings.crop} pixels, less than a patch of these weights ({clip.vision.patch}). "
            f"Give {clip.vision.patch} or more."
        )
    rng = np.random.default_rng(settings.seed)
    selected = [
        _prepare(clip, sample, len(names.classes), settings) for sample in _sample(samples, settings, rng)
    ]
    start = query_projection(clip.vision)
    matrix = start.matrix.clone().requires_grad_()
    bias = start.bias.clone().requires_grad_() if settings.bias and start.bias is not None else None
    parameters = [matrix] if bias is None else [matrix, bias]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    losses = []
    for step in range(1, settings.steps + 1):
        chosen = rng.integers(len(selected), size=settings.batch)
        windows = [_window(selected[i], settings.crop, rng) for i in chosen]
        pixels, labels = (torch.stack(parts) for parts in zip(*windows, strict=True))
        logits = class_logits(clip, pixels, names, texts, matrix, bias) * settings.logit_scale
        loss = pixel_loss(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if watch is not None:
            watch(step, losses[-1])
    summary = {
        "images": len(selected),
        "words": names.classes,
        "loss": _first_and_last(losses),
        "weights": clip.name,
    }
    return Projection(
        matrix.detach(),
        None if bias is None else bias.detach(),
        fingerprint(clip.vision),
        json_text({**asdict(settings), **summary}),
    )


def class_logits(
    clip: Clip,
    pixels: Pixels,
    names: Names,
    texts: TextFeatures,
    matrix: Float[Tensor, "d d"],
    bias: Float[Tensor, " d"] | None,
) -> Float[Tensor, "b c h w"]:
    """Cosine of each class's best name at every pixel; only the projection receives a gradient."""
    with torch.no_grad():
        tower = extract_features(clip.vision, pixels, bicubic_nudged)
    patches = F.normalize(tower.project_last_block(projected(tower, matrix, bias))[:, 1:], dim=-1)
    cosines = (patches @ texts.T).transpose(1, 2).unflatten(2, tower.grid)
    size = (pixels.shape[-2], pixels.shape[-1])
    full_size = F.interpolate(cosines, size=size, mode="bilinear", align_corners=False)
    if len(names.texts) == len(names.classes):
        return full_size
    # Split instead of indexing: the backward pass of an index is as large as all texts, for every class.
    counts = [names.owners.count(owner) for owner in range(len(names.classes))]
    return torch.stack([part.amax(dim=1) for part in full_size.split(counts, dim=1)], dim=1)


def pixel_loss(logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the pixels that have a class; 0 if none has."""
    total = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (labels != IGNORE_INDEX).sum().clamp(min=1)


# -- Images and windows --------------------------------------------------------------------------------------

_Prepared = tuple[Float[Tensor, "3 _ _"], Int64[Tensor, "_ _"]]
"""Normalised pixels, and the class of each."""


def _sample(
    samples: Iterable[LabelledImage], settings: ProjectionSettings, rng: np.random.Generator
) -> list[LabelledImage]:
    """Sample `settings.images` of all samples uniformly, without holding more (reservoir sampling)."""
    reservoir: list[LabelledImage] = []
    for index, sample in enumerate(samples):
        if len(reservoir) < settings.images:
            reservoir.append(sample)
        elif (slot := int(rng.integers(index + 1))) < settings.images:
            reservoir[slot] = sample
    if not reservoir:
        raise InputError("No images to train on. Give at least one image with its labels.")
    return reservoir


def _prepare(clip: Clip, sample: LabelledImage, classes: int, settings: ProjectionSettings) -> _Prepared:
    image, labels = sample
    if image.shape[:2] != labels.shape:
        raise ShapeError(
            f"Labels of shape {labels.shape} do not fit an image of {image.shape[:2]} (h, w). "
            "Give one label per pixel."
        )
    invalid = np.setdiff1d(labels, [*range(classes), IGNORE_INDEX])
    if len(invalid):
        raise InputError(
            f"Labels contain {invalid[:5].tolist()}. With {classes} classes give 0 to {classes - 1}, "
            f"or {IGNORE_INDEX} for pixels to ignore."
        )
    pixels = preprocess_cv2(clip, image, settings.short_side)
    resized = _resize_nearest(labels, (pixels.shape[-2], pixels.shape[-1]))
    return pixels, torch.from_numpy(resized.astype(np.int64)).to(clip.device)


def _resize_nearest(labels: Integer[np.ndarray, "h w"], size: Size) -> Integer[np.ndarray, "h1 w1"]:
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(size, labels.shape, strict=True))
    resized: Integer[np.ndarray, "h1 w1"] = labels[rows.astype(int)[:, None], columns.astype(int)]
    return resized


def _window(sample: _Prepared, crop: int, rng: np.random.Generator) -> _Prepared:
    """Crop a random square, flipped with probability 1/2; padding has value 0 and no class."""
    pixels, labels = sample
    h, w = labels.shape
    top, left = (int(rng.integers(max(side - crop, 0) + 1)) for side in (h, w))
    window = pixels[:, top : top + crop, left : left + crop]
    truth = labels[top : top + crop, left : left + crop]
    if rng.random() < 0.5:
        window, truth = window.flip(-1), truth.flip(-1)
    padding = (0, crop - truth.shape[1], 0, crop - truth.shape[0])
    return F.pad(window, padding), F.pad(truth, padding, value=IGNORE_INDEX)


def _first_and_last(losses: list[float]) -> list[float]:
    """Mean loss over the first and over the last tenth of the steps."""
    tenth = max(len(losses) // 10, 1)
    return [round(float(np.mean(part)), 4) for part in (losses[:tenth], losses[-tenth:])]
