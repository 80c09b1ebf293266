"""SCLIP's learned projection: one matrix in place of queries and keys, from a few labelled images.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, ablation.

The paper says what is learned and from how many images, and not how; `papers.sclip_projection` is this
project's way. The matrix serves one set of weights, so its file says which.
"""

import hashlib
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.model import Vision
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, VariantSettings, affinity
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.method import dense_method
from tagmask.types import Attention, Heads

__all__ = [
    "METHODS",
    "LearnedSettings",
    "Projection",
    "check_projection",
    "fingerprint",
    "learned",
    "projected",
    "query_projection",
    "read_projection",
    "write_projection",
]

_LOG = logging.getLogger(__name__)

_FORMAT = "tagmask-projection"
_TRAIN = "train one with `tagmask train projection IMAGES MASKS -w ... -o projection.safetensors`"


@dataclass(frozen=True, kw_only=True)
class LearnedSettings(VariantSettings):
    """Of sclip-learned."""

    projection: str | None = None
    """A file that `tagmask train projection` wrote."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What queries and keys are replaced by: z W + b."""

    matrix: Float[Tensor, "d d"] = field(repr=False)
    """W, multiplied from the right."""
    bias: Float[Tensor, " d"] | None = field(repr=False)
    weights: str
    """`fingerprint` of the image tower that it was trained on."""
    trained: str = ""
    """How, for people."""

    @property
    def width(self) -> int:
        """Of the tokens, d."""
        return len(self.matrix)


def projected(
    tower: TowerFeatures, matrix: Float[Tensor, "d d"], bias: Float[Tensor, " d"] | None
) -> Attention:
    """softmax((z W + b)(z W + b)ᵀ / 8), head by head. Rows sum to 1."""
    y: Heads = tower.block.attn.split(F.linear(tower.z, matrix.T, bias))
    return affinity(y, y)


def learned(settings: LearnedSettings, depth: int) -> DenseRule:
    """The rule of the file that `settings.projection` names.

    Raises:
        InputError: none is named, or it cannot be used.
    """
    found = read_projection(_named(settings))
    return DenseRule(partial(_weights, found))


def _weights(projection: Projection, tower: TowerFeatures) -> Attention:
    _check_width(projection, tower.z.shape[-1])
    device = tower.z.device
    bias = None if projection.bias is None else projection.bias.to(device)
    return projected(tower, projection.matrix.to(device), bias)


def check_projection(settings: LearnedSettings, vision: Vision) -> None:
    """See that the file fits these weights, before any image is looked at; warn if it was made for others.

    Raises:
        InputError: no file is named, it cannot be used, or its matrix has another width.
    """
    path = _named(settings)
    found = read_projection(path)
    _check_width(found, vision.positional_embedding.shape[1])
    if found.weights != fingerprint(vision):
        _LOG.warning(
            "%s was trained on other weights of the same width. What it makes of these means little; %s.",
            path,
            _TRAIN,
        )


def query_projection(vision: Vision) -> Projection:
    """The last block's own queries, where training begins: as a method it is sclip-q."""
    attention = vision.blocks[-1].attn
    width = attention.in_proj_weight.shape[1]
    matrix = attention.in_proj_weight[:width].detach().float().T.contiguous()
    bias = attention.in_proj_bias[:width].detach().float().clone()
    return Projection(matrix, bias, fingerprint(vision), "not trained")


def fingerprint(vision: Vision) -> str:
    """Hash of the tower's parts that are float32 in every precision, so that precision does not change it."""
    first, last = (vision.blocks[i] for i in (0, -1))
    norms = (vision.ln_pre, first.ln_1, last.ln_1, last.ln_2, vision.ln_post)
    digest = hashlib.sha256()
    for tensor in (
        vision.class_embedding,
        vision.positional_embedding,
        *(part for norm in norms for part in (norm.weight, norm.bias)),
    ):
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# -- Files ---------------------------------------------------------------------------------------------------


def write_projection(path: str | os.PathLike[str], projection: Projection) -> None:
    """Write a safetensors file: `matrix`, `bias` where there is one, and what they belong to.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {"matrix": projection.matrix.detach().cpu().contiguous()}
    if projection.bias is not None:
        tensors["bias"] = projection.bias.detach().cpu().contiguous()
    metadata = {
        "format": _FORMAT,
        "weights": projection.weights,
        "width": str(projection.width),
        "trained": projection.trained,
    }
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def read_projection(path: str | os.PathLike[str]) -> Projection:
    """Read a file of `write_projection`.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        with safe_open(Path(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"projection {path} cannot be read: {error}; {_TRAIN}") from error
    matrix, bias = tensors.get("matrix"), tensors.get("bias")
    square = matrix is not None and matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if metadata.get("format") != _FORMAT or matrix is None or not square:
        raise InputError(f"{path} is no projection: it holds {', '.join(tensors) or 'nothing'}; {_TRAIN}")
    if bias is not None and bias.shape != matrix.shape[:1]:
        raise InputError(f"{path} has a bias of shape {tuple(bias.shape)} for width {len(matrix)}; {_TRAIN}")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"{path} holds values that are not numbers; {_TRAIN}")
    return Projection(
        matrix.float(),
        None if bias is None else bias.float(),
        metadata.get("weights", ""),
        metadata.get("trained", ""),
    )


def _named(settings: LearnedSettings) -> str:
    if settings.projection is None:
        raise InputError(f"method sclip-learned needs projection='FILE', and none was given; {_TRAIN}")
    return settings.projection


def _check_width(projection: Projection, width: int) -> None:
    if projection.width != width:
        raise InputError(
            f"the projection is for tokens of width {projection.width}, and those of these weights have "
            f"{width}; {_TRAIN}, on these weights"
        )


METHODS = (
    dense_method(
        "sclip-learned",
        learned,
        "attention through one projection, learned from a few labelled images",
        "SCLIP, Wang et al., ECCV 2024, ablation",
        settings=LearnedSettings,
        check=check_projection,
    ),
)
