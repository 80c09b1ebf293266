"""Co-attention: class texts look at the pixels, pixels look at the texts, then they are compared.

T  texts (b, k, e)    M  memory: the image's class token, then its patches (b, 1 + p, e)

T' = T + gamma * out(L(t, m))    M' = M + beta * out'(L'(m, t))    t, m: both brought to a smaller width
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
    """Cosine of every pixel with every text, -1..1, no temperature; float32 whatever the precision.

    Example:
        >>> cosines(torch.ones(1, 6, 4), torch.ones(1, 2, 4), (2, 3)).shape
        torch.Size([1, 2, 2, 3])
    """
    with torch.autocast(pixels.device.type, enabled=False):
        seen = F.normalize(pixels.float(), dim=-1)
        asked = F.normalize(texts.float(), dim=-1)
        found: Tensor = asked @ seen.transpose(1, 2)
        return found.reshape(*found.shape[:2], *grid)


class _Attention(nn.Module):
    """Queries of one side, keys and values of another."""

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
    """x += self attention, += attention to the memory (taken as it is), += MLP; each of a normed x."""

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
        """One layer."""
        own = self.norm1(x)
        x = x + self.self_attn(own, own)
        x = x + self.cross_attn(self.norm2(x), memory)
        return cast(Tensor, x + self.dropout(self.mlp(self.norm3(x))))


class CoAttention(nn.Module):
    """How texts and pixels change by each other.

    Args:
        embed: width of the space they share.
        width: of the layers.
        heads: of the layers' attention.
        layers: of each branch.
        dropout: in the layers.
        dead_layers: only the last layer of a branch has any effect, as published; else they are chained.

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
        """What is to be added to the texts and to the memory, before gamma and beta."""
        m = self.memory_proj(memory)
        t = self.text_proj(texts)
        return (
            self.out_proj(self._branch(self.decoder, t, m)),
            self.anti_out_proj(self._branch(self.anti_decoder, m, t)),
        )

    def idle(self) -> list[nn.Parameter]:
        """Weights without any effect."""
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
