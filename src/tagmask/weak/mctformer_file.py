"""MCTformers in training and on disk: the network of a run, and its safetensors file with class names.

format   "tagmask mctformer 1"     words   JSON list, by class
heads    attention heads; all other sizes are those of the tensors, which have the published names
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from torch import Tensor

from tagmask.clip.archives import read_weights
from tagmask.clip.hardware import choose_device
from tagmask.clip.load import load
from tagmask.clip.model import Vision
from tagmask.clip.state_dict import HEAD_WIDTH
from tagmask.errors import InputError, WeightsError
from tagmask.files import file_hash, write_bytes
from tagmask.papers.mctformer import PATCH, MctFormer, MctShape, initialise, network_from
from tagmask.strict_json import json_text, parse_json
from tagmask.weak.config import TrainConfig

__all__ = ["TrainedMctFormer", "initial_hash", "load_mctformer", "new_mctformer", "save_mctformer"]

_LOG = logging.getLogger(__name__)

_FORMAT: Final = "tagmask mctformer 1"
_UNUSED_GRID: Final = 14
_DEIT: Final = "patch_embed.proj.weight"
_FROM_CLIP: Final = (
    ("ln_1.", "norm1."),
    ("ln_2.", "norm2."),
    ("attn.in_proj_", "attn.qkv."),
    ("attn.out_proj.", "attn.proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)


@dataclass(frozen=True, eq=False)
class TrainedMctFormer:
    """A network and the names of its classes."""

    net: MctFormer
    words: tuple[str, ...]


# -- The network of a run ------------------------------------------------------------------------------------


def new_mctformer(config: TrainConfig, classes: int) -> MctFormer:
    """Build the initial network of a run, on the CPU; the caller's random number generator is not touched.

    Args:
        config: `model.weights` is a DeiT's file in timm's names, or a CLIP as `tagmask.load` takes it, whose
            image tower then takes DeiT's place; empty: random weights.
        classes: number of classes.

    Raises:
        InputError: a crop that is no multiple of a patch.
        WeightsError: weights that cannot be used.
    """
    settings, crop = config.mctformer, config.augment.crop
    if crop % PATCH:
        raise InputError(f"augment.crop is {crop}. Give a multiple of {PATCH}, the side of a patch.")
    weights, activation = _initial(config.model.weights)
    width = weights["cls_token"].shape[-1] if "cls_token" in weights else settings.width
    shape = MctShape(
        version=settings.version,
        classes=classes,
        width=width,
        depth=sum(name.endswith(".attn.qkv.weight") for name in weights) or settings.depth,
        heads=max(width // HEAD_WIDTH, 1) if weights else settings.heads,
        grid=crop // PATCH,
        unused_grid=_UNUSED_GRID,
        norm_pre="norm_pre.weight" in weights,
        activation=activation,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(config.run.seed)
        net = MctFormer(shape, drop_path=settings.drop_path)
    if weights:
        initialise(net, weights)
    else:
        _LOG.warning(
            "MCTformer starts from random weights; the paper starts from DeiT-S, trained on ImageNet. "
            "Give its file with --weights."
        )
    return net


def initial_hash(weights: str) -> str:
    """Hash of the initial weights: of the file, or of the CLIP's image tower; "" for none."""
    if not weights:
        return ""
    path = Path(weights).expanduser()
    return file_hash(path) if path.is_file() else load(weights, device="cpu", precision="float32").fingerprint


def _initial(weights: str) -> tuple[Mapping[str, Tensor], str]:
    """Initial weights in timm's names, none for "", and their activation."""
    if not weights:
        return {}, "gelu"
    path = Path(weights).expanduser()
    if path.is_file():
        tensors = read_weights(path).tensors
        if _DEIT in tensors:
            return tensors, "gelu"
    clip = load(weights, device="cpu", precision="float32")
    if clip.geometry.patch != PATCH:
        raise WeightsError(
            f"{weights} has patches of {clip.geometry.patch} pixels. Give a CLIP with patches of {PATCH}, or "
            "a DeiT-S/16 in timm's names."
        )
    return _in_timm_names(clip.vision), clip.activation


def _in_timm_names(tower: Vision) -> dict[str, Tensor]:
    tensors = tower.state_dict()
    named = {
        "cls_token": tensors["class_embedding"][None, None],
        "pos_embed": tensors["positional_embedding"][None],
        _DEIT: tensors["conv1.weight"],
        "patch_embed.proj.bias": torch.zeros(len(tensors["class_embedding"])),
    }
    for name, tensor in tensors.items():
        if name.startswith(("ln_pre.", "ln_post.")):
            before, _, rest = name.partition(".")
            named[f"{'norm_pre' if before == 'ln_pre' else 'norm'}.{rest}"] = tensor
        elif name.startswith("transformer.resblocks."):
            new = "blocks." + name.removeprefix("transformer.resblocks.")
            for old, ours in _FROM_CLIP:
                new = new.replace(old, ours)
            named[new] = tensor
    return named


# -- Files ---------------------------------------------------------------------------------------------------


def save_mctformer(path: Path, trained: TrainedMctFormer) -> None:
    """Write a network to a file, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    header = {
        "format": _FORMAT,
        "words": json_text(trained.words),
        "heads": str(trained.net.shape.heads),
        "activation": trained.net.shape.activation,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.net.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, header))


def load_mctformer(path: Path, *, device: str = "auto") -> TrainedMctFormer:
    """Load a network that `save_mctformer` wrote, in evaluation mode and without gradients.

    Args:
        path: the file.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device name.

    Raises:
        WeightsError: the file is absent, damaged, or of another format.
    """
    archive = read_weights(path)
    header = archive.metadata
    if header.get("format") != _FORMAT:
        raise WeightsError(
            f"{path} is not an MCTformer of this version (format {header.get('format')!r}). Give the file "
            "that `tagmask train mctformer` wrote."
        )
    try:
        heads, words = int(header["heads"]), parse_json(header["words"])
        names = tuple(map(str, words)) if isinstance(words, list) else ()
        tensors = {name: tensor.float().clone() for name, tensor in archive.tensors.items()}
        net = network_from(tensors, heads=heads, activation=header["activation"])
        if len(names) != net.shape.classes:
            raise ValueError(f"{len(names)} words for {net.shape.classes} classes")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} is damaged: its header cannot be used ({error}). Copy it again."
        ) from error
    return TrainedMctFormer(net.requires_grad_(False).to(choose_device(device)), names)
