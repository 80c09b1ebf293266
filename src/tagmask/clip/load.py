"""Load a frozen CLIP from weights given by name or path."""

import copy
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from tagmask.checks import check_choice, shown
from tagmask.clip.download import Progress
from tagmask.clip.engine import Engine
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, Triple
from tagmask.clip.model import ACTIVATIONS, Text, Vision, fold_quick_gelu
from tagmask.clip.packed import pack_blocks
from tagmask.clip.resolve import ResolvedWeights, resolve_weights
from tagmask.clip.sources import DEFAULT_WEIGHTS, find
from tagmask.clip.state_dict import Geometry
from tagmask.errors import InputError, WeightsError

__all__ = ["OPENAI_MEAN", "OPENAI_STD", "Clip", "as_clip", "load"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP: both towers, and the settings that come with the weights."""

    vision: Vision = field(repr=False)
    text: Text = field(repr=False)
    name: str
    """The name or path given to `load`."""
    format: str
    """The format of the files, for display."""
    files: tuple[Path, ...]
    """The files that the tensors were read from."""
    geometry: Geometry
    activation: str
    """Activation of the MLPs: "quickgelu" or "gelu"."""
    activation_known: bool
    """Whether the caller, the name or the files give it; if not, OpenAI's is assumed, with a warning."""
    mean: Triple
    """Subtracted from pixels in 0..1."""
    std: Triple
    preprocessing_known: bool
    """Whether the name or the files give mean and std; if not, OpenAI's are assumed, with a warning."""
    logit_scale: float
    """Exponentiated, about 100 for OpenAI's weights."""
    known_words: frozenset[str] | None
    """All words in the training data, if the file lists them (the miniature's does); None: no restriction."""
    background: tuple[str, ...]
    """Default background words listed in the file; empty: use the built-in lists."""
    device: torch.device
    precision: str
    """Precision of the matrix products: "float32", "bfloat16" or "float16"."""

    @cached_property
    def text_fingerprint(self) -> str:
        """Hash of everything that text features depend on: the text tower, its activation and precision."""
        return _hash_tensors(self.text, f"{self.activation} {self.precision}")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that results depend on: both towers, statistics, activation and precision."""
        settings = f"{self.activation} {self.precision} {self.mean} {self.std} {self.logit_scale}"
        if self.engine is not None:
            settings += f" {sorted(self.engine.identity.items())}"
        parts = (_hash_tensors(self.vision, settings), self.text_fingerprint)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @property
    def engine(self) -> Engine | None:
        """What runs the first blocks of the image tower; None: torch."""
        return self.vision.engine

    @property
    def lowest_precision(self) -> str:
        """The lowest precision of the matrix products: the engine's, else `precision`."""
        return self.precision if self.engine is None else self.engine.precision

    def with_engine(self, engine: Engine | None) -> "Clip":
        """Return this model with another engine; the parameters are shared."""
        vision = copy.copy(self.vision)
        vision.engine = engine
        return replace(self, vision=vision)

    def __repr__(self) -> str:
        return f"Clip({self.name!r}: {self.describe()})"

    def describe(self) -> str:
        """Describe the model in one line: shape, activation, precision, device."""
        shape = self.geometry
        return (
            f"ViT with patch {shape.patch}, {shape.vision_layers} layers of width {shape.vision_width}, "
            f"{self.activation}{'' if self.activation_known else ' (assumed)'}, "
            f"{'' if self.preprocessing_known else 'mean and std assumed, '}"
            f"{self.precision} on {self.device}"
        )


def _hash_tensors(module: nn.Module, settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def load(
    weights: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: str = "float32",
    activation: str | None = None,
    progress: Progress | None = None,
) -> Clip:
    """Load a frozen CLIP ViT.

    Args:
        weights: a name or a path. "miniature" is the small CLIP bundled with this package, trained on drawn
            scenes only (docs/miniature.md). Names such as "ViT-B-16:openai" (`tagmask weights list`) and
            "hf:owner/repo" are searched in this machine's caches, then downloaded. A path never uses the
            network; it may be OpenAI's archive (`.pt`), a plain state dict (`.pt`, `.pth`, `.bin`), a
            `.safetensors` file, an open_clip folder or a Hugging Face CLIPModel folder. The content
            decides the format of a file, and no code in it is ever run. Default: those of the environment
            variable TAGMASK_WEIGHTS, else "ViT-B-16:openai", as for the commands.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device name.
        precision: of the matrix products. "float32" is the reference. "bfloat16" and "float16" are faster
            on hardware that supports them. "auto" takes bfloat16 where the hardware has it, float16 on other
            CUDA GPUs, and float32 elsewhere.
        activation: "quickgelu" or "gelu". Default: the activation given by the name, the folder or the file,
            which must agree. If none gives it, "quickgelu" is assumed with a warning, since the wrong
            activation gives slightly wrong results and no error. A value given here overrides the others,
            with a warning if they differ.
        progress: called during a download with the file's name, the bytes received and the total.

    Raises:
        WeightsError: absent, unreadable, unsafe, incomplete or not a CLIP ViT with CLIP's tokenizer; or the
            name, folder and file contradict each other.
        DownloadError: a WeightsError: not in the caches, and cannot be downloaded.
        InputError: an unknown device, precision or activation.
    """
    if activation is not None:
        check_choice("activation", activation, tuple(ACTIVATIONS))
    if weights is None:
        weights = os.environ.get("TAGMASK_WEIGHTS") or DEFAULT_WEIGHTS
    target = choose_device(device)
    precision = choose_precision(precision, target)
    source = find(weights, progress)
    resolved = resolve_weights(str(weights), source, activation)
    shape, metadata = resolved.geometry, resolved.metadata
    for warning in metadata.warnings:
        _LOG.warning("%s", warning)
    mlp_activation = ACTIVATIONS[metadata.activation]
    with torch.device("meta"):
        vision = Vision(shape, mlp_activation)
        text = Text(shape, mlp_activation)
    scale = _read_towers(resolved, vision, text, target, getattr(torch, precision))
    if not _SCALES[0] <= scale <= _SCALES[1]:
        raise WeightsError(
            f"{source.path} multiplies cosines by {scale:.3g} (logit_scale). Expected "
            f"{_SCALES[0]:g} to {_SCALES[1]:g}: the file is damaged, get other weights."
        )
    pack_blocks(vision)
    return Clip(
        vision=vision,
        text=text,
        name=str(weights),
        format=resolved.raw.kind,
        files=resolved.raw.files,
        geometry=shape,
        activation=metadata.activation,
        activation_known=metadata.activation_known,
        mean=metadata.mean,
        std=metadata.std,
        preprocessing_known=metadata.preprocessing_known,
        logit_scale=scale,
        known_words=frozenset(_lines(resolved.raw.metadata, "words")) or None,
        background=_lines(resolved.raw.metadata, "background"),
        device=target,
        precision=precision,
    )


def as_clip(clip: object) -> Clip:
    """Return a model as it is, and load weights that are given by name or path, with `load`'s defaults.

    Raises:
        InputError: neither.
        WeightsError: as `load`.
    """
    if isinstance(clip, Clip):
        return clip
    if not isinstance(clip, str | os.PathLike):
        raise InputError(
            f"Expected a CLIP first, not {shown(clip)}. Give what tagmask.load returns, or the name or path "
            "of weights, such as 'miniature'."
        )
    return load(clip)


def _lines(metadata: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Return the non-empty lines of one metadata entry."""
    return tuple(line for line in metadata.get(key, "").splitlines() if line)


def _read_towers(
    resolved: ResolvedWeights, vision: Vision, text: Text, device: torch.device, dtype: torch.dtype
) -> float:
    """Read the weights of both towers, which have none yet, and return the factor of the cosines.

    The weights of matrix products are converted to `dtype`, all others stay float32. This is done block by
    block, so that no more than one block is in memory in both forms.
    """
    other: dict[str, Tensor] = {}
    for place, group in groupby(resolved.read(), key=lambda item: _block_of(item[0])):
        if not place:
            other |= group
            continue
        block = (vision if place.startswith(_VISION) else text).get_submodule(
            place.removeprefix(_VISION)[:-1]
        )
        block.load_state_dict({name.removeprefix(place): tensor for name, tensor in group}, assign=True)
        block.to(device)
        if resolved.metadata.activation == "quickgelu" and dtype != torch.float32:
            fold_quick_gelu(block)  # float32 keeps the formula as written
        _cast_products(block, dtype, resolved.path, place)
    scale = float(other.pop("logit_scale").exp())
    for tower, prefix in ((vision, _VISION), (text, "")):
        own = [name for name in other if name.startswith(prefix)]
        tower.load_state_dict({n.removeprefix(prefix): other.pop(n) for n in own}, strict=False, assign=True)
        tower.to(device)
        _cast_products(tower, dtype, resolved.path, prefix)
        tower.requires_grad_(False).eval()
    return scale


def _block_of(name: str) -> str:
    """The part of a tensor's name that names its block, with the dot; empty for one outside the blocks."""
    found = _BLOCK.match(name)
    return found[0] if found else ""


def _cast_products(module: torch.nn.Module, dtype: torch.dtype, path: Path, prefix: str = "") -> None:
    """Convert the weights of matrix products to `dtype`; all other parameters stay float32."""
    for where, part in module.named_modules(prefix=prefix.rstrip(".")):
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.dtype != dtype and (
                isinstance(part, torch.nn.Linear | torch.nn.Conv2d) or name in _PRODUCT_PARAMETERS
            ):
                parameter.data = parameter.data.to(dtype)
                if dtype == torch.float16 and not bool(torch.isfinite(parameter).all()):
                    full = f"{where}.{name}".lstrip(".")
                    raise WeightsError(
                        f"{path} does not fit float16: {full} has values over 65504. "
                        "Use precision bfloat16 or float32."
                    )


_VISION = "visual."
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.\d+\.")
_SCALES = (1e-2, 1e4)
"""Least and greatest factor of cosines that is plausible; CLIP's training limits it to 100."""
_PRODUCT_PARAMETERS = frozenset({"in_proj_weight", "in_proj_bias", "proj", "text_projection"})
