"""What training asks of the miniature CLIP, from captions alone.

CLIP's own loss makes the class token of a picture agree with its caption. On the scale of this project that
leaves patch tokens free to mean anything, so two terms make them mean what they show. Both know of a picture
(or of a cell of a collage) only which phrases its caption holds, never where.

* *Found somewhere*: pooled over the patches that answer to it, a phrase of the caption must score higher than
  all phrases that the caption rules out. (Multiple-instance learning with a text-conditioned pooling.)
* *Everything is something*: each patch takes the phrase of the caption that it answers to most, and is drawn
  to it away from all phrases that are ruled out.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.miniature.captions import Phrase

__all__ = ["caption_loss", "entailed", "everything_loss", "phrase_loss", "pooled_scores"]


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
) -> Tensor:
    """Cross-entropy of each patch with the said phrase it answers to most, against all that are ruled out."""
    logits = scores * scale
    open_ = ~(said | ruled_out)[:, None]
    logits = logits.masked_fill(open_, -1e4)
    own = logits.detach().masked_fill(~said[:, None], -1e4).argmax(dim=-1, keepdim=True)
    # Other said phrases neither attract nor repel: "a car" and "a red car" may both be true of a patch.
    others = said[:, None].expand_as(logits).scatter(-1, own, value=False)
    logits = logits.masked_fill(others, -1e4)
    loss = torch.logsumexp(logits, dim=-1) - logits.gather(-1, own)[..., 0]
    return loss.mean()


def caption_loss(
    images: Float[Tensor, "b e"], texts: Float[Tensor, "b e"], scale: Tensor, same: Bool[Tensor, "b b"]
) -> Tensor:
    """CLIP's loss, symmetric; captions that say the same are all right answers."""
    logits = scale * images @ texts.T
    target = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
