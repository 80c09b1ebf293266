"""Encode sentences of which many begin alike, such as "a photo of a cat." and "a photo of a dog.".

The text tower is causal: its states of the first tokens do not depend on those after them. So the states of a
beginning are computed once, and of each sentence only those of the rest, which attend to them.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.model import Text
from tagmask.types import Heads

__all__ = ["SentenceEncoder"]

_BATCH_SIZE = 256
_MAX_TOKENS = 2048
"""Tokens of all beginnings whose states are kept, of 50 kB each in float32; CLIP's 80 templates have 720."""


class SentenceEncoder:
    """Encodes sentences with a text tower, those that begin alike together.

    A sentence's feature does not depend on the others: only sentences of one length share a batch, so that no
    shape does.

    Args:
        text: the tower.
        beginnings: token ids with which sentences may begin, from the start token on; at least one. If they
            are very many, all sentences are encoded whole.
    """

    def __init__(self, text: Text, beginnings: Sequence[Sequence[int]]) -> None:
        self._text = text
        self._device = text.positional_embedding.device
        self._lengths = torch.tensor([len(beginning) for beginning in beginnings])
        self._ids = torch.zeros(len(beginnings), int(self._lengths.max()), dtype=torch.int64)
        for row, beginning in zip(self._ids, beginnings, strict=True):
            row[: len(beginning)] = torch.tensor(beginning)
        self._states = self._compute_states() if self._ids.numel() <= _MAX_TOKENS else None

    @torch.no_grad()
    def __call__(self, ids: Int[Tensor, "q context"], rows: Int[Tensor, " q"]) -> Float[Tensor, "q e"]:
        """Compute what the tower gives for each sentence.

        Args:
            ids: whole sentences, on the CPU.
            rows: the beginning that each is expected to have. One with another is encoded whole.

        Returns:
            Float32 features on the CPU, not normalised.
        """
        encoded = torch.empty(len(ids), self._text.text_projection.shape[1])
        ends = ids.argmax(dim=-1)  # the end token has the largest id
        skipped = self._lengths[rows] * self._begin_as_expected(ids, rows, ends)
        for batch in _batches(skipped > 0, ends - skipped):
            first, last = skipped[batch], int(ends[batch[0]] - skipped[batch[0]])
            rest = ids[batch].gather(1, first[:, None] + torch.arange(last + 1)).to(self._device)
            if first[0]:
                encoded[batch] = self._encode_rest(rest, rows[batch].to(self._device)).cpu()
            else:
                encoded[batch] = self._text(rest).cpu()
        return encoded

    def _begin_as_expected(
        self, ids: Int[Tensor, "q context"], rows: Int[Tensor, " q"], ends: Int[Tensor, " q"]
    ) -> Bool[Tensor, " q"]:
        if self._states is None:
            return torch.zeros(len(ids), dtype=torch.bool)
        lengths, width = self._lengths[rows], self._ids.shape[1]
        padding = torch.arange(width) >= lengths[:, None]
        same = (ids[:, :width] == self._ids[rows]) | padding
        return same.all(dim=-1) & (ends >= lengths)

    @torch.no_grad()
    def _compute_states(self) -> list[tuple[Heads, Heads]]:
        """The k and v of the beginnings in each layer; those after the end of one have no meaning."""
        ids = self._ids.to(self._device)
        x = self._text.embed(ids, torch.arange(ids.shape[1], device=self._device))
        states = []
        for block in self._text.blocks:
            q, k, v = block.attn.qkv(block.ln_1(x))
            states.append((k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = block.feed_forward(x + block.attn.merge(y))
        return states

    def _encode_rest(self, ids: Int[Tensor, "q rest"], rows: Int[Tensor, " q"]) -> Float[Tensor, "q e"]:
        assert self._states is not None
        lengths = self._lengths.to(self._device)[rows]
        positions = lengths[:, None] + torch.arange(ids.shape[1], device=self._device)
        visible = _visible(lengths, self._ids.shape[1], ids.shape[1])
        x = self._text.embed(ids, positions)
        for block, (keys, values) in zip(self._text.blocks, self._states, strict=True):
            q, k, v = block.attn.qkv(block.ln_1(x))
            k, v = torch.cat([keys[rows], k], dim=2), torch.cat([values[rows], v], dim=2)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
            x = block.feed_forward(x + block.attn.merge(y))
        return self._text.project(x[:, -1])


def _batches(shared: Bool[Tensor, " q"], lengths: Int[Tensor, " q"]) -> Iterator[Int[Tensor, " b"]]:
    """Yield the indices of sentences that are computed together: alike in both, in batches."""
    kinds, kind_of = torch.stack([shared.long(), lengths], dim=1).unique(dim=0, return_inverse=True)
    for kind in range(len(kinds)):
        yield from (kind_of == kind).nonzero()[:, 0].split(_BATCH_SIZE)


def _visible(lengths: Int[Tensor, " q"], width: int, rest: int) -> Bool[Tensor, "q 1 rest columns"]:
    """Which states a token attends to: those of its beginning, and of the rest those up to its own."""
    beginning = torch.arange(width, device=lengths.device) < lengths[:, None]
    causal = torch.ones(rest, rest, dtype=torch.bool, device=lengths.device).tril()
    both = (beginning[:, None].expand(-1, rest, -1), causal.expand(len(lengths), -1, -1))
    return torch.cat(both, dim=-1)[:, None]
