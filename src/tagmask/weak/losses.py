"""What WeakCLIP is trained by: noisy seeds, the image's edges, and the scores themselves.

    total = seed + crf + 0.4 contrast

    p    softmax of the logits at 64 x 64, + 1e-7, of sum 1 again        b k h w
    y    one-hot labels at 64 x 64; ignored pixels are 0 in all planes   b k h w
    q    what a dense CRF makes of p, without gradient                   b k h w

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

_TINY = 1e-7
_LEAST_PIXELS = 1e-4
_FLOOR = 1e-4
_RATIO = (0.05, 20.0)


def total(
    model_output: WeakClipOutput,
    labels: Integer[Tensor, "b h w"],
    images: UInt8[Tensor, "_ 3 _ _"] | UInt8[Tensor, "_ _ _ 3"],
    settings: LossSettings | None = None,
) -> Mapping[str, Tensor]:
    """All terms of a batch, each before its weight, and their weighted sum.

    Args:
        model_output: of the model, float32.
        labels: (b, h, w), class of each pixel, `IGNORE_INDEX` for none.
        images: (b, 3, h, w) or (b, h, w, 3), the crops as the model saw them, RGB before normalisation;
            padding has the mean colour.
        settings: left out, the paper's.

    Returns:
        "seed", "crf", "contrast" (those with a weight) and "total".

    Raises:
        ShapeError: labels or images of another size or number than each other or the output.
        InputError: a label that is no class.
    """
    settings = settings or LossSettings()
    shown = images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)
    _require(model_output, labels, shown)
    size = (settings.size, settings.size)
    terms: dict[str, Tensor] = {}
    if settings.seed or settings.crf:
        logits = model_output.logits
        p = probabilities(F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False))
        if settings.seed:
            terms["seed"] = balanced_seed_loss(p, resized_nearest(labels, size))
        if settings.crf:
            field = CRF_SETTINGS[settings.field]
            q = crf_targets(p, crf_images(shown, size), field, settings.kernel)
            terms["crf"] = crf_divergence(p, q)
    if settings.contrast:
        terms["contrast"] = contrast_loss(model_output.scores, labels, settings.tau)
    weighted = [getattr(settings, name) * term for name, term in terms.items()]
    return {**terms, "total": torch.stack(weighted).sum()}


def probabilities(logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """Softmax over the classes, kept off 0: + 1e-7, then of sum 1 again."""
    p = logits.softmax(dim=1) + _TINY
    return p / p.sum(dim=1, keepdim=True)


def balanced_seed_loss(p: Float[Tensor, "b k h w"], labels: Integer[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Cross-entropy in which background and foreground weigh the same, whatever their areas.

    For each image: mean of -log p over the pixels of class 0, plus mean of -log p over the pixels of all
    other classes together; a side without pixels adds 0. Mean over the images.

    Args:
        p: positive; see `probabilities`.
        labels: `IGNORE_INDEX` counts on neither side.
    """
    ignored = labels == IGNORE_INDEX
    own = p.log().gather(1, labels.masked_fill(ignored, 0).long()[:, None])[:, 0]
    behind, before = (labels == 0), (labels != 0) & ~ignored

    def mean(mask: Tensor) -> Tensor:
        chosen = mask.to(own.dtype)
        return (chosen * own).sum(dim=(1, 2)) / chosen.sum(dim=(1, 2)).clamp(min=_LEAST_PIXELS)

    return -(mean(behind) + mean(before)).mean()


def crf_images(images: UInt8[Tensor, "b 3 h w"], size: Size) -> UInt8[Tensor, "b 3 h1 w1"]:
    """The images as the field sees them: linear between aligned corners, fractions dropped.

    Departure: a thousandth is added before fractions are dropped, so that rounding of a value that is whole
    never takes it down by one; the authors' values come from un-normalising, and are off by one here and
    there.
    """
    small = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=True)
    return (small + 1e-3).clamp(max=255).to(torch.uint8)


def crf_targets(
    p: Float[Tensor, "b k h w"], images: UInt8[Tensor, "b 3 h w"], field: CrfSettings, kernel: str
) -> Float[Tensor, "b k h w"]:
    """What the field makes of p, at least 1e-4 and of sum 1; without gradient."""
    if kernel == "exact":
        q = small_crf(p.detach(), images, field)
    else:
        q = dense_crf_batch(p.detach(), images.permute(0, 2, 3, 1).cpu(), field)
    q = q.clamp(min=_FLOOR)
    return q / q.sum(dim=1, keepdim=True)


def crf_divergence(p: Float[Tensor, "b k h w"], q: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
    """Sum over the classes of q log(q / p), the ratio cut to 0.05..20; mean over pixels and images.

    The gradient goes through p, and stops where the cut acts.
    """
    low, high = _RATIO
    return (q * (q / p).clamp(low, high).log()).sum(dim=1).mean()


def contrast_loss(
    scores: Float[Tensor, "b k gh gw"], labels: Integer[Tensor, "b h w"], tau: float = 0.07
) -> Float[Tensor, ""]:
    """Each pixel against all class texts: cross-entropy of scores / tau at the labels' size.

    Args:
        scores: cosines, -1..1.
        labels: `IGNORE_INDEX` adds nothing, but the sum is divided by all pixels, ignored ones too, as published.
        tau: temperature.
    """
    logits = F.interpolate(scores / tau, size=labels.shape[1:], mode="bilinear", align_corners=False)
    summed = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE_INDEX, reduction="sum")
    return summed / labels.numel()


def _require(output: WeakClipOutput, labels: Tensor, images: Tensor) -> None:
    b, k = output.logits.shape[:2]
    if len(labels) != b or images.shape != (b, 3, *labels.shape[1:]):
        raise ShapeError(
            f"got {b} outputs, labels of {tuple(labels.shape)} and images of {tuple(images.shape)}; "
            "give one of each, of one size"
        )
    used = labels[labels != IGNORE_INDEX]
    if used.numel() and (int(used.min()) < 0 or int(used.max()) >= k):
        wrong = int(used.max()) if int(used.max()) >= k else int(used.min())
        raise InputError(f"a label is {wrong}; the classes are 0 to {k - 1}, and {IGNORE_INDEX} is ignored")
