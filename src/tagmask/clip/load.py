"""Weights by path -> a frozen CLIP, ready to look at images and words."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from tagmask.checks import check_choice
from tagmask.clip.archives import Archive, read_weights
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.clip.keys import Geometry, clip_tensors, geometry
from tagmask.clip.model import ACTIVATIONS, Text, Vision
from tagmask.clip.tokenizer import CONTEXT, VOCABULARY
from tagmask.errors import InputError, WeightsError

__all__ = ["Clip", "load"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_OPENAI_FILES = {
    "ViT-B-32:openai": "ViT-B-32.pt",
    "ViT-B-16:openai": "ViT-B-16.pt",
    "ViT-L-14:openai": "ViT-L-14.pt",
    "ViT-L-14-336:openai": "ViT-L-14-336px.pt",
}

Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP: both towers, and what belongs to the weights rather than to a method."""

    vision: Vision = field(repr=False)
    text: Text = field(repr=False)
    name: str
    """Where the weights came from, as given to `load`."""
    geometry: Geometry
    activation: str
    """Of the MLPs: "quickgelu" or "gelu"."""
    activation_known: bool
    """The caller or the file said so; if not, it is OpenAI's, taken for granted."""
    mean: Triple
    """Subtracted from pixels in 0..1."""
    std: Triple
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
            f"{self.precision} on {self.device}"
        )


def load(
    weights: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str = "float32",
    activation: str | None = None,
) -> Clip:
    """Load a frozen CLIP ViT.

    Args:
        weights: "miniature", the small CLIP inside this package, which knows a drawn world and nothing else
            (docs/miniature.md). Or the path of OpenAI's archive (`.pt`), of a plain state dict (`.pt`,
            `.pth`, `.bin`) or of a `.safetensors` file, in the OpenAI / open_clip key layout. Also OpenAI's
            own names ("ViT-B-16:openai"), if the file is in OpenAI's cache (`~/.cache/clip`) already.
            The content decides what a file is, and no code in it is ever run.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device name.
        precision: of the matrix products. "float32" is the reference; "bfloat16" and "float16" are
            faster where the hardware has them; "auto" takes bfloat16 if this hardware multiplies it natively.
        activation: "quickgelu" or "gelu". Left out: what the file says (OpenAI's archives, and safetensors
            with `activation` in their metadata, do), else "quickgelu". Most weights trained by open_clip need
            "gelu", and a wrong choice gives slightly wrong results and no error: `Clip.activation_known`
            and `Clip.describe()` tell when it was taken for granted.

    Raises:
        WeightsError: the file is absent, unreadable, unsafe, incomplete or not a CLIP ViT.
        InputError: an unknown device, precision or activation.
    """
    if activation is not None:
        check_choice("activation", activation, tuple(ACTIVATIONS))
    target = choose_device(device)
    chosen = choose_precision(precision, target)
    archive = read_weights(_locate(weights))
    tensors = clip_tensors(archive.tensors)
    said = activation or _activation(archive)
    activation = said or "quickgelu"
    shape = geometry(tensors)
    if (shape.context, shape.vocab) != (CONTEXT, VOCABULARY):
        raise WeightsError(
            f"the text tower of {weights} reads {shape.context} tokens of a vocabulary of {shape.vocab}; "
            f"CLIP's own {CONTEXT} and {VOCABULARY} are wanted, so its words would be misread"
        )
    with torch.device("meta"):
        vision = Vision(shape, ACTIVATIONS[activation])
        text = Text(shape, ACTIVATIONS[activation])
    scale = float(tensors.pop("logit_scale").float().exp())
    _fill(vision, {k.removeprefix("visual."): v for k, v in tensors.items() if k.startswith("visual.")})
    _fill(text, {k: v for k, v in tensors.items() if not k.startswith("visual.")})
    dtype = getattr(torch, chosen)
    for tower in (vision, text):
        tower.requires_grad_(False).eval().to(target)
        _cast_products(tower, dtype)
    mean, std = _statistics(archive)
    return Clip(
        vision=vision,
        text=text,
        name=str(weights),
        geometry=shape,
        activation=activation,
        activation_known=said is not None,
        mean=mean,
        std=std,
        logit_scale=scale,
        known_words=frozenset(_listed(archive, "words")) or None,
        background=_listed(archive, "background"),
        device=target,
        precision=chosen,
    )


def _locate(weights: object) -> Path:
    if not isinstance(weights, str | os.PathLike):
        raise InputError(f"weights are {weights!r}; give the path of a weights file, or 'miniature'")
    name = os.fspath(weights)
    try:
        if name == "miniature":
            return Path(str(resources.files("tagmask"))) / "miniature" / "miniature.safetensors"
        if name not in _OPENAI_FILES:
            return Path(name).expanduser()
        cached = Path.home() / ".cache" / "clip" / _OPENAI_FILES[name]
    except RuntimeError as error:
        raise WeightsError(f"{name} cannot be looked for: {error}; give a full path") from error
    if not cached.is_file():
        raise WeightsError(
            f"{name} is not on this machine: looked for {cached}. Put OpenAI's {cached.name} there "
            "(the README says where it is to be had), or give the path of a weights file instead, "
            "or 'miniature' for the small model that comes with tagmask"
        )
    return cached


def _activation(archive: Archive) -> str | None:
    """What the file says of its activation: its metadata, or being OpenAI's own archive."""
    said = archive.metadata.get("activation")
    if said is not None:
        if said not in ACTIVATIONS:
            raise WeightsError(
                f"the weights' metadata name the activation {said!r}; "
                f"this version knows {', '.join(ACTIVATIONS)}"
            )
        return said
    return "quickgelu" if archive.kind == "openai-archive" else None


def _statistics(archive: Archive) -> tuple[Triple, Triple]:
    def read(key: str, default: Triple) -> Triple:
        if key not in archive.metadata:
            return default
        try:
            r, g, b = (float(part) for part in archive.metadata[key].strip("()[] ").split(","))
        except ValueError as error:
            raise WeightsError(
                f"the weights' metadata give {key} = {archive.metadata[key]!r}; three numbers were wanted"
            ) from error
        return r, g, b

    return read("mean", OPENAI_MEAN), read("std", OPENAI_STD)


def _listed(archive: Archive, key: str) -> tuple[str, ...]:
    """Lines of one entry of the metadata."""
    return tuple(line for line in archive.metadata.get(key, "").splitlines() if line)


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
