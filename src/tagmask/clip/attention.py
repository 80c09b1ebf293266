"""Attention of frozen blocks: the outputs, the attention map averaged over heads, or both.

In bfloat16 on a processor without matrix tiles, torch's fused attention is slow. There, `attend` multiplies
groups of heads and query rows whose weights stay in the caches; the weights themselves are bfloat16, and
their average over heads is summed in float32.
"""

from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.types import Heads

__all__ = ["attend", "attend_with_mean", "attention_weights", "mean_attention"]

_MAX_WEIGHTS = 2**24
"""Attention weights in memory at once when they are computed: 64 MiB in float32."""
_QUERY_ROWS = 64
"""Query rows whose attention weights are computed at once on a processor, so that they stay in its cache."""
_CACHED_WEIGHTS = 2**19
"""Attention weights that stay there without that."""
_GROUP_ROWS = 1024
"""Most query rows of a group of bfloat16 weights."""
_GROUP_WEIGHTS = 2**20
"""Weights of a group for each thread."""

_Bias = Float[Tensor, "#b #heads n n"]


def attend(q: Heads, k: Heads, v: Heads, bias: _Bias | None = None, *, causal: bool = False) -> Heads:
    """Compute attention; `bias` is added to the logits."""
    if not causal and _in_groups(q):
        return _attend_in_groups(q, k, v, bias)
    mask = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attend_with_mean(q: Heads, k: Heads, v: Heads) -> tuple[Heads, Float[Tensor, "b n n"]]:
    """Compute attention, and its map averaged over heads (float32); in blocks of query rows."""
    mean = q.new_empty(len(q), q.shape[2], q.shape[2], dtype=torch.float32)
    if _in_groups(q):
        return _attend_in_groups(q, k, v, mean=mean), mean
    outputs = torch.empty_like(v)
    for rows in _row_blocks(q):
        weights = attention_weights(q[:, :, rows], k)
        outputs[:, :, rows] = weights.to(v.dtype) @ v
        torch.mean(weights, dim=1, out=mean[:, rows])
    return outputs, mean


def mean_attention(q: Heads, k: Heads) -> Float[Tensor, "b n n"]:
    """Compute the attention map averaged over heads; rows sum to 1."""
    mean = q.new_empty(len(q), q.shape[2], q.shape[2], dtype=torch.float32)
    for rows in _row_blocks(q):
        torch.mean(attention_weights(q[:, :, rows], k), dim=1, out=mean[:, rows])
    return mean


def attention_weights(q: Float[Tensor, "b heads rows dh"], k: Heads) -> Float[Tensor, "b heads rows n"]:
    """Compute softmax(q kᵀ / 8) in float32, from logits in the precision of q and k."""
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1, dtype=torch.float32)


def _row_blocks(q: Heads) -> list[slice]:
    b, heads, n, _ = q.shape
    most = max(1, _MAX_WEIGHTS // (b * heads * n))
    in_blocks = q.device.type == "cpu" and b * heads * n * n > _CACHED_WEIGHTS
    size = min(most, _QUERY_ROWS) if in_blocks else most
    return [slice(first, first + size) for first in range(0, n, size)]


# -- bfloat16 on a processor ---------------------------------------------------------------------------------


def _in_groups(q: Heads) -> bool:
    """Whether groups are faster than fused attention. They keep no graph for a gradient."""
    frozen = torch.is_inference_mode_enabled() or not torch.is_grad_enabled()
    return frozen and q.device.type == "cpu" and q.dtype == torch.bfloat16 and _has_only_vectors()


@cache
def _has_only_vectors() -> bool:
    # With AMX, fused attention works on tiles and has not been found slow. Without either, bfloat16 is
    # emulated. Older releases of torch do not know.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16")) and not capabilities.get("amx_bf16")


def _attend_in_groups(
    q: Heads,
    k: Heads,
    v: Heads,
    bias: _Bias | None = None,
    mean: Float[Tensor, "b n n"] | None = None,
) -> Heads:
    """Compute attention in groups; `mean` receives the average of the weights over heads."""
    b, heads, n, dh = q.shape
    q, k, v = (q * dh**-0.5).contiguous(), k.contiguous(), v.contiguous()
    bias = None if bias is None else bias.to(q.dtype).expand(b, heads, n, n)
    outputs = torch.empty_like(v)
    if mean is not None:
        mean.zero_()
    for images, part, rows in _groups(b, heads, n):
        logits = q[images, part, rows] @ k[images, part].transpose(-2, -1)
        if bias is not None:
            logits += bias[images, part, rows]
        weights = torch.softmax(logits, dim=-1)
        outputs[images, part, rows] = weights @ v[images, part]
        if mean is not None:
            mean[images, rows] += weights.sum(dim=1, dtype=torch.float32)
    if mean is not None:
        mean /= heads
    return outputs


def _groups(b: int, heads: int, n: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield images, heads and query rows of each group: all heads of several images, or heads of one."""
    most = min(_GROUP_WEIGHTS * torch.get_num_threads(), _MAX_WEIGHTS)
    rows = max(1, min(n, _GROUP_ROWS, _MAX_WEIGHTS // n))
    together = max(1, most // (rows * n))
    images, part = max(1, together // heads), min(together, heads)
    for image in range(0, b, images):
        for head in range(0, heads, part):
            for row in range(0, n, rows):
                yield slice(image, image + images), slice(head, head + part), slice(row, row + rows)
