"""MaskCLIP: each patch keeps its own value.

    C. Zhou, C. C. Loy, B. Dai. "Extract Free Dense Labels from CLIP", ECCV 2022.

Two refinements on the cosines are options: key smoothing (patches with like keys share their guesses) and
prompt denoising (texts that no patch is sure of are taken out).
"""

import torch
from torch.nn import functional as F

from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import Cosines, DenseRule
from tagmask.method import dense_method

__all__ = ["MASKCLIP", "MASKCLIP_BARE", "MASKCLIP_DENOISED", "MASKCLIP_SMOOTHED", "METHODS"]

_TEMPERATURE = 100.0
_SURE = 0.5


def value_only(tower: TowerFeatures) -> None:
    """The identity in place of attention."""
    return None


def smoothed(tower: TowerFeatures, cosines: Cosines) -> Cosines:
    """Each patch's probabilities become the sum of all patches', weighted by the cosine of their keys.

    For patches whose best probability is under 1, which is practically all of them. Keys are taken after the
    output projection, and normalised over channels as in the paper (the authors' program normalises over
    tokens).
    """
    keys = F.normalize(tower.block.attn.merge(tower.k)[:, 1:].float(), dim=-1)
    guesses = torch.softmax(_TEMPERATURE * cosines, dim=1)
    shared = guesses @ (keys @ keys.transpose(1, 2))
    return torch.where(guesses.amax(dim=1, keepdim=True) < 1.0, shared, guesses)


def denoised(tower: TowerFeatures, cosines: Cosines) -> Cosines:
    """Texts whose probability is under 0.5 in every patch get -1, the least a cosine can be.

    The authors' program writes -100; with the harness's softmax over texts both mean never.
    """
    guesses = torch.softmax(_TEMPERATURE * cosines, dim=1)
    return cosines.masked_fill(guesses.amax(dim=2, keepdim=True) < _SURE, -1.0)


MASKCLIP = DenseRule(value_only)
MASKCLIP_BARE = DenseRule(value_only, block_form="bare")
MASKCLIP_SMOOTHED = DenseRule(value_only, scores=smoothed)
MASKCLIP_DENOISED = DenseRule(value_only, scores=denoised)


_SOURCE = "MaskCLIP, Zhou et al., ECCV 2022"

METHODS = (
    dense_method("maskclip", MASKCLIP, "each patch keeps its own value", _SOURCE),
    dense_method(
        "maskclip-bare",
        MASKCLIP_BARE,
        "MaskCLIP without residual and MLP",
        "ClearCLIP, Lan et al., ECCV 2024, ablation",
    ),
    dense_method("maskclip-smoothed", MASKCLIP_SMOOTHED, "MaskCLIP with key smoothing", _SOURCE),
    dense_method("maskclip-denoised", MASKCLIP_DENOISED, "MaskCLIP with prompt denoising", _SOURCE),
)
