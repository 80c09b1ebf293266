"""TaI-DPT's inference with plain prompts: the mean of a global score and an aggregated local score.

    Z. Guo, B. Dong, Z. Ji, J. Bai, Y. Guo, W. Zuo.
    "Texts as Images in Prompt Tuning for Multi-Label Image Recognition" (TaI-DPT), CVPR 2023.

    ĝ    (b, e) global image feature, unit              l̂   (b, p, e) local features, one per position, unit
    T    (q, e) texts, unit                             s   the logit scale

    z_k = s ĝ·T_k        z_ik = s l̂_i·T_k        local_k = Σ_i softmax_i(z_ik) z_ik        (z + local) / 2

Nothing is learned here: these are the authors' formulas with the sentence "a photo of a {}." in place of
their learned prompts, which is what TagCLIP's table calls CLIP-DPT.

The authors' tower is a ResNet-50. Departure: tagmask loads ViTs, where ĝ is the class token and l̂ the value
path of the last block, with residual and MLP, as in TagCLIP. Where the softmax of TagCLIP's "with softmax"
row is applied was not published: the `softmax` setting offers both places.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_choice, check_number
from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.method import Method, OwnWords
from tagmask.papers.preprocessing import InputSettings, encode_image
from tagmask.types import Pixels, TextFeatures

__all__ = ["METHODS", "DptSettings", "aggregate", "global_logits", "local_logits", "merge", "score"]


@dataclass(frozen=True, kw_only=True)
class DptSettings(InputSettings):
    """Settings of TaI-DPT with plain prompts."""

    local_weight: float = 0.5
    """Weight of the local score; the global score has weight 1 - this."""
    softmax: str = "none"
    """Softmax over the words: "none"; "each", of both scores before merging; "merged", of their mean."""

    def __post_init__(self) -> None:
        InputSettings.__post_init__(self)
        check_number("local_weight", self.local_weight, 0, 1)
        check_choice("softmax", self.softmax, ("none", "each", "merged"))


def global_logits(g: Float[Tensor, "b e"], texts: TextFeatures, scale: float) -> Float[Tensor, "b q"]:
    """z_k = s ĝ·T_k."""
    return scale * F.normalize(g, dim=-1) @ texts.T


def local_logits(l: Float[Tensor, "b p e"], texts: TextFeatures, scale: float) -> Float[Tensor, "b q"]:  # noqa: E741
    """Σ_i softmax_i(z_ik) z_ik over z_ik = s l̂_i·T_k."""
    return aggregate(scale * F.normalize(l, dim=-1) @ texts.T)


def aggregate(z: Float[Tensor, "b p q"]) -> Float[Tensor, "b q"]:
    """Average each text's logits over the positions, weighted by their softmax over positions, not texts.

    Example:
        >>> aggregate(torch.tensor([[[0.0], [0.0], [30.0]]]))
        tensor([[30.]])
    """
    return (torch.softmax(z, dim=1) * z).sum(dim=1)


def merge(
    z: Float[Tensor, "b q"], local: Float[Tensor, "b q"], settings: DptSettings
) -> Float[Tensor, "b q"]:
    """Return the weighted mean of global and local scores, with the softmax where the settings place it."""
    if settings.softmax == "each":
        z, local = torch.softmax(z, dim=-1), torch.softmax(local, dim=-1)
    mean = (1 - settings.local_weight) * z + settings.local_weight * local
    return torch.softmax(mean, dim=-1) if settings.softmax == "merged" else mean


def score(clip: Clip, pixels: Pixels, texts: TextFeatures, settings: DptSettings) -> Float[Tensor, "b q"]:
    """Return the score of each text for each image, by a ViT."""
    tower = encode_image(clip, pixels)
    z = global_logits(class_token(tower), texts, clip.logit_scale)
    local = local_logits(tower.project_last_block(None)[:, 1:], texts, clip.logit_scale)
    return merge(z, local, settings)


_SOURCE = "TaI-DPT, Guo et al., CVPR 2023, with plain prompts, here on a ViT"

METHODS = (
    Method(
        name="dpt",
        kind="one_pass",
        score=score,
        summary="mean of the global score and the aggregated patch scores",
        source=_SOURCE,
        settings=DptSettings,
        own_words=OwnWords(templates=("a photo of a {}.",)),
    ),
    Method(
        name="dpt-softmax",
        kind="one_pass",
        score=score,
        summary="dpt with a softmax over the words on both scores",
        source=f"{_SOURCE}; softmax: TagCLIP, Lin et al., AAAI 2024",
        settings=DptSettings,
        preset={"softmax": "each"},
        own_words=OwnWords(templates=("a photo of a {}.",)),
    ),
)
