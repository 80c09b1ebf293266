"""CLIP's two towers, written plainly: explicit softmax, text at all 77 tokens.

`tensors` is always a state dict with OpenAI's names, float32, on the CPU.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tagmask.clip.tokenizer import tokenize

__all__ = [
    "HEAD",
    "Tensors",
    "as_image",
    "as_table",
    "embed",
    "finish",
    "norm",
    "patch_size",
    "plain_text",
    "project",
    "qkv",
    "run_block",
    "split",
    "stored_grid",
    "vision_blocks",
]

Tensors = Mapping[str, Tensor]

HEAD = 64
"""Every CLIP ViT has heads of 64 channels."""


def norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """Apply layer normalisation to each token."""
    return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5)


def split(x: Tensor) -> Tensor:
    """(..., n, d) to (..., heads, n, 64)."""
    return x.unflatten(-1, (-1, HEAD)).transpose(-3, -2)


def qkv(tensors: Tensors, block: str, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of each head."""
    packed = F.linear(z, tensors[f"{block}.attn.in_proj_weight"], tensors[f"{block}.attn.in_proj_bias"])
    q, k, v = packed.chunk(3, dim=-1)
    return split(q), split(k), split(v)


def finish(tensors: Tensors, block: str, x: Tensor, mixed: Tensor) -> Tensor:
    """Compute a block's output from each head's attended values: projection, residual, MLP, residual."""
    joined = mixed.transpose(-3, -2).flatten(-2)
    out = F.linear(joined, tensors[f"{block}.attn.out_proj.weight"], tensors[f"{block}.attn.out_proj.bias"])
    x = x + out
    u = F.linear(
        norm(tensors, f"{block}.ln_2", x),
        tensors[f"{block}.mlp.c_fc.weight"],
        tensors[f"{block}.mlp.c_fc.bias"],
    )
    u = u * torch.sigmoid(1.702 * u)
    return x + F.linear(u, tensors[f"{block}.mlp.c_proj.weight"], tensors[f"{block}.mlp.c_proj.bias"])


def run_block(tensors: Tensors, block: str, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run one block; `bias` is added to the attention logits. Also return the logits without it."""
    q, k, v = qkv(tensors, block, norm(tensors, f"{block}.ln_1", x))
    logits = (q * HEAD**-0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(logits if bias is None else logits + bias, dim=-1)
    return finish(tensors, block, x, weights @ v), logits


def vision_blocks(tensors: Tensors) -> list[str]:
    """Names of the image tower's blocks, first to last."""
    count = sum(name.startswith("visual.") and name.endswith("attn.in_proj_weight") for name in tensors)
    return [f"visual.transformer.resblocks.{layer}" for layer in range(count)]


def _text_blocks(tensors: Tensors) -> list[str]:
    count = sum(not name.startswith("visual.") and name.endswith("attn.in_proj_weight") for name in tensors)
    return [f"transformer.resblocks.{layer}" for layer in range(count)]


def embed(tensors: Tensors, pixels: Tensor, positions: Tensor) -> Tensor:
    """Embed (3, h, w) as (1 + patches, d), the input of the first block."""
    kernel = tensors["visual.conv1.weight"]
    patches = F.conv2d(pixels[None], kernel, stride=kernel.shape[-1])[0]
    tokens = torch.cat([tensors["visual.class_embedding"][None], patches.flatten(1).T])
    return norm(tensors, "visual.ln_pre", tokens + positions)


def project(tensors: Tensors, tokens: Tensor) -> Tensor:
    """Project the last block's tokens to the space shared with text."""
    return norm(tensors, "visual.ln_post", tokens) @ tensors["visual.proj"]


def patch_size(tensors: Tensors) -> int:
    """Side of a patch in pixels."""
    return tensors["visual.conv1.weight"].shape[-1]


def stored_grid(tensors: Tensors) -> int:
    """Side of the stored position table in patches."""
    return math.isqrt(len(tensors["visual.positional_embedding"]) - 1)


def as_image(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Split the stored position table into its class row (1, d) and an image (1, d, grid, grid)."""
    table, grid = tensors["visual.positional_embedding"], stored_grid(tensors)
    return table[:1], table[1:].T.reshape(1, -1, grid, grid)


def as_table(row: Tensor, image: Tensor) -> Tensor:
    """Invert `as_image`."""
    return torch.cat([row, image[0].flatten(1).T])


def encode_text(tensors: Tensors, sentences: Sequence[str]) -> Tensor:
    """Features (q, e) of sentences, not normalised; each is encoded at the full context length."""
    ids = tokenize(sentences)
    length = ids.shape[1]
    causal = torch.full((length, length), -math.inf).triu(1)
    x = tensors["token_embedding.weight"][ids] + tensors["positional_embedding"]
    for block in _text_blocks(tensors):
        x, _ = run_block(tensors, block, x, causal)
    x = norm(tensors, "ln_final", x)
    last = x[torch.arange(len(ids)), ids.argmax(dim=1)]
    return last @ tensors["text_projection"]


@torch.inference_mode()
def plain_text(tensors: Tensors, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One unit row per name: the normalised mean of its normalised sentences."""
    rows = []
    for name in names:
        sentences = encode_text(tensors, [template.replace("{}", name) for template in templates])
        sentences = sentences / sentences.norm(dim=1, keepdim=True)
        mean = sentences.mean(dim=0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)
