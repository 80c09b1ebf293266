"""Who listens to whom in CLIP's last block.

CLIP's own attention mixes patches until each one describes the whole image. A dense method replaces only the
attention weights; the projections, and all other blocks, stay as trained. A method is a function of one pass
that returns those weights, and one line in `METHODS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from tagmask.checks import check_choice
from tagmask.dense.features import Pass
from tagmask.types import Attention, Heads

__all__ = ["METHODS", "DenseMethod", "dense_method"]


@dataclass(frozen=True)
class DenseMethod:
    """What one method does in the last block."""

    weights: Callable[[Pass], Attention | None]
    """Attention weights; None where each token takes its own value, so that q and k are never formed."""
    summary: str
    source: str


def vanilla(x: Pass) -> Attention:
    """Attention as trained. Rows sum to 1."""
    return _affinity(x.q, x.k)


def value_only(x: Pass) -> None:
    """Each token keeps its own value: the identity in place of attention."""
    return None


def correlative(x: Pass) -> Attention:
    """Attend to tokens with a like query, plus tokens with a like key. Rows sum to 2, as coded."""
    return _affinity(x.q, x.q) + _affinity(x.k, x.k)


def query_only(x: Pass) -> Attention:
    """Attend to tokens with a like query. Rows sum to 1."""
    return _affinity(x.q, x.q)


def key_only(x: Pass) -> Attention:
    """Attend to tokens with a like key. Rows sum to 1."""
    return _affinity(x.k, x.k)


def unprojected(x: Pass) -> Attention:
    """Attend to tokens that are alike before any projection, head by head. Rows sum to 1.

    The paper gives softmax(X Xᵀ / t) without heads; split in heads with t = 8 is this project's reading.
    """
    z = x.block.attn.split(x.z)
    return _affinity(z, z)


_SCLIP = "SCLIP, Wang et al., ECCV 2024"

METHODS: Mapping[str, DenseMethod] = MappingProxyType(
    {
        "clip": DenseMethod(vanilla, "the last block as trained", "CLIP, Radford et al., ICML 2021"),
        "maskclip": DenseMethod(
            value_only, "each patch keeps its own value", "MaskCLIP, Zhou et al., ECCV 2022"
        ),
        "sclip": DenseMethod(correlative, "query-query plus key-key attention", _SCLIP),
        "sclip-q": DenseMethod(query_only, "query-query attention alone", f"{_SCLIP}, ablation"),
        "sclip-k": DenseMethod(key_only, "key-key attention alone", f"{_SCLIP}, ablation"),
        "sclip-identity": DenseMethod(unprojected, "attention without projections", f"{_SCLIP}, ablation"),
    }
)


def dense_method(name: str) -> DenseMethod:
    """The method called `name`.

    Raises:
        InputError: no such method.
    """
    check_choice("method", name, tuple(METHODS))
    return METHODS[name]


def _affinity(x: Heads, y: Heads) -> Attention:
    logits = (x * x.shape[-1] ** -0.5) @ y.transpose(-2, -1)
    return torch.softmax(logits.float(), dim=-1)
