"""WeakCLIP's losses: balanced seed loss, CRF divergence and contrast loss.

    total = seed + crf + 0.4 contrast

    p    softmax of the logits at 64 x 64, + 1e-7, renormalised to sum 1   b k h w
    y    one-hot labels at 64 x 64; ignored pixels are 0 in all planes     b k h w
    q    output of a dense CRF on p, without gradient                      b k h w

Zhu et al., "WeakCLIP: Adapting CLIP for Weakly-Supervised Semantic Segmentation", IJCV 2024, as coded by
its authors.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor
from torch.nn import functional as F

from tagmask.errors import InputError, ShapeError
from tagmask.refine.crf import CRF_SETTINGS, CrfSettings, dense_crf_batch
from tagmask.refine.crf_small import small_crf
from tagmask.types import Size
from tagmask.weak.config import LossSettings
from tagmask.weak.labels import IGNORE_INDEX, resized_nearest
from tagmask.weak.model import WeakClipOutput

__all__ = [
    "balanced_seed_loss",
    "contrast_loss",
    "crf_divergence",
    "crf_images",
    "crf_targets",
    "probabilities",
    "total",
]

_EPSILON = 1e-7
_MIN_COUNT = 1e-4
_MIN_TARGET = 1e-4
_RATIO_RANGE = (0.05, 20.0)


def total(
    model_output: WeakClipOutput,
    labels: Integer[Tensor, "b h w"],
    images: UInt8[Tensor, "_ 3 _ _"] | UInt8[Tensor, "_ _ _ 3"],
    settings: LossSettings | None = None,
) -> Mapping[str, Tensor]:
    """Compute all terms of a batch, each unweighted, and their weighted sum.

    Args:
        model_output: float32.
        labels: (b, h, w), class of each pixel or `IGNORE_INDEX`.
        images: (b, 3, h, w) or (b, h, w, 3), the model's input crops in RGB before normalisation; padding
            has the mean colour.
        settings: default: the paper's.

    Returns:
        "seed", "crf", "contrast" (those with a positive weight) and "total".

    Raises:
        ShapeError: labels, images and output differ in size or number.
        InputError: a label out of range.
    """
    settings = settings or LossSettings()
    rgb = images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)
    _check_batch(model_output, labels, rgb)
    size = (settings.size, settings.size)
    terms: dict[str, Tensor] = {}
    if settings.seed or settings.crf:
        logits = model_output.logits
        p = probabilities(F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False))
        if settings.seed:
            terms["seed"] = balanced_seed_loss(p, resized_nearest(labels, size))
        if settings.crf:
            field = CRF_SETTINGS[settings.field]
            q = crf_targets(p, crf_images(rgb, size), field, settings.kernel)
            terms["crf"] = crf_divergence(p, q)
    if settings.contrast:
        terms["contrast"] = contrast_loss(model_output.scores, labels, settings.tau)
    weighted = [getattr(settings, name) * term for name, term in terms.items()]
    return {**terms, "total": torch.stack(weighted).sum()}


def probabilities(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Softmax over the classes, + 1e-7 to avoid zeros, renormalised to sum 1."""
    p = logits.softmax(dim=1) + _EPSILON
    return p / p.sum(dim=1, keepdim=True)


def balanced_seed_loss(p: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Cross-entropy that weighs background and foreground equally, whatever their areas.

    For each image: mean of -log p over the pixels of class 0, plus mean of -log p over the pixels of all
    other classes together; a part without pixels adds 0. Mean over the images.

    Args:
        p: positive; see `probabilities`.
        labels: pixels with `IGNORE_INDEX` count in neither part.
    """
    ignored = labels == IGNORE_INDEX
    log_p = p.log().gather(1, labels.masked_fill(ignored, 0).long()[:, None])[:, 0]
    background, foreground = (labels == 0), (labels != 0) & ~ignored

    def mean(mask: Tensor) -> Tensor:
        chosen = mask.to(log_p.dtype)
        return (chosen * log_p).sum(dim=(1, 2)) / chosen.sum(dim=(1, 2)).clamp(min=_MIN_COUNT)

    return -(mean(background) + mean(foreground)).mean()


def crf_images(images: UInt8[Tensor, "b 3 h w"], size: Size) -> UInt8[Tensor, "b 3 h1 w1"]:
    """Resize images for the CRF: bilinear with aligned corners, fractions truncated.

    Departure: 0.001 is added before truncation, so that float rounding of a whole value never lowers it by
    one; the authors' values come from un-normalising and are sometimes off by one.
    """
    small = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=True)
    return (small + 1e-3).clamp(max=255).to(torch.uint8)


def crf_targets(
    p: Float[Tensor, "b k h w"], images: UInt8[Tensor, "b 3 h w"], field: CrfSettings, kernel: str
) -> Float[Tensor, "b k h w"]:
    """Output of the CRF on p, at least 1e-4 and renormalised to sum 1; without gradient."""
    if kernel == "exact":
        q = small_crf(p.detach(), images, field)
    else:
        q = dense_crf_batch(p.detach(), images.permute(0, 2, 3, 1).cpu(), field)
    q = q.clamp(min=_MIN_TARGET)
    return q / q.sum(dim=1, keepdim=True)


def crf_divergence(p: Float[Tensor, "b k h w"], q: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
    """KL divergence: sum over classes of q log(q / p), mean over pixels and images.

    The ratio q / p is clamped to 0.05..20. The gradient flows through p only, and is 0 where the ratio is
    clamped.
    """
    low, high = _RATIO_RANGE
    return (q * (q / p).clamp(low, high).log()).sum(dim=1).mean()


def contrast_loss(
    scores: Float[Tensor, "b k gh gw"], labels: Integer[Tensor, "b h w"], tau: float = 0.07
) -> Float[Tensor, ""]:
    """Cross-entropy of pixels over the class texts: scores / tau, resized to the labels' size.

    Args:
        scores: cosines, -1..1.
        labels: pixels with `IGNORE_INDEX` add 0, but the sum is divided by the number of all pixels, ignored
            ones included, as published.
        tau: temperature.
    """
    small = (scores / tau).contiguous(memory_format=torch.channels_last)  # a softmax of adjacent values
    logits = F.interpolate(small, size=labels.shape[1:], mode="bilinear", align_corners=False)
    rows = logits.permute(0, 2, 3, 1).flatten(0, 2)
    summed = F.cross_entropy(rows, labels.long().flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return summed / labels.numel()


def _check_batch(output: WeakClipOutput, labels: Tensor, images: Tensor) -> None:
    b, k = output.logits.shape[:2]
    if len(labels) != b or images.shape != (b, 3, *labels.shape[1:]):
        raise ShapeError(
            f"Got {b} outputs, labels {tuple(labels.shape)} and images {tuple(images.shape)}. "
            "Give as many labels and images as outputs, all of one size."
        )
    used = labels[labels != IGNORE_INDEX]
    if used.numel() and (int(used.min()) < 0 or int(used.max()) >= k):
        wrong = int(used.max()) if int(used.max()) >= k else int(used.min())
        raise InputError(
            f"A label is {wrong}. Expected classes 0 to {k - 1}, or {IGNORE_INDEX} to ignore a pixel."
        )
