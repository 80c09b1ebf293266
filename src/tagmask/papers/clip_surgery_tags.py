"""CLIP Surgery as a tagger: what all words have in common is taken away from each.

    Y. Li, H. Wang, Y. Duan, J. Zhang, X. Li.
    "A Closer Look at the Explainability of Contrastive Language-Image Pre-training" (CLIP Surgery), 2023.

    F    (b, n, e) tokens, unit rows, class token first      T    (K, e) texts, unit rows      c_ik = F_i·T_k

    w_k  = K softmax_k(2 c_0k)                     how much the class token speaks for word k, mean 1
    S_ik = w_k c_ik - mean_j(w_j c_ij)             feature surgery

A word's score is S_0k, read at the class token (as its authors say where they were asked): there the tower is
unaltered, so the second stream is not needed. `pool="patches"` takes the best patch of that stream instead,
which is ours.

As coded, the element-wise products of all tokens, texts and channels are formed and summed; this is the same
sum in closed form, and images of a batch do not mix, as they would there. Which texts, input and sentences
made the figures in TagCLIP's table was not published.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_choice
from tagmask.clip.load import Clip
from tagmask.dense.class_token import class_token
from tagmask.papers.inputs import InputSettings, look
from tagmask.papers.surgery_stream import surgery_tokens
from tagmask.types import Pixels, TextFeatures

__all__ = ["SurgeryTagSettings", "feature_surgery", "score"]

_TEMPERATURE = 2.0


@dataclass(frozen=True, kw_only=True)
class SurgeryTagSettings(InputSettings):
    """Every number of the method."""

    input: str = "square"
    """"centre", "square" or "native"."""
    pool: str = "class"
    """Where a word's score is read: at the "class" token, or at the best of the "patches"."""

    def __post_init__(self) -> None:
        InputSettings.__post_init__(self)
        check_choice("pool", self.pool, ("class", "patches"))


def feature_surgery(tokens: Float[Tensor, "b n e"], texts: TextFeatures) -> Float[Tensor, "b n K"]:
    """S: each text's similarity to each token, less what all texts share.

    Args:
        tokens: unit rows, the class token first.
        texts: unit rows; with one text nothing is left, since it shares all with itself.

    Returns:
        Sums over the texts are 0 at every token; about -0.1..0.1.

    Example:
        >>> tokens = torch.nn.functional.normalize(torch.ones(1, 3, 4), dim=-1)
        >>> feature_surgery(tokens, tokens[0, :1]).abs().max()
        tensor(0.)
    """
    c = tokens @ texts.T
    weighted = len(texts) * torch.softmax(_TEMPERATURE * c[:, :1], dim=-1) * c
    return weighted - weighted.mean(dim=-1, keepdim=True)


def score(
    clip: Clip, pixels: Pixels, texts: TextFeatures, settings: SurgeryTagSettings
) -> Float[Tensor, "b K"]:
    """S_0k of each image; with `pool="patches"`, max_i S_ik over the patches of the second stream."""
    if settings.pool == "class":
        return feature_surgery(class_token(look(clip, pixels))[:, None], texts)[:, 0]
    tokens = F.normalize(surgery_tokens(clip.vision, pixels), dim=-1)
    return feature_surgery(tokens, texts)[:, 1:].amax(dim=1)
