"""What training asks of the miniature CLIP, from captions alone.

CLIP's own loss makes the class token of a picture agree with its caption. On the scale of this project that
leaves patch tokens free to mean anything, so two terms make them mean what they show. Both know of a picture
(or of a cell of a collage) only which phrases its caption holds, never where.

* *Found somewhere*: pooled over the patches that answer to it, a phrase of the caption must score higher than
  all phrases that the caption rules out. (Multiple-instance learning with a text-conditioned pooling.)
* *Everything is something*: the patches are dealt out among the words of the caption, each to the one that it
  answers to more than other patches do, and each is drawn to its word away from all others. (Self-labelling
  with a balanced assignment; without the balance the background's word takes every patch.)
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.miniature.captions import Phrase

__all__ = [
    "caption_loss",
    "entailed",
    "everything_loss",
    "phrase_loss",
    "pooled_scores",
    "sinkhorn_assignment",
]


def entailed(
    mentions: Sequence[Sequence[Phrase]], phrases: Sequence[Phrase]
) -> tuple[Bool[Tensor, "r t"], Bool[Tensor, "r t"]]:
    """Which phrases each caption says, and which it rules out.

    "a red car" says "a car" and "a red car"; it rules out "a dog", and "a blue car". A caption with "a car"
    leaves open whether it is red.
    """
    words = sorted({p.word for p in phrases})
    column = {word: i for i, word in enumerate(words)}
    said_words = torch.zeros(len(mentions), len(words), dtype=torch.bool)
    uncoloured = torch.zeros_like(said_words)
    said = torch.zeros(len(mentions), len(phrases), dtype=torch.bool)
    place = {phrase: i for i, phrase in enumerate(phrases)}
    for r, mentioned in enumerate(mentions):
        for phrase in mentioned:
            if phrase.word not in column:
                continue
            said_words[r, column[phrase.word]] = True
            uncoloured[r, column[phrase.word]] |= phrase.colour is None
            for general in (phrase, Phrase(phrase.word)):
                if general in place:
                    said[r, place[general]] = True
    of = torch.tensor([column[p.word] for p in phrases])
    plain = torch.tensor([p.colour is None for p in phrases])
    open_ = uncoloured[:, of] & ~plain
    return said, ~said & ~open_


def pooled_scores(scores: Float[Tensor, "r p t"], sharpness: float = 12.0) -> Float[Tensor, "r t"]:
    """Each text's cosine over the patches of a region, weighted towards those that answer to it most."""
    weights = torch.softmax(scores.detach() * sharpness, dim=1)
    return (weights * scores).sum(dim=1)


def phrase_loss(
    cosines: Float[Tensor, "r t"], scale: Tensor, said: Bool[Tensor, "r t"], ruled_out: Bool[Tensor, "r t"]
) -> Tensor:
    """Contrast of every phrase said with all that are ruled out, over texts and over regions (mean)."""
    logits = cosines * scale
    return (_contrast(logits, said, ruled_out) + _contrast(logits.T, said.T, ruled_out.T)) / 2


def _contrast(logits: Float[Tensor, "r t"], said: Bool[Tensor, "r t"], out: Bool[Tensor, "r t"]) -> Tensor:
    rest = torch.logsumexp(logits.masked_fill(~out, -1e4), dim=1, keepdim=True)
    loss = F.softplus(rest - logits)  # -log(e^said / (e^said + sum of e^ruled out))
    return (loss * said).sum() / said.sum().clamp(min=1)


def everything_loss(
    scores: Float[Tensor, "r p t"],
    scale: Tensor,
    said: Bool[Tensor, "r t"],
    ruled_out: Bool[Tensor, "r t"],
    behind: Bool[Tensor, " t"],
) -> Tensor:
    """Cross-entropy of each patch with the word it is dealt to, against all words that are not left open.

    The texts must be single words (a colour beside a name would compete with the name itself); `behind` are
    those of backgrounds.
    """
    logits = scores * scale
    own = sinkhorn_assignment(
        logits.detach().masked_fill(~said[:, None], -math.inf), _fair_shares(said, behind)
    )
    competing = logits.masked_fill(~(said | ruled_out)[:, None], -math.inf)
    loss = torch.logsumexp(competing, dim=-1) - logits.gather(-1, own[..., None])[..., 0]
    return loss.mean()


def _fair_shares(said: Bool[Tensor, "r t"], behind: Bool[Tensor, " t"]) -> Float[Tensor, "r t"]:
    """Backgrounds together get 60 % of a region, objects the rest, as scenes about have it."""
    kinds = [said & behind, said & ~behind]
    shares = [
        part * kind / kind.sum(dim=1, keepdim=True).clamp(min=1)
        for part, kind in zip((0.6, 0.4), kinds, strict=True)
    ]
    return sum(shares, torch.zeros(()))


def sinkhorn_assignment(
    logits: Float[Tensor, "r p t"], shares: Float[Tensor, "r t"], rounds: int = 3
) -> Int[Tensor, "r p"]:
    """The text that each patch is dealt to, so that a region's texts get about their shares of it.

    Sinkhorn's algorithm: each text's hold on the patches is brought to its share, each patch's to 1, in turn.
    Texts at -inf get none. Without the balance the loudest text takes every patch, and then all patches learn
    to say what the region as a whole shows.
    """
    wanted = shares.log().nan_to_num(neginf=0.0)[:, None]
    held = logits
    for _ in range(rounds):
        held = held - torch.logsumexp(held, dim=1, keepdim=True).nan_to_num(neginf=0.0) + wanted
        held = held - torch.logsumexp(held, dim=2, keepdim=True)
    held = held - torch.logsumexp(held, dim=1, keepdim=True).nan_to_num(neginf=0.0) + wanted
    return held.argmax(dim=-1)


def caption_loss(
    images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], scale: Tensor, same: Bool[Tensor, "b b"]
) -> Tensor:
    """CLIP's loss, symmetric; captions that say the same are all right answers."""
    logits = scale * images @ texts.T
    target = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
