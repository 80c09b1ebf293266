"""Weights by name or path -> a frozen CLIP, ready to look at images and words."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tagmask.checks import check_choice
from tagmask.clip.download import Progress
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, Triple
from tagmask.clip.model import ACTIVATIONS, Text, Vision, fold_quick_gelu
from tagmask.clip.resolve import resolve_weights
from tagmask.clip.sources import find
from tagmask.clip.state_dict import Geometry

__all__ = ["OPENAI_MEAN", "OPENAI_STD", "Clip", "load"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP: both towers, and what belongs to the weights rather than to a method."""

    vision: Vision = field(repr=False)
    text: Text = field(repr=False)
    name: str
    """What the weights are called, as given to `load`."""
    format: str
    """Of the files that they were read from, for people."""
    files: tuple[Path, ...]
    """Those that the tensors were read from."""
    geometry: Geometry
    activation: str
    """Of the MLPs: "quickgelu" or "gelu"."""
    activation_known: bool
    """The caller, the name or the files said so; if not, it is OpenAI's, taken for granted aloud."""
    mean: Triple
    """Subtracted from pixels in 0..1."""
    std: Triple
    preprocessing_known: bool
    """The name or the files said mean and std; if not, they are OpenAI's, taken for granted aloud."""
    logit_scale: float
    """Exponentiated, about 100 for OpenAI's weights."""
    known_words: frozenset[str] | None
    """All words that training saw, where the file tells (the miniature's does); None: ask for anything."""
    background: tuple[str, ...]
    """What the file says to take for background where the user names none; empty: the built-in lists."""
    device: torch.device
    precision: str
    """Of the matrix products: "float32", "bfloat16" or "float16"."""

    @cached_property
    def text_fingerprint(self) -> str:
        """Hash of all that text features depend on: the text tower, its activation and precision."""
        digest = hashlib.sha256(f"{self.activation} {self.precision}".encode())
        for name, tensor in sorted(self.text.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def describe(self) -> str:
        """One line for people: shape, activation, device, precision."""
        shape = self.geometry
        return (
            f"ViT with patch {shape.patch}, {shape.vision_layers} layers of width {shape.vision_width}, "
            f"{self.activation}{'' if self.activation_known else ' (assumed)'}, "
            f"{'' if self.preprocessing_known else 'mean and std assumed, '}"
            f"{self.precision} on {self.device}"
        )


def load(
    weights: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "float32",
    activation: str | None = None,
    progress: Progress | None = None,
) -> Clip:
    """Load a frozen CLIP ViT.

    Args:
        weights: a name or a path. "miniature" is the small CLIP inside this package, which knows a drawn
            world and nothing else (docs/miniature.md). Names such as "ViT-B-16:openai" (`tagmask weights
            list`) and "hf:owner/repo" are looked up in the caches of this machine, then downloaded. A path,
            which never uses the network, is that of OpenAI's archive (`.pt`), a plain state dict (`.pt`,
            `.pth`, `.bin`), a `.safetensors` file, open_clip's folder or a Hugging Face CLIPModel's folder.
            The content decides what a file is, and no code in it is ever run.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device name.
        precision: of the matrix products. "float32" is the reference; "bfloat16" and "float16" are
            faster where the hardware has them; "auto" takes bfloat16 if this hardware multiplies it natively.
        activation: "quickgelu" or "gelu". Left out: what the name, the folder or the file says; two of them
            that disagree are an error. If none says it, "quickgelu" with a warning, since a wrong one gives
            slightly wrong results and no error. Given: that, with a warning where it is not what they say.
        progress: called with a file's name, its bytes so far and its bytes in all while one is downloaded.

    Raises:
        WeightsError: absent, unreadable, unsafe, incomplete or not a CLIP ViT with CLIP's own tokenizer;
            or what is said of the weights disagrees.
        DownloadError: a WeightsError: not on this machine, and cannot be downloaded.
        InputError: an unknown device, precision or activation.
    """
    if activation is not None:
        check_choice("activation", activation, tuple(ACTIVATIONS))
    target = choose_device(device)
    chosen = choose_precision(precision, target)
    source = find(weights, progress)
    found = resolve_weights(str(weights), source, activation)
    tensors, shape, resolved_metadata = found.tensors, found.geometry, found.resolved_metadata
    for warning in resolved_metadata.warnings:
        _LOG.warning("%s", warning)
    mlp = ACTIVATIONS[resolved_metadata.activation]
    with torch.device("meta"):
        vision = Vision(shape, mlp)
        text = Text(shape, mlp)
    scale = float(tensors.pop("logit_scale").float().exp())
    _fill(vision, {k.removeprefix("visual."): v for k, v in tensors.items() if k.startswith("visual.")})
    _fill(text, {k: v for k, v in tensors.items() if not k.startswith("visual.")})
    dtype = getattr(torch, chosen)
    for tower in (vision, text):
        tower.requires_grad_(False).eval().to(target)
        if resolved_metadata.activation == "quickgelu" and dtype != torch.float32:
            fold_quick_gelu(tower)  # float32 keeps the formula as it is written
        _cast_products(tower, dtype)
    return Clip(
        vision=vision,
        text=text,
        name=str(weights),
        format=found.checkpoint.kind,
        files=found.checkpoint.files,
        geometry=shape,
        activation=resolved_metadata.activation,
        activation_known=resolved_metadata.activation_known,
        mean=resolved_metadata.mean,
        std=resolved_metadata.std,
        preprocessing_known=resolved_metadata.preprocessing_known,
        logit_scale=scale,
        known_words=frozenset(_listed(found.checkpoint.metadata, "words")) or None,
        background=_listed(found.checkpoint.metadata, "background"),
        device=target,
        precision=chosen,
    )


def _listed(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Lines of one entry of the metadata."""
    return tuple(line for line in metadata.get(key, "").splitlines() if line)


def _fill(tower: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    # Widened here, whatever the file holds: the reference arithmetic is float32 on these very values.
    # Copied, since a tensor may still be a view of the file, which its owner may replace meanwhile.
    owned = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
    tower.load_state_dict(owned, assign=True)


def _cast_products(tower: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give the weights of matrix products the precision asked for; all else stays float32."""
    for module in tower.modules():
        for name, parameter in module.named_parameters(recurse=False):
            product = isinstance(module, torch.nn.Linear | torch.nn.Conv2d) or name in _PRODUCTS
            if product:
                parameter.data = parameter.data.to(dtype)


_PRODUCTS = frozenset({"in_proj_weight", "in_proj_bias", "proj", "text_projection"})
