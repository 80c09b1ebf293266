"""CLIP's unmodified last block, and three ways to make its attention more local.

    A. Radford et al. "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

CLIP's attention mixes patches until each describes the whole image. The ablations of SCLIP (ECCV 2024) test
whether this can be fixed without new queries and keys: by a sharper softmax, by masking distant patches, or
by the attention of an earlier layer, which is more local.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.checks import check_number
from tagmask.dense.features import CaptureSpec, TowerFeatures
from tagmask.dense.rule import DenseRule, Layers, LayerSettings, VariantSettings, affinity
from tagmask.method import dense_method
from tagmask.types import Attention, Size

__all__ = [
    "CLIP",
    "CLIP_BARE",
    "METHODS",
    "EarlySettings",
    "LocalSettings",
    "SharpSettings",
    "early",
    "local",
    "sharp",
]


def vanilla(tower: TowerFeatures) -> Attention:
    """softmax(q kᵀ / 8). Rows sum to 1."""
    return affinity(tower.q, tower.k)


CLIP = DenseRule(vanilla)
CLIP_BARE = DenseRule(vanilla, block_form="bare")


@dataclass(frozen=True, kw_only=True)
class SharpSettings(VariantSettings):
    """Settings of clip-sharp."""

    divisor: float = 2.0
    """Divisor of the attention logits; CLIP uses 8, smaller is sharper."""

    def __post_init__(self) -> None:
        check_number("divisor", self.divisor, 1e-3)


@dataclass(frozen=True, kw_only=True)
class LocalSettings(VariantSettings):
    """Settings of clip-local."""

    local_window: int = 3
    """Side of the square of patches that a patch attends to; 1 gives MaskCLIP."""

    def __post_init__(self) -> None:
        check_number("local_window", self.local_window, 1, whole=True)


@dataclass(frozen=True, kw_only=True)
class EarlySettings(LayerSettings):
    """Settings of clip-early."""

    early_layer: int = 7
    """Layer whose attention the last block uses, in a tower of 12."""

    def __post_init__(self) -> None:
        check_number("early_layer", self.early_layer, 0, 10, whole=True)


def sharp(settings: SharpSettings, depth: int) -> DenseRule:
    """softmax(q kᵀ / divisor); the paper's best divisor on VOC is 2."""
    factor = 8 / settings.divisor
    return DenseRule(lambda x: affinity(x.q * factor, x.k))


def local(settings: LocalSettings, depth: int) -> DenseRule:
    """Each patch attends to a square of patches around it; the class token attends to all tokens.

    Patches do not attend to the class token. This is this project's interpretation: only then does a square
    of 1 give MaskCLIP, as the paper says.
    """
    radius = (settings.local_window - 1) // 2
    return DenseRule(lambda x: affinity(x.q, x.k, _local_mask(x.grid, radius).to(x.q.device)))


def early(settings: EarlySettings, depth: int) -> DenseRule:
    """The attention map of an earlier layer, applied to the last block's values."""
    group = frozenset({Layers(depth, settings.absolute_layers)(settings.early_layer)})
    return DenseRule(lambda x: x.heads[group], capture=CaptureSpec(heads=frozenset({group})))


def _local_mask(grid: Size, radius: int) -> Float[Tensor, "n n"]:
    """0 where a token attends to another, else -inf."""
    rows = torch.arange(grid[0]).repeat_interleave(grid[1])
    columns = torch.arange(grid[1]).repeat(grid[0])
    far = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()) > radius
    mask = torch.zeros(len(rows) + 1, len(rows) + 1)
    mask[1:, 1:].masked_fill_(far, -torch.inf)
    mask[1:, 0] = -torch.inf
    return mask


_SOURCE = "CLIP, Radford et al., ICML 2021"
_ABLATION = "SCLIP, Wang et al., ECCV 2024, ablation"

METHODS = (
    dense_method("clip", CLIP, "the last block as trained", _SOURCE),
    dense_method(
        "clip-bare",
        CLIP_BARE,
        "CLIP's attention, without residual and MLP",
        "ClearCLIP, Lan et al., ECCV 2024, ablation",
    ),
    dense_method("clip-sharp", sharp, "CLIP's attention, sharpened", _ABLATION, settings=SharpSettings),
    dense_method(
        "clip-local",
        local,
        "CLIP's attention, limited to neighbouring patches",
        _ABLATION,
        settings=LocalSettings,
    ),
    dense_method("clip-early", early, "the attention of an earlier layer", _ABLATION, settings=EarlySettings),
)
