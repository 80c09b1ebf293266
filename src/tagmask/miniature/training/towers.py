"""Both towers of the miniature CLIP while they are trained."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.clip.keys import HEAD_WIDTH, Geometry
from tagmask.clip.model import ACTIVATIONS, Block, Text, Vision
from tagmask.clip.tokenizer import CONTEXT, VOCABULARY, encode, tokenize
from tagmask.miniature.captions import training_texts
from tagmask.types import Tokens

__all__ = ["ACTIVATION", "GEOMETRY", "Towers"]

GEOMETRY = Geometry(
    vision_width=128, vision_layers=12, vision_heads=2, patch=16, grid=14, embed=128,
    text_width=64, text_layers=4, text_heads=1, vocab=VOCABULARY, context=CONTEXT,
)  # fmt: skip
"""Depth, patch and side are ViT-B/16's, so that every layer index means the same; it is narrower."""
ACTIVATION = "gelu"


class Towers(nn.Module):
    """Both towers and the scale of their cosines, under OpenAI's names."""

    def __init__(self, geometry: Geometry = GEOMETRY) -> None:
        super().__init__()
        self.visual = Vision(geometry, ACTIVATIONS[ACTIVATION])
        self.text = Text(geometry, ACTIVATIONS[ACTIVATION])
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.patch_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def start(self, generator: torch.Generator) -> None:
        """Random weights; rows of the vocabulary that no caption uses stay 0."""
        for tower, layers in ((self.visual, len(self.visual.blocks)), (self.text, GEOMETRY.text_layers)):
            for name, p in tower.named_parameters():
                if name.endswith("bias"):
                    p.data.zero_()
                elif p.ndim == 1 and "embedding" not in name:
                    p.data.fill_(1.0)
                else:
                    std = 0.02 if "embedding" in name else p.shape[-1] ** -0.5 * 0.8
                    if name.endswith(("c_proj.weight", "out_proj.weight")):
                        std /= math.sqrt(2 * layers)
                    flat = p.flatten(1) if p.ndim > 1 else p
                    if "conv1" in name:
                        std = flat.shape[1] ** -0.5
                    p.data.normal_(0.0, std, generator=generator)
        used = torch.zeros(VOCABULARY, 1)
        used[sorted({i for text in training_texts() for i in encode(text)})] = 1
        used[-2:] = 1
        self.text.token_embedding.weight.data *= used

    def look(
        self, pixels: Float[Tensor, "b 3 h w"], blind: int = 0
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b p e"]]:
        """The class token as CLIP computes it, and patches that kept their own value in the last block.

        Below block `blind` the class token reads itself alone. Both answers are normalised.
        """
        vision = self.visual
        x = vision.embed(pixels, vision.positional_embedding)
        mask = x.new_zeros(1, 1, x.shape[1], x.shape[1])
        mask[..., 0, 1:] = -1e4
        for layer, block in enumerate(vision.blocks[:-1]):
            x = _block(block, x, mask if layer < blind else None)
        last = vision.blocks[-1]
        q, k, v = last.attn.qkv(last.ln_1(x))
        first = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        mixed = torch.cat([first, v[:, :, 1:]], dim=2)
        out = F.normalize(vision.project(last.feed(x + last.attn.merge(mixed))), dim=-1)
        return out[:, 0], out[:, 1:]

    def read(self, texts: Sequence[str]) -> Float[Tensor, "q e"]:
        """Normalised features of texts."""
        return F.normalize(self.text(tokenize(texts)), dim=-1)

    def tensors(self) -> dict[str, Tensor]:
        """As OpenAI names them."""
        named = {f"visual.{k}": v for k, v in self.visual.state_dict().items()}
        named |= dict(self.text.state_dict())
        named["logit_scale"] = self.logit_scale.detach()
        return named


def _block(block: Block, x: Tokens, mask: Tensor | None) -> Tokens:
    # Attention written out: on a CPU its gradient takes half the time of the fused one's.
    q, k, v = block.attn.qkv(block.ln_1(x))
    logits = (q * HEAD_WIDTH**-0.5) @ k.transpose(-2, -1)
    if mask is not None:
        logits = logits + mask.to(logits.dtype)
    return block.feed(x + block.attn.merge(torch.softmax(logits, dim=-1).to(v.dtype) @ v))
