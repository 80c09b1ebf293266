"""Text-guided Laplacian propagation (TLP): smooth score maps on a coarse grid, up to the image's edges.

    G. Pei et al. "PEARL: Geometry Aligns Semantics for Training-Free Open-Vocabulary Semantic Segmentation",
    arXiv 2603.21528, 2026.

The maps F solve (diag(rho) + L) F = rho Z: they stay near the scores Z where those are confident, and
neighbours of similar colour get similar values. As coded by the authors, 25 conjugate-gradient steps stop
well before the solution, so the number of steps is part of the method.

    Z    scores of every name on the grid; F the refined ones
    p    softmax of Z over the names
    rho  how much a cell keeps to its own scores
    a    weight of the edge between two neighbouring cells; L is the Laplacian of the grid with these weights
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tagmask.checks import check_choice, check_number
from tagmask.errors import ShapeError
from tagmask.types import Size

__all__ = ["TlpSettings", "check_tlp", "mean_of_rows", "name_similarity", "pooling_steps", "propagate", "tlp"]

_TEXT_TEMPERATURE, _SELF_SIMILARITY = 0.5, 10.0
_LEAST_CONFIDENCE = 0.05
_EDGE_SHARPNESS = 5.0
_GREY = (0.299, 0.587, 0.114)
_EPS, _CG_EPS = 1e-6, 1e-12

_CACHED = 2**18
"""Numbers of the names that are processed at a time: 1 MiB, the cache of a processor core."""
_LEAST_NAMES = 64

_IF_CHANGED = MappingProxyType({"recorded_if_changed": True})
"""Runs made before there was TLP are still the same runs (`Recipe.deciding`)."""


@dataclass(frozen=True, kw_only=True)
class TlpSettings:
    """Settings of text-guided Laplacian propagation (TLP) in a recipe, by default as coded."""

    tlp_steps: int = field(default=0, metadata=_IF_CHANGED)
    """Conjugate-gradient steps of text-guided Laplacian propagation (TLP), 25 in PEARL; 0 turns it off."""
    tlp_grid: int = field(default=80, metadata=_IF_CHANGED)
    """TLP's cells along each side, about: 224 in PEARL for Cityscapes, 80 for other data sets."""
    tlp_scale: float = field(default=1.0, metadata=_IF_CHANGED)
    """Factor on the scores in TLP's confidence. As coded it is 1, so that cosines of many words are all about
    equally confident; 40 gives the confidence of the labels."""
    tlp_text: str = field(default="diagonal", metadata=_IF_CHANGED)
    """How TLP compares words. "diagonal": each with itself alone, as coded; "full": with all others too, as
    in the paper."""


@dataclass(frozen=True, eq=False)
class _Grid:
    """The linear system of one image: its data weights and the weights of its edges."""

    confidence: Float[Tensor, "gh gw"]
    """rho."""
    across: Float[Tensor, "gh _"]
    """Edges from each cell to the one on its right."""
    down: Float[Tensor, "_ gw"]
    """Edges from each cell to the one below."""

    def apply(self, maps: Float[Tensor, "q gh gw"]) -> Float[Tensor, "q gh gw"]:
        """(diag(rho) + L) maps."""
        result = self.confidence * maps
        flow = self.across * maps.diff(dim=2)
        result[:, :, 1:] += flow
        result[:, :, :-1] -= flow
        flow = self.down * maps.diff(dim=1)
        result[:, 1:] += flow
        result[:, :-1] -= flow
        return result


def tlp(
    maps: Float[Tensor, "q h w"],
    guide: Float[Tensor, "3 h w"],
    texts: Float[Tensor, "q d"],
    *,
    steps: int = 25,
    grid: int = 80,
    scale: float = 1.0,
    text: str = "diagonal",
) -> Float[Tensor, "q h w"]:
    """Smooth score maps of an image up to its edges.

    Maps and guide are pooled to about `grid` x `grid` cells, propagated there, and the result is resized
    bilinearly. As coded, incomplete cells on the right and at the bottom are dropped, and the rest is
    stretched over the image.

    Args:
        maps: scores of every name at the guide's size; cosines in PEARL.
        guide: the image, normalised.
        texts: features of the names, of any length.
        steps: conjugate-gradient steps; 0 returns the pooled maps, resized.
        grid: cells along each side, about. Maps of up to 1.5 times that size are not pooled.
        scale: factor on the scores in the confidence, see `TlpSettings`.
        text: "diagonal" or "full", see `TlpSettings`.

    Returns:
        Refined scores, computed in float32 or better.

    Raises:
        ShapeError: `maps` and `guide` differ in size.

    Example:
        >>> tlp(torch.rand(2, 200, 300), torch.rand(3, 200, 300), torch.eye(2)).shape
        torch.Size([2, 200, 300])
    """
    if maps.shape[1:] != guide.shape[1:]:
        raise ShapeError(
            f"Got maps of {tuple(maps.shape[1:])} and a guide of {tuple(guide.shape[1:])}. "
            "Resize one of them first."
        )
    size = (maps.shape[1], maps.shape[2])
    pooling, dtype = pooling_steps(size, grid), torch.promote_types(maps.dtype, torch.float32)
    maps, guide = maps.to(dtype), guide.to(dtype)
    if pooling != (1, 1):
        maps, guide = F.avg_pool2d(maps, pooling), F.avg_pool2d(guide, pooling)
    refined = propagate(maps, guide, texts, steps=steps, scale=scale, text=text)
    return F.interpolate(refined[None], size, mode="bilinear", align_corners=False)[0]


def check_tlp(settings: TlpSettings) -> None:
    """Check a recipe's TLP settings.

    Raises:
        InputError: a setting is invalid; the message names it.
    """
    check_number("tlp_steps", settings.tlp_steps, 0, whole=True)
    check_number("tlp_grid", settings.tlp_grid, 1, whole=True)
    check_number("tlp_scale", settings.tlp_scale, 0)
    check_choice("tlp_text", settings.tlp_text, ("diagonal", "full"))


def pooling_steps(size: Size, grid: int) -> Size:
    """Pixels of a cell, down and across; halves are rounded to even.

    Example:
        >>> pooling_steps((375, 500), 80), pooling_steps((120, 200), 80)
        ((5, 6), (2, 2))
    """
    down, across = (max(1, round(side / grid)) for side in size)
    return down, across


def mean_of_rows(x: Float[Tensor, "n m"], step: int) -> Float[Tensor, "cells m"]:
    """The mean of every `step` rows; incomplete cells are dropped.

    Average pooling is linear and separable, like the resize before it, so pooling the two matrices of a
    resize pools its result, which is never formed.
    """
    cells = len(x) // step
    means: Tensor = x[: cells * step].unflatten(0, (cells, step)).mean(dim=1)
    return means


def propagate(
    cells: Float[Tensor, "q gh gw"],
    colours: Float[Tensor, "3 gh gw"],
    texts: Float[Tensor, "q d"],
    *,
    steps: int = 25,
    scale: float = 1.0,
    text: str = "diagonal",
) -> Float[Tensor, "q gh gw"]:
    """Propagate scores on their grid. Arguments as for `tlp`, pooled.

    All names share one step size per step. There is no stopping rule.
    """
    grid = _system((cells * scale).softmax(dim=0), name_similarity(texts.to(cells)), colours, text)
    maps, residual = cells.clone(), torch.empty_like(cells)
    applied = torch.empty_like(cells)
    blocks = _blocks(cells)
    for block in blocks:
        torch.sub(grid.confidence * cells[block], grid.apply(cells[block]), out=residual[block])
    direction = residual.clone()
    squared = _total(residual[block].square().sum() for block in blocks)
    for _ in range(steps):
        for block in blocks:
            applied[block] = grid.apply(direction[block])
        rate = squared / (_total((direction[block] * applied[block]).sum() for block in blocks) + _CG_EPS)
        for block in blocks:
            maps[block] += rate * direction[block]
            residual[block] -= rate * applied[block]
        before, squared = squared, _total(residual[block].square().sum() for block in blocks)
        for block in blocks:
            direction[block].mul_(squared / (before + _CG_EPS)).add_(residual[block])
    return maps


def _blocks(cells: Float[Tensor, "q gh gw"]) -> list[slice]:
    """Names in blocks: what a step computes of a block stays in the cache."""
    size = max(_CACHED // cells[0].numel(), _LEAST_NAMES)
    return [slice(first, first + size) for first in range(0, len(cells), size)]


def _total(parts: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, parts)


def name_similarity(texts: Float[Tensor, "q d"]) -> Float[Tensor, "q q"]:
    """Similarity of the names; rows sum to 1. A name's own is about 0.9, whatever the texts."""
    texts = F.normalize(texts, dim=1)
    similarity = (texts @ texts.T / _TEXT_TEMPERATURE).softmax(dim=1)
    similarity.diagonal().add_(_SELF_SIMILARITY)
    normalised: Tensor = similarity / (similarity.sum(dim=1, keepdim=True) + _EPS)
    return normalised


def _similar_names(
    p: Float[Tensor, "q gh gw"], similarity: Float[Tensor, "q q"], kind: str, block: slice
) -> Float[Tensor, "n gh gw"]:
    """Some of the names in each cell, after exchange with similar names.

    As coded, an index slip prevents any exchange.
    """
    if kind == "full":
        return torch.einsum("mn,nij->mij", similarity[block], p)
    return similarity.diagonal()[block, None, None] * p[block]


def _system(
    p: Float[Tensor, "q gh gw"],
    similarity: Float[Tensor, "q q"],
    colours: Float[Tensor, "3 gh gw"],
    kind: str,
) -> _Grid:
    red, green, blue = (share * colour for share, colour in zip(_GREY, colours, strict=True))
    grey = red + green + blue
    agreement = torch.zeros_like(grey)
    across, down = torch.zeros_like(grey[:, 1:]), torch.zeros_like(grey[1:])
    for block in _blocks(p):
        mine, similar = p[block], _similar_names(p, similarity, kind, block)
        agreement += (similar * mine).sum(dim=0)
        across += (mine[:, :, :-1] * similar[:, :, 1:]).sum(dim=0)
        down += (mine[:, :-1] * similar[:, 1:]).sum(dim=0)
    return _Grid(
        confidence=p.amax(dim=0).clamp(min=_LEAST_CONFIDENCE).square() * (1 + agreement.clamp(0, 1)),
        across=_edges(grey.diff(dim=1), across),
        down=_edges(grey.diff(dim=0), down),
    )


def _edges(steps: Float[Tensor, "h w"], gate: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Weights of edges from the change of grey along them, and from how well both cells' names agree."""
    contrast = steps.abs() / (steps.abs().mean() + _EPS)
    return ((-_EDGE_SHARPNESS * contrast).exp() * (1 + gate.clamp(0, 1))).clamp(max=1)
