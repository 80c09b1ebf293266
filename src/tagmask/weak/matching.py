"""Co-attention: class texts attend to the pixels and pixels to the texts, then cosine similarity.

T  texts (b, k, e)    M  memory: the image's class token, then its patch tokens (b, 1 + p, e)

T' = T + gamma * out(L(t, m))    M' = M + beta * out'(L'(m, t))    t, m: T and M projected to a smaller width
S  = cosine(M' without its first row, T')
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.types import Size

__all__ = ["CoAttention", "MatchLayer", "cosines"]

Tokens = Float[Tensor, "b n d"]


def cosines(
    pixels: Float[Tensor, "b p e"], texts: Float[Tensor, "b k e"], grid: Size
) -> Float[Tensor, "b k gh gw"]:
    """Cosine similarity of every pixel and every text, -1..1, without temperature; always in float32.

    Example:
        >>> cosines(torch.ones(1, 6, 4), torch.ones(1, 2, 4), (2, 3)).shape
        torch.Size([1, 2, 2, 3])
    """
    with torch.autocast(pixels.device.type, enabled=False):
        pixels = F.normalize(pixels.float(), dim=-1)
        texts = F.normalize(texts.float(), dim=-1)
        scores: Tensor = texts @ pixels.transpose(1, 2)
        return scores.reshape(*scores.shape[:2], *grid)


class _Attention(nn.Module):
    """Multi-head attention with queries from `x`, keys and values from `memory`."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x: Tokens, memory: Float[Tensor, "b m d"]) -> Tokens:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))
        return out


class MatchLayer(nn.Module):
    """Transformer decoder layer: x += self-attention, += cross-attention to the memory, += MLP.

    Each takes the layer norm of x; the memory is not normalised.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads, dropout)
        self.cross_attn = _Attention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tokens, memory: Float[Tensor, "b m d"]) -> Tokens:
        """Apply the layer."""
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed)
        x = x + self.cross_attn(self.norm2(x), memory)
        return cast(Tensor, x + self.dropout(self.mlp(self.norm3(x))))


class CoAttention(nn.Module):
    """Cross-attention in both directions between texts and pixels.

    Args:
        embed: width of the joint embedding space.
        width: width of the layers.
        heads: attention heads of the layers.
        layers: layers of each branch.
        dropout: in the layers.
        dead_layers: as published, every layer of a branch gets the branch's input and only the last layer's
            output is used; False: chain the layers.

    Source:
        WeakCLIP (Zhu et al., IJCV 2024), as coded by the authors, after DenseCLIP.
    """

    def __init__(
        self, embed: int, width: int, heads: int, layers: int, dropout: float, *, dead_layers: bool
    ) -> None:
        super().__init__()
        self.dead_layers = dead_layers
        self.memory_proj = nn.Sequential(nn.LayerNorm(embed), nn.Linear(embed, width), nn.LayerNorm(width))
        self.text_proj = nn.Sequential(nn.LayerNorm(embed), nn.Linear(embed, width))
        self.decoder = _layers(width, heads, layers, dropout)
        self.out_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embed))
        self.anti_decoder = _layers(width, heads, layers, dropout)
        self.anti_out_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embed))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, texts: Float[Tensor, "b k e"], memory: Float[Tensor, "b m e"]
    ) -> tuple[Float[Tensor, "b k e"], Float[Tensor, "b m e"]]:
        """Residuals of the texts and of the memory, before gamma and beta."""
        m = self.memory_proj(memory)
        t = self.text_proj(texts)
        return (
            self.out_proj(self._branch(self.decoder, t, m)),
            self.anti_out_proj(self._branch(self.anti_decoder, m, t)),
        )

    def unused_parameters(self) -> list[nn.Parameter]:
        """Parameters without any effect on the output."""
        if not self.dead_layers:
            return []
        dead = [*self.decoder[:-1], *self.anti_decoder[:-1]]
        return [parameter for layer in dead for parameter in layer.parameters()]

    def _branch(self, layers: nn.ModuleList, x: Tokens, memory: Float[Tensor, "b m d"]) -> Tokens:
        for layer in layers[-1:] if self.dead_layers else layers:
            x = layer(x, memory)
        return x


def _layers(width: int, heads: int, layers: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(MatchLayer(width, heads, dropout) for _ in range(layers))
