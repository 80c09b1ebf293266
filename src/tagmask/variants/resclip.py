"""ResCLIP: mixes attention of middle layers and feedback from a first prediction into a base method.

    Y. Yang et al. "ResCLIP: Residual Attention for Training-free Dense Vision-language Inference", CVPR 2025.

RCS (residual cross-correlation) mixes in the mean attention of layers 5 to 8 after the softmax. SFR (semantic
feedback) mixes in, before the softmax, which patches have the same label in a first pass. Windows are
processed independently.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_number
from tagmask.dense.features import CaptureSpec, TowerFeatures
from tagmask.dense.rule import DenseRule, Layers, LayerSettings, SecondPassContext
from tagmask.method import dense_method
from tagmask.refine.pamr import pamr
from tagmask.types import Attention, Heads, Size
from tagmask.variants.similarity import gaussian_prior

__all__ = [
    "METHODS",
    "ResclipSettings",
    "initial_probabilities",
    "label_affinity",
    "patch_labels",
    "resclip",
    "smoothed_affinity",
]

_MIDDLE_LAYERS = range(5, 9)
_PAMR_STEPS, _DILATIONS = 10, (8, 16)
_SIGMA, _KERNEL_LENGTH = 5.0, 31

Pairs = Callable[[TowerFeatures], Sequence[tuple[Heads, Heads]]]


def _queries(tower: TowerFeatures) -> Sequence[tuple[Heads, Heads]]:
    return ((tower.q, tower.q),)


def _keys(tower: TowerFeatures) -> Sequence[tuple[Heads, Heads]]:
    return ((tower.k, tower.k),)


def _both(tower: TowerFeatures) -> Sequence[tuple[Heads, Heads]]:
    return ((tower.q, tower.q), (tower.k, tower.k))


BASE_METHODS: dict[str, tuple[Pairs, bool, str]] = {
    "naclip": (_keys, True, "bare"),
    "clearclip": (_queries, False, "bare"),
    "sclip": (_both, False, "full"),
}
"""By base method: pairs whose products are the logits, whether to add NACLIP's prior, the block form."""


@dataclass(frozen=True, kw_only=True)
class ResclipSettings(LayerSettings):
    """Settings of ResCLIP."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("short_path", *LayerSettings.QUIRKS)

    temp_thd: float = 0.1
    """Pixels whose first prediction is below it count as name 0."""
    rcs_scale: float = 2.0
    """Factor on the attention after mixing with that of middle layers."""
    rcs_share: float = 0.3
    """Share of the middle layers in the attention, 0..1."""
    sfr_scale: float = 2.0
    """Factor on the logits after mixing with the label affinity of the first prediction."""
    sfr_share: float = 0.7
    """Share of the label affinity in the logits, 0..1."""
    short_path: bool = True
    """As coded, tests only the first part of the line between two patches."""

    def __post_init__(self) -> None:
        for name in ("temp_thd", "rcs_share", "sfr_share"):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("rcs_scale", "sfr_scale"):
            check_number(name, getattr(self, name), 0)


def resclip(
    base: str = "naclip", *, rcs: bool = True, sfr: bool = True
) -> Callable[[ResclipSettings, int], DenseRule]:
    """ResCLIP on a base method, with RCS, SFR or both."""
    pairs, with_prior, block_form = BASE_METHODS[base]

    def make(settings: ResclipSettings, depth: int) -> DenseRule:
        middle = frozenset(map(Layers(depth, settings.absolute_layers), _MIDDLE_LAYERS))

        def weights(tower: TowerFeatures) -> Attention:
            total = sum(_attention(tower, q, k, settings, with_prior) for q, k in pairs(tower))
            assert isinstance(total, Tensor)  # every base method has a pair
            if not rcs:
                return total
            share = settings.rcs_share
            return settings.rcs_scale * ((1 - share) * total + share * tower.heads[middle])

        def second_pass(
            tower: TowerFeatures, features: Float[Tensor, "b p e"], context: SecondPassContext
        ) -> TowerFeatures:
            labels = [
                patch_labels(window, tower.grid, tower.vision.patch, settings.temp_thd)
                for window in initial_probabilities(features, tower.grid, context)
            ]
            maps = [smoothed_affinity(window, short_path=settings.short_path) for window in labels]
            prior = torch.stack([F.pad(window / window.max(), (1, 0, 1, 0)) for window in maps])
            return tower.with_tokens(tower.tokens, prior[:, None])

        capture = CaptureSpec(heads=frozenset({middle} if rcs else ()))
        return DenseRule(
            weights, block_form=block_form, capture=capture, second_pass=second_pass if sfr else None
        )

    return make


def _attention(
    tower: TowerFeatures, q: Heads, k: Heads, settings: ResclipSettings, with_prior: bool
) -> Attention:
    logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).float()
    if tower.prior is not None:
        # As coded, the label affinity is rounded to half precision before and after scaling.
        feedback = (settings.sfr_share * tower.prior.half()).half().float()
        logits = settings.sfr_scale * ((1 - settings.sfr_share) * logits + feedback)
    if with_prior:
        logits = logits + gaussian_prior(tower.grid).to(logits.device)
    return torch.softmax(logits, dim=-1)


# -- Semantic feedback ---------------------------------------------------------------------------------------


def initial_probabilities(
    features: Float[Tensor, "b p e"], grid: Size, context: SecondPassContext
) -> Iterator[Float[Tensor, "q h w"]]:
    """Probability of each name at each pixel of each window: cosines, PAMR, softmax over names."""
    size = (context.pixels.shape[-2], context.pixels.shape[-1])
    cosines = (F.normalize(features, dim=-1) @ context.texts.T).transpose(1, 2)
    for maps, guide in zip(cosines.reshape(*cosines.shape[:2], *grid), context.pixels, strict=True):
        full = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
        refined = pamr(full, guide, steps=_PAMR_STEPS, dilations=_DILATIONS)
        yield torch.softmax(refined * context.scale, dim=0)


def patch_labels(
    probabilities: Float[Tensor, "q h w"], grid: Size, patch: int, threshold: float
) -> Int[Tensor, "gh gw"]:
    """The most frequent name among the pixels of each patch; pixels below the threshold count as name 0.

    Labels are names, not classes. The first of equally frequent names wins.
    """
    gh, gw = grid
    best, names = probabilities.max(dim=0)
    names = torch.where(best < threshold, 0, names)[: gh * patch, : gw * patch]
    cells = names.reshape(gh, patch, gw, patch).transpose(1, 2).reshape(gh * gw, patch * patch)
    counts = torch.zeros(gh * gw, len(probabilities), dtype=torch.int32, device=probabilities.device)
    counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.int32))
    # Not argmax, which does not guarantee the first of equal values.
    return counts.max(dim=1).indices.view(gh, gw)


def label_affinity(labels: Int[Tensor, "gh gw"], *, short_path: bool) -> Float[Tensor, "p p"]:
    """Affinity of patches by label: 1 for equal labels, 0 for different ones.

    If the straight line between two patches of equal label crosses another label, their affinity is
    exp(-d / s), with d the Chebyshev distance and s the grid's longer side minus one.

    Args:
        labels: label of each patch.
        short_path: as coded, tests only the points 0 to d of the s + 1 points of the line.
    """
    gh, gw = labels.shape
    flat = labels.flatten()
    same = flat[:, None] == flat
    steps = max(gh, gw) - 1
    if steps < 1:
        return same.float()
    distance = _chebyshev(gh, gw).to(flat.device)
    interrupted = torch.zeros_like(same)
    for k, (down, across) in enumerate(zip(_lines(gh, steps), _lines(gw, steps), strict=True)):
        crossed = (down[:, None, :, None] * gw + across[None, :, None, :]).reshape(gh * gw, gh * gw)
        differs = flat[crossed.to(flat.device)] != flat[:, None]
        interrupted |= differs & (distance >= k) if short_path else differs
    decayed = torch.exp(-distance / steps)
    return torch.where(same, torch.where(interrupted, decayed, 1.0), 0.0)


def smoothed_affinity(labels: Int[Tensor, "gh gw"], *, short_path: bool = True) -> Float[Tensor, "p p"]:
    """Label affinity, smoothed along the flattened patches, as coded; rows sum to 1."""
    affinity = label_affinity(labels, short_path=short_path)
    length = min(len(affinity), _KERNEL_LENGTH)
    length += length % 2 == 0
    offset = torch.arange(length, dtype=torch.float32, device=affinity.device) - length // 2
    kernel = torch.exp(-(offset**2) / (2 * _SIGMA**2))
    smooth = F.conv1d(affinity[:, None], (kernel / kernel.sum())[None, None], padding=length // 2)[:, 0]
    return smooth / (smooth.sum(dim=1, keepdim=True) + 1e-8)


@cache
def _chebyshev(gh: int, gw: int) -> Float[Tensor, "p p"]:
    rows = torch.arange(gh).repeat_interleave(gw)
    columns = torch.arange(gw).repeat(gh)
    return torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()).float()


@cache
def _lines(side: int, steps: int) -> tuple[Int[Tensor, "side side"], ...]:
    """Positions on the line from i to j along one axis after k of `steps` equal steps, rounded."""
    positions = torch.arange(side, dtype=torch.float32)
    times = torch.linspace(0, 1, steps + 1)
    return tuple((positions[:, None] * (1 - t) + positions * t).round().long() for t in times)


_SOURCE = "ResCLIP, Yang et al., CVPR 2025"

METHODS = (
    dense_method(
        "resclip",
        resclip(),
        "NACLIP with attention of middle layers and feedback from a first pass",
        _SOURCE,
        settings=ResclipSettings,
        large="VOC21 54.1 on L/14, 61.1 on B/16; Context59 34.5, 36.8",
    ),
    dense_method(
        "resclip-rcs",
        resclip(sfr=False),
        "NACLIP with attention of middle layers",
        _SOURCE,
        settings=ResclipSettings,
    ),
    dense_method(
        "resclip-sfr",
        resclip(rcs=False),
        "NACLIP with feedback from a first pass",
        _SOURCE,
        settings=ResclipSettings,
    ),
    dense_method(
        "resclip-clearclip",
        resclip("clearclip"),
        "ResCLIP on ClearCLIP",
        _SOURCE,
        settings=ResclipSettings,
        large="VOC21 50.7 on L/14, 59.0 on B/16; Context59 33.4, 36.4",
    ),
    dense_method(
        "resclip-sclip",
        resclip("sclip"),
        "ResCLIP on SCLIP",
        _SOURCE,
        settings=ResclipSettings,
        large="VOC21 52.8 on L/14, 60.7 on B/16; Context59 30.6, 35.8",
    ),
)
