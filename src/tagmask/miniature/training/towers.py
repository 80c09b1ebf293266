"""The image and text towers of the miniature CLIP in training."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.clip.model import ACTIVATIONS, Block, Text, Vision
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.clip.tokenizer import CONTEXT, VOCABULARY, encode, tokenize
from tagmask.miniature.captions import training_texts
from tagmask.types import Heads, Tokens

__all__ = ["ACTIVATION", "GEOMETRY", "ImageTokens", "Path", "Towers"]

GEOMETRY = Geometry(
    vision_width=128, vision_layers=12, vision_heads=2, patch=16, grid=14, embed=128,
    text_width=64, text_layers=4, text_heads=1, vocab=VOCABULARY, context=CONTEXT,
)  # fmt: skip
"""Depth, patch size and image size of ViT-B/16, so that layer indices agree; only narrower."""
ACTIVATION = "gelu"


Path = Literal["value", "correlative"]
"""How the last block encodes patches: without attention, or by SCLIP's correlative self-attention."""


class ImageTokens(NamedTuple):
    """Normalised tokens of the last block."""

    whole: Float[Tensor, "b e"]
    """The class token, by ordinary attention."""
    picked: Float[Tensor, "b k e"]
    """Some patches, by ordinary attention."""
    patches: Float[Tensor, "b p e"]
    """All patches, by the chosen path."""


class Towers(nn.Module):
    """Both towers and the logit scales, with OpenAI's parameter names."""

    def __init__(self, geometry: Geometry = GEOMETRY) -> None:
        super().__init__()
        self.visual = Vision(geometry, ACTIVATIONS[ACTIVATION])
        self.text = Text(geometry, ACTIVATIONS[ACTIVATION])
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.patch_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def start(self, generator: torch.Generator) -> None:
        """Initialise the weights; vocabulary rows that no caption uses are 0.

        Attention starts as it is in trained transformers: tokens attend to similar content and nearby
        positions, and values nearly cancel the residual (mimetic initialisation, Trockman and Kolter, ICML
        2023). From plain random weights the small tower takes many times as long to learn shapes.
        """
        for name, p in self.named_parameters():
            if "embedding" in name:
                p.data.normal_(0.0, 0.02, generator=generator)
            elif "conv1" in name:
                p.data.normal_(0.0, p[0].numel() ** -0.5, generator=generator)
            elif p.ndim > 1:
                p.data.normal_(0.0, 0.8 * p.shape[-1] ** -0.5, generator=generator)
            elif name.endswith("bias"):
                p.data.zero_()
            elif p.ndim == 1:
                p.data.fill_(1.0)
        for tower in (self.visual, self.text):
            blocks = [block for block in tower.transformer.resblocks if isinstance(block, Block)]
            for block in blocks:
                block.mlp.c_proj.weight.data /= math.sqrt(2 * len(blocks))
                if tower is self.visual:
                    _init_attention(block, generator)
        self.visual.positional_embedding.data[1:] += 0.5 * _waves(self.visual.grid, GEOMETRY.vision_width)
        used = torch.zeros(VOCABULARY, 1)
        used[sorted({i for text in training_texts() for i in encode(text)})] = 1
        used[-2:] = 1
        self.text.token_embedding.weight.data *= used

    def encode_image(
        self,
        pixels: Float[Tensor, "b 3 side side"],
        isolated_layers: int = 0,
        corner: tuple[int, int] = (0, 0),
        path: Path = "value",
        *,
        bare: bool = False,
        picks: Int[Tensor, " k"] | None = None,
    ) -> ImageTokens:
        """Encode images.

        In the first `isolated_layers` blocks the class token attends only to itself. Images smaller than the
        tower's input use positions from `corner` (row, column) of its grid. `path` is the attention of the
        last block by which patches are encoded, `bare` without its residual connection and MLP; `picks` are
        the patches that are encoded by its ordinary attention as well, whose gradients end before it.
        """
        vision = self.visual
        side, (top, left) = pixels.shape[-1] // vision.patch, corner
        first, table = vision.positional_embedding[:1], vision.positional_embedding[1:]
        places = table.unflatten(0, (vision.grid, vision.grid))[top : top + side, left : left + side]
        x = vision.embed(pixels, torch.cat([first, places.flatten(0, 1)]))
        mask = x.new_zeros(1, 1, x.shape[1], x.shape[1])
        mask[..., 0, 1:] = -1e4
        for layer, block in enumerate(vision.blocks[:-1]):
            x = _block(block, x, mask if layer < isolated_layers else None)
        last = vision.blocks[-1]
        q, k, v = last.attn.qkv(last.ln_1(x))
        ordinary, residual = F.scaled_dot_product_attention(q[:, :, :1], k, v), x[:, :1]
        if picks is not None:
            given = x.detach()
            q_p, k_p, v_p = last.attn.qkv(last.ln_1(given))
            picked = F.scaled_dot_product_attention(q_p[:, :, 1 + picks], k_p, v_p)
            ordinary = torch.cat([ordinary, picked], dim=2)
            residual = torch.cat([residual, given[:, 1 + picks]], dim=1)
        rows = residual.shape[1]
        patches = v[:, :, 1:] if path == "value" else _correlative(q, k, v)[:, :, 1:]
        if bare:
            merged = last.attn.merge(torch.cat([ordinary, patches], dim=2))
            whole = last.feed_forward(residual + merged[:, :rows])
            tokens = torch.cat([whole, merged[:, rows:]], dim=1)
        else:
            residual = torch.cat([residual, x[:, 1:]], dim=1)
            tokens = last.feed_forward(residual + last.attn.merge(torch.cat([ordinary, patches], dim=2)))
        out = F.normalize(vision.project(tokens), dim=-1)
        return ImageTokens(out[:, 0], out[:, 1:rows], out[:, rows:])

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "q e"]:
        """Encode texts as normalised features."""
        return F.normalize(self.text(tokenize(texts)), dim=-1)

    def from_tensors(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of a file written from `tensors`; the patch scale is not in it."""
        names = {name: name.removeprefix("text.") for name in self.state_dict()}
        state = {name: weights[names[name]].float() for name in names if name != "patch_scale"}
        return {**state, "patch_scale": torch.tensor(_PATCH_SCALE).log()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights under OpenAI's names."""
        named = {f"visual.{k}": v for k, v in self.visual.state_dict().items()}
        named |= dict(self.text.state_dict())
        named["logit_scale"] = self.logit_scale.detach()
        return named


_PATCH_SCALE = 30.0
"""Scale of the patches' logits at which training starts from a weights file."""


def _block(block: Block, x: Tokens, mask: Tensor | None) -> Tokens:
    # Explicit attention: on a CPU its gradient takes half the time of the fused kernel's.
    q, k, v = block.attn.qkv(block.ln_1(x))
    logits = (q * HEAD_WIDTH**-0.5) @ k.transpose(-2, -1)
    if mask is not None:
        logits = logits + mask.to(logits.dtype)
    return block.feed_forward(x + block.attn.merge(torch.softmax(logits, dim=-1).to(v.dtype) @ v))


def _correlative(q: Heads, k: Heads, v: Heads) -> Heads:
    """SCLIP's correlative self-attention: softmax(q q') + softmax(k k'), applied to v."""
    scale = HEAD_WIDTH**-0.5
    weights = [torch.softmax((z * scale) @ z.transpose(-2, -1), dim=-1) for z in (q, k)]
    return (weights[0] + weights[1]).to(v.dtype) @ v


def _init_attention(block: Block, generator: torch.Generator) -> None:
    """Set q k' to 0.7 Z + 0.7 I in each head, values times output to 0.4 Z - 0.4 I; Z ~ N(0, 1/d)."""
    width = len(block.attn.out_proj.weight)
    eye = torch.eye(width)

    def halves(share: float, diagonal: float) -> tuple[Tensor, Tensor]:
        noise = torch.randn(width, width, generator=generator) * width**-0.5
        u, s, v = torch.linalg.svd(share * noise + diagonal * eye)
        return u * s.sqrt(), v.T * s.sqrt()

    weight = block.attn.in_proj_weight.data
    for head in range(block.attn.heads):
        rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        q, k = halves(0.7, 0.7)
        weight[:width][rows] = q[:, :HEAD_WIDTH].T
        weight[width : 2 * width][rows] = k[:, :HEAD_WIDTH].T
    v, out = halves(0.4, -0.4)
    weight[2 * width :] = v.T
    block.attn.out_proj.weight.data = out.contiguous()


def _waves(grid: int, width: int) -> Float[Tensor, "p d"]:
    """Sines and cosines of the row, then of the column, at width / 4 wavelengths."""
    rates = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
