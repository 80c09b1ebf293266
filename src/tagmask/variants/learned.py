"""SCLIP's learned projection: one matrix replaces queries and keys, trained on a few labelled images.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, ablation.

The paper says what is learned and from how many images, but not how; `papers.sclip_projection` is this
project's training procedure. A matrix belongs to one set of weights, whose fingerprint its file stores.
"""

import hashlib
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.model import Vision
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, VariantSettings, affinity
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.method import dense_method
from tagmask.tensor_files import read_tensors
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
_LARGEST = 100_000_000
"""Limit on the size of a file, in bytes; a matrix of width 1024 has 4 MB."""
_TRAIN = "Train one with `tagmask train projection IMAGES MASKS -w ... -o projection.safetensors`"


@dataclass(frozen=True, kw_only=True)
class LearnedSettings(VariantSettings):
    """Settings of sclip-learned."""

    FILES: ClassVar[tuple[str, ...]] = ("projection",)

    projection: str | None = None
    """File written by `tagmask train projection`."""


@dataclass(frozen=True, eq=False)
class Projection:
    """The projection z W + b that replaces queries and keys."""

    matrix: Float[Tensor, "d d"] = field(repr=False)
    """W, applied from the right."""
    bias: Float[Tensor, " d"] | None = field(repr=False)
    weights: str
    """`fingerprint` of the image tower it was trained on."""
    trained: str = ""
    """Free-text description of the training."""

    @property
    def width(self) -> int:
        """Width of the tokens, d."""
        return len(self.matrix)


def projected(
    tower: TowerFeatures, matrix: Float[Tensor, "d d"], bias: Float[Tensor, " d"] | None
) -> Attention:
    """softmax((z W + b)(z W + b)ᵀ / 8), per head. Rows sum to 1."""
    y: Heads = tower.block.attn.split(F.linear(tower.z, matrix.T, bias))
    return affinity(y, y)


def learned(settings: LearnedSettings, depth: int) -> DenseRule:
    """Build the rule from the file given by `settings.projection`.

    Raises:
        InputError: no file is given, or it is invalid.
    """
    projection = read_projection(_projection_path(settings))
    return DenseRule(partial(_weights, projection))


def _weights(projection: Projection, tower: TowerFeatures) -> Attention:
    _check_width(projection, tower.z.shape[-1])
    device = tower.z.device
    bias = None if projection.bias is None else projection.bias.to(device)
    return projected(tower, projection.matrix.to(device), bias)


def check_projection(settings: LearnedSettings, vision: Vision) -> None:
    """Check that the file fits these weights; warn if it was trained on others.

    Raises:
        InputError: no file is given, it is invalid, or its matrix has a different width.
    """
    path = _projection_path(settings)
    projection = read_projection(path)
    _check_width(projection, vision.positional_embedding.shape[1])
    if projection.weights != fingerprint(vision):
        _LOG.warning(
            "%s was trained on other weights of the same width, so its results here are meaningless. %s.",
            path,
            _TRAIN,
        )


def query_projection(vision: Vision) -> Projection:
    """The last block's query projection: the start of training, equivalent to sclip-q."""
    attention = vision.blocks[-1].attn
    width = attention.in_proj_weight.shape[1]
    matrix = attention.in_proj_weight[:width].detach().float().T.contiguous()
    bias = attention.in_proj_bias[:width].detach().float().clone()
    return Projection(matrix, bias, fingerprint(vision), "not trained")


def fingerprint(vision: Vision) -> str:
    """Hash the tower's parts that are float32 in every precision, so that precision does not change it."""
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
    """Write a safetensors file with `matrix`, `bias` if there is one, and the metadata.

    Raises:
        OutputError: the file cannot be written.
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
    """Read a file written by `write_projection`.

    Raises:
        InputError: the file cannot be read or is not a projection.
    """
    try:
        tensors, metadata = read_tensors(path, _LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Projection {path} cannot be read: {reason}. {_TRAIN}.") from error
    matrix, bias = tensors.get("matrix"), tensors.get("bias")
    square = matrix is not None and matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if metadata.get("format") != _FORMAT or matrix is None or not square:
        raise InputError(f"{path} is not a projection: it holds {', '.join(tensors) or 'nothing'}. {_TRAIN}.")
    if bias is not None and bias.shape != matrix.shape[:1]:
        raise InputError(f"{path} has a bias of shape {tuple(bias.shape)} for width {len(matrix)}. {_TRAIN}.")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"{path} contains NaN or infinite values. {_TRAIN}.")
    return Projection(
        matrix.float(),
        None if bias is None else bias.float(),
        metadata.get("weights", ""),
        metadata.get("trained", ""),
    )


def _projection_path(settings: LearnedSettings) -> str:
    if settings.projection is None:
        raise InputError(f"Method sclip-learned needs projection='FILE'. {_TRAIN}.")
    return settings.projection


def _check_width(projection: Projection, width: int) -> None:
    if projection.width != width:
        raise InputError(
            f"The projection is for tokens of width {projection.width}, but these weights have width "
            f"{width}. {_TRAIN} on these weights."
        )


METHODS = (
    dense_method(
        "sclip-learned",
        learned,
        "attention through one projection, trained on a few labelled images",
        "SCLIP, Wang et al., ECCV 2024, ablation",
        settings=LearnedSettings,
        check=check_projection,
    ),
)
