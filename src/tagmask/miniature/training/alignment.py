"""Losses of the miniature CLIP, computed from images and captions only.

CLIP's contrastive loss aligns the class token with the caption. At this small scale it leaves the patch
tokens unconstrained, so two more terms align them with the words. Both use only which phrases the caption of
an image (or of a collage cell) contains, not where.

* *Pooled phrase loss*: a phrase of the caption, pooled over the patches with the highest scores for it, must
  score higher than all phrases that the caption rules out (multiple-instance learning with text-conditioned
  pooling).
* *Assignment loss*: the patches are assigned to the words of the caption by their relative scores, and
  trained to predict the assigned word (self-labelling with a balanced assignment; without the balance the
  background's word gets every patch).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.miniature.captions import Phrase

__all__ = [
    "assignment_loss",
    "caption_loss",
    "entailed",
    "phrase_loss",
    "pooled_scores",
    "sinkhorn_assignment",
]


def entailed(
    mentions: Sequence[Sequence[Phrase]], phrases: Sequence[Phrase]
) -> tuple[Bool[Tensor, "r t"], Bool[Tensor, "r t"]]:
    """Return which phrases each caption entails, and which it rules out.

    "a red car" entails "a car" and "a red car"; it rules out "a dog" and "a blue car". "a car" neither
    entails nor rules out "a red car".
    """
    words = sorted({p.word for p in phrases})
    column = {word: i for i, word in enumerate(words)}
    uncoloured = torch.zeros(len(mentions), len(words), dtype=torch.bool)
    is_entailed = torch.zeros(len(mentions), len(phrases), dtype=torch.bool)
    index = {phrase: i for i, phrase in enumerate(phrases)}
    for r, mentioned in enumerate(mentions):
        for phrase in mentioned:
            if phrase.word not in column:
                continue
            uncoloured[r, column[phrase.word]] |= phrase.colour is None
            for general in (phrase, Phrase(phrase.word)):
                if general in index:
                    is_entailed[r, index[general]] = True
    of = torch.tensor([column[p.word] for p in phrases])
    plain = torch.tensor([p.colour is None for p in phrases])
    undetermined = uncoloured[:, of] & ~plain
    return is_entailed, ~is_entailed & ~undetermined


def pooled_scores(scores: Float[Tensor, "r p t"], sharpness: float = 12.0) -> Float[Tensor, "r t"]:
    """Pool each text's cosines over the patches of a region, weighted towards the highest ones."""
    weights = torch.softmax(scores.detach() * sharpness, dim=1)
    return (weights * scores).sum(dim=1)


def phrase_loss(
    cosines: Float[Tensor, "r t"],
    scale: Tensor,
    is_entailed: Bool[Tensor, "r t"],
    ruled_out: Bool[Tensor, "r t"],
) -> Tensor:
    """Contrast every entailed phrase with all that are ruled out; mean over both directions."""
    logits = cosines * scale
    return (_contrast(logits, is_entailed, ruled_out) + _contrast(logits.T, is_entailed.T, ruled_out.T)) / 2


def _contrast(
    logits: Float[Tensor, "r t"], is_entailed: Bool[Tensor, "r t"], ruled_out: Bool[Tensor, "r t"]
) -> Tensor:
    rest = torch.logsumexp(logits.masked_fill(~ruled_out, -1e4), dim=1, keepdim=True)
    loss = F.softplus(rest - logits)  # -log(e^entailed / (e^entailed + sum of e^ruled_out))
    return (loss * is_entailed).sum() / is_entailed.sum().clamp(min=1)


def assignment_loss(
    scores: Float[Tensor, "r p t"],
    scale: Tensor,
    is_entailed: Bool[Tensor, "r t"],
    ruled_out: Bool[Tensor, "r t"],
    is_background: Bool[Tensor, " t"],
    object_share: float = 0.4,
) -> Tensor:
    """Cross-entropy of each patch with its assigned word, among all words entailed or ruled out.

    Texts must be words without a colour (a coloured name would compete with the name itself); `is_background`
    marks those of backgrounds. `object_share` is the fraction of a region that is assigned to its objects.
    """
    logits = scores * scale
    assigned = sinkhorn_assignment(
        logits.detach().masked_fill(~is_entailed[:, None], -math.inf),
        _target_shares(is_entailed, is_background, object_share),
    )
    competing = logits.masked_fill(~(is_entailed | ruled_out)[:, None], -math.inf)
    loss = torch.logsumexp(competing, dim=-1) - logits.gather(-1, assigned[..., None])[..., 0]
    return loss.mean()


def _target_shares(
    is_entailed: Bool[Tensor, "r t"], is_background: Bool[Tensor, " t"], object_share: float
) -> Float[Tensor, "r t"]:
    """Divide `object_share` of a region among its objects, the rest among its backgrounds."""
    kinds = [is_entailed & is_background, is_entailed & ~is_background]
    shares = [
        part * kind / kind.sum(dim=1, keepdim=True).clamp(min=1)
        for part, kind in zip((1 - object_share, object_share), kinds, strict=True)
    ]
    return sum(shares, torch.zeros(()))


def sinkhorn_assignment(
    logits: Float[Tensor, "r p t"], shares: Float[Tensor, "r t"], rounds: int = 3
) -> Int[Tensor, "r p"]:
    """Assign each patch to a text, so that the texts get about their shares of a region.

    Sinkhorn's algorithm: alternately normalises each text's total to its share and each patch's total to 1.
    Texts at -inf get none. Without the balance the highest-scoring text gets every patch, and all patches
    learn to predict the content of the whole region.
    """
    log_shares = shares.log().nan_to_num(neginf=0.0)[:, None]
    balanced = logits
    for _ in range(rounds):
        balanced = (
            balanced - torch.logsumexp(balanced, dim=1, keepdim=True).nan_to_num(neginf=0.0) + log_shares
        )
        balanced = balanced - torch.logsumexp(balanced, dim=2, keepdim=True)
    balanced = balanced - torch.logsumexp(balanced, dim=1, keepdim=True).nan_to_num(neginf=0.0) + log_shares
    return balanced.argmax(dim=-1)


def caption_loss(
    images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], scale: Tensor, same: Bool[Tensor, "b b"]
) -> Tensor:
    """CLIP's symmetric contrastive loss; captions with the same phrases are all correct."""
    logits = scale * images @ texts.T
    target = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
