"""CLIP's own last block, and three ways to turn its attention down.

    A. Radford et al. "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

CLIP's attention mixes patches until each describes the whole image. The ablations of SCLIP (ECCV 2024) ask
whether that can be mended without new queries and keys: by a sharper softmax, by hiding far patches, by the
attention of an earlier layer, which is still local.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.dense.features import Keep, Pass
from tagmask.types import Attention, Size
from tagmask.variants.rule import DenseRule, Layers, RuleSettings, affinity

__all__ = ["CLIP", "CLIP_BARE", "early", "local", "sharp"]


def vanilla(x: Pass) -> Attention:
    """softmax(q kᵀ / 8). Rows sum to 1."""
    return affinity(x.q, x.k)


CLIP = DenseRule(vanilla)
CLIP_BARE = DenseRule(vanilla, keep="bare")


def sharp(settings: RuleSettings, layers: Layers) -> DenseRule:
    """softmax(q kᵀ / divisor): the paper's best divisor on VOC is 2."""
    factor = 8 / settings.divisor
    return DenseRule(lambda x: affinity(x.q * factor, x.k))


def local(settings: RuleSettings, layers: Layers) -> DenseRule:
    """A patch sees the patches of a square around it, and not the class token, which itself sees all.

    That the class token is hidden is this project's reading: only then is a square of 1 MaskCLIP, as the
    paper says.
    """
    reach = (settings.local_window - 1) // 2
    return DenseRule(lambda x: affinity(x.q, x.k, _hidden(x.grid, reach).to(x.q.device)))


def early(settings: RuleSettings, layers: Layers) -> DenseRule:
    """The attention of an earlier layer, from that layer's own input, on the last block's values."""
    group = frozenset({layers(settings.early_layer)})
    return DenseRule(lambda x: x.heads[group], mid=Keep(heads=frozenset({group})))


def _hidden(grid: Size, reach: int) -> Float[Tensor, "n n"]:
    """0 where a token sees another, else -inf."""
    rows = torch.arange(grid[0]).repeat_interleave(grid[1])
    columns = torch.arange(grid[1]).repeat(grid[0])
    far = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()) > reach
    hidden = torch.zeros(len(rows) + 1, len(rows) + 1)
    hidden[1:, 1:].masked_fill_(far, -torch.inf)
    hidden[1:, 0] = -torch.inf
    return hidden
