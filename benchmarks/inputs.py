"""Inputs of the benchmarks: random weights of the size of OpenAI's ViT-B/16, and a synthetic image."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import tagmask
from benchmarks.plain_clip import Tensors

__all__ = [
    "EMBED",
    "TEXT",
    "VISION",
    "BenchmarkInputs",
    "make_image",
    "make_inputs",
    "make_weights",
    "temporary_home",
]

VISION = (12, 768)
"""Layers and width."""
TEXT = (12, 512)
EMBED = 512


@dataclass(frozen=True)
class BenchmarkInputs:
    """Weights, models and an image."""

    tensors: Tensors
    clips: Sequence[tagmask.Clip]
    """In float32, and in the precision that "auto" chooses if it differs."""
    image: np.ndarray


def make_weights() -> dict[str, torch.Tensor]:
    """Return a random state dict with the names and shapes of OpenAI's ViT-B/16."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, std: float = 0.02) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * std

    def norm(name: str, width: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(width), f"{name}.bias": draw(width)}

    def blocks(prefix: str, layers: int, width: int) -> Iterator[tuple[str, torch.Tensor]]:
        for layer in range(layers):
            block = f"{prefix}transformer.resblocks.{layer}"
            yield from norm(f"{block}.ln_1", width).items()
            yield from norm(f"{block}.ln_2", width).items()
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                yield f"{block}.{name}weight", draw(rows, columns, std=columns**-0.5)
                yield f"{block}.{name}bias", draw(rows)

    (vision_layers, vision), (text_layers, text) = VISION, TEXT
    return {
        "visual.conv1.weight": draw(vision, 3, 16, 16),
        "visual.class_embedding": draw(vision),
        "visual.positional_embedding": draw(197, vision, std=0.2),
        **norm("visual.ln_pre", vision),
        **dict(blocks("visual.", vision_layers, vision)),
        **norm("visual.ln_post", vision),
        "visual.proj": draw(vision, EMBED, std=vision**-0.5),
        "token_embedding.weight": draw(49408, text),
        "positional_embedding": draw(77, text, std=0.01),
        **dict(blocks("", text_layers, text)),
        **norm("ln_final", text),
        "text_projection": draw(text, EMBED, std=text**-0.5),
        "logit_scale": torch.tensor(float(np.log(100))),
    }


def make_image(h: int, w: int) -> np.ndarray:
    """Return a synthetic image (h, w, 3) of waves and noise."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    planes = np.stack([np.sin(7 * y + 3 * x), np.cos(9 * x - 2 * y), np.sin(20 * x * y)], axis=-1)
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (h, w, 3))
    return np.clip(127 + 100 * (planes + noise), 0, 255).astype(np.uint8)


def make_inputs(folder: Path) -> BenchmarkInputs:
    """Save the weights to a file and load them through the public API."""
    tensors = make_weights()
    file = folder / "ViT-B-16.pt"
    torch.save(tensors, file)
    clips = [tagmask.load(file, device="cpu", precision=precision) for precision in ("float32", "auto")]
    differ = clips[0].precision != clips[1].precision
    return BenchmarkInputs(tensors, clips if differ else clips[:1], make_image(375, 500))


@contextmanager
def temporary_home() -> Iterator[None]:
    """Use an empty cache folder and delete it afterwards."""
    before = os.environ.get("TAGMASK_HOME")
    with tempfile.TemporaryDirectory() as home:
        os.environ["TAGMASK_HOME"] = home
        try:
            yield
        finally:
            if before is None:
                del os.environ["TAGMASK_HOME"]
            else:
                os.environ["TAGMASK_HOME"] = before
