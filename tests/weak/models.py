"""Small WeakCLIPs for tests, and the reference values' weights under this package's names."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tagmask.clip.load import Clip
from tagmask.clip.model import ACTIVATIONS, Text, Vision
from tagmask.clip.state_dict import Geometry
from tagmask.weak.model import WeakClip
from tagmask.weak.model_settings import WeakSettings

SHARED = Path(__file__).parents[3] / "shared" / "golden" / "weakclip_golden.npz"
GATE = Path(__file__).parents[1] / "golden" / "weakclip_small.npz"

VIT_B = Geometry(
    vision_width=768,
    vision_layers=12,
    vision_heads=12,
    patch=16,
    grid=14,
    embed=512,
    text_width=512,
    text_layers=12,
    text_heads=8,
    vocab=49408,
    context=77,
)

WORDS = ("background", "cat", "potted plant")

SMALL = WeakSettings(match_width=32, stored_side=6, fpn_width=16, head_width=8)
"""Sizes of the reference values; the last two do not affect them."""


def small_model(clip: Clip, settings: WeakSettings = SMALL, as_: str | None = None) -> WeakClip:
    """A model in evaluation mode; constant initial weights are perturbed so that they have an effect."""
    model = WeakClip.of(clip, WORDS, settings, as_)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.startswith(("vision.", "text.")) and tensor.ndim == 1:
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return model.eval()


def meta_model(words: int, settings: WeakSettings | None = None) -> WeakClip:
    """A model of the size of ViT-B/16 on the meta device."""
    with torch.device("meta"):
        towers = Vision(VIT_B, ACTIVATIONS["quickgelu"]), Text(VIT_B, ACTIVATIONS["quickgelu"])
        ids = torch.zeros(words, 5, dtype=torch.int64)
        return WeakClip(*towers, VIT_B, ids, settings or WeakSettings())


def reference_model(clip: Clip, pack: Mapping[str, np.ndarray]) -> WeakClip:
    """A model with the weights of a reference pack."""
    ids = torch.from_numpy(pack["ids"]).long()
    model = WeakClip.of(clip, ids, SMALL)
    renames = (("backbone.", "pyramid."), ("context_decoder.", "matching."))
    weights = {}
    for name in pack:
        if name.startswith("w."):
            new = name.removeprefix("w.")
            for theirs, ours in renames:
                new = new.replace(theirs, ours)
            weights[new] = torch.from_numpy(pack[name])
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert len(missing) < len(model.state_dict())
    return model.eval()


def with_all_classes(model: WeakClip, image: np.ndarray) -> WeakClip:
    """Change the model so that every class clearly wins at some pixel of the image."""
    conv = model.decode_head.conv_seg
    with torch.no_grad():
        conv.weight *= 30
        conv.bias -= model(model.normalise(image[None])).logits.mean(dim=(0, 2, 3))
    return model
