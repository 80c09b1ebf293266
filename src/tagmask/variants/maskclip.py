"""MaskCLIP: each patch keeps its own value.

    C. Zhou, C. C. Loy, B. Dai. "Extract Free Dense Labels from CLIP", ECCV 2022.

Two refinements of the cosines are optional: key smoothing (patches with similar keys share their predictions)
and prompt denoising (texts that no patch predicts with confidence are removed).
"""

import torch
from torch.nn import functional as F

from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import Cosines, DenseRule
from tagmask.method import dense_method

__all__ = ["MASKCLIP", "MASKCLIP_BARE", "MASKCLIP_DENOISED", "MASKCLIP_SMOOTHED", "METHODS"]

_TEMPERATURE = 100.0
_CONFIDENT = 0.5


def value_only(tower: TowerFeatures) -> None:
    """Replace attention by the identity."""
    return None


def smoothed(tower: TowerFeatures, cosines: Cosines) -> Cosines:
    """Key smoothing: sum the probabilities of all patches, weighted by the cosine of their keys.

    Applies to patches whose highest probability is under 1, which is nearly all of them. Keys are taken after
    the output projection and normalised over channels as in the paper (the authors' program normalises over
    tokens).
    """
    keys = F.normalize(tower.block.attn.merge(tower.k)[:, 1:].float(), dim=-1)
    probabilities = torch.softmax(_TEMPERATURE * cosines, dim=1)
    shared = probabilities @ (keys @ keys.transpose(1, 2))
    return torch.where(probabilities.amax(dim=1, keepdim=True) < 1.0, shared, probabilities)


def denoised(tower: TowerFeatures, cosines: Cosines) -> Cosines:
    """Prompt denoising: texts with a probability under 0.5 in every patch get -1, the minimum of a cosine.

    The authors' program uses -100; after the softmax over texts, both exclude the text.
    """
    probabilities = torch.softmax(_TEMPERATURE * cosines, dim=1)
    return cosines.masked_fill(probabilities.amax(dim=2, keepdim=True) < _CONFIDENT, -1.0)


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
