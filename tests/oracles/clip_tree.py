"""The module tree of OpenAI's CLIP ViT, built from torch.nn layers: the oracle of names and shapes."""

from collections import OrderedDict

import torch
from torch import nn


def _table(*shape):
    return nn.Parameter(torch.randn(shape))


class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_1 = nn.LayerNorm(width)
        layers = {
            "c_fc": nn.Linear(width, 4 * width),
            "gelu": QuickGELU(),
            "c_proj": nn.Linear(4 * width, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x):
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width) for _ in range(layers)))

    def forward(self, x):
        return self.resblocks(x)


class Vision(nn.Module):
    def __init__(self, *, width, layers, patch, side, embed):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = _table(width)
        self.positional_embedding = _table((side // patch) ** 2 + 1, width)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers)
        self.ln_post = nn.LayerNorm(width)
        self.proj = _table(width, embed)

    def forward(self, image):
        x = self.conv1(image).flatten(2).transpose(1, 2)
        return self.ln_post(self.transformer(self.ln_pre(x))) @ self.proj


class ClipTree(nn.Module):
    def __init__(self, *, width, layers, patch, side, embed, text_width, text_layers, vocab, context):
        super().__init__()
        self.visual = Vision(width=width, layers=layers, patch=patch, side=side, embed=embed)
        self.transformer = Transformer(text_width, text_layers)
        self.token_embedding = nn.Embedding(vocab, text_width)
        self.positional_embedding = _table(context, text_width)
        self.ln_final = nn.LayerNorm(text_width)
        self.text_projection = _table(text_width, embed)
        self.logit_scale = nn.Parameter(torch.tensor(3.3))
        for name, number in (("input_resolution", side), ("context_length", context), ("vocab_size", vocab)):
            self.register_buffer(name, torch.tensor(number))

    def forward(self, image):
        return self.visual(image) * self.logit_scale.exp()


SMALL = {
    "width": 128,
    "layers": 3,
    "patch": 16,
    "side": 64,
    "embed": 32,
    "text_width": 64,
    "text_layers": 2,
    "vocab": 11,
    "context": 7,
}
B16 = {
    "width": 768,
    "layers": 12,
    "patch": 16,
    "side": 224,
    "embed": 512,
    "text_width": 512,
    "text_layers": 12,
    "vocab": 49408,
    "context": 77,
}


def tensors(**sizes):
    """The state dict of a tree without values (meta device)."""
    with torch.device("meta"):
        return dict(ClipTree(**sizes).state_dict())
