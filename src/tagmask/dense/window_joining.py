"""Join windows before the last block, so that its attention spans the whole image.

This project's extension, from no paper. The earlier blocks process windows of the size they were trained on;
the last block, whose attention the dense methods replace, relates all patches of the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.dense.features import TowerFeatures
from tagmask.dense.windows import Windows, tile_windows
from tagmask.errors import InputError
from tagmask.types import Size, Tokens

__all__ = ["join_windows"]


def join_windows(batches: Sequence[TowerFeatures], plan: Windows) -> TowerFeatures:
    """Join the features of an image's windows to features of the whole image.

    Each patch of the image's grid is the mean over the windows that contain its centre, each interpolated
    linearly at that centre. The class token is the mean over the windows. The tokens and the captured layer
    outputs are joined in the same way.

    Args:
        batches: features of the windows, in the order of `plan`; any number of windows per batch.
        plan: positions of the windows.

    Raises:
        InputError: attention maps were captured; they do not relate patches of different windows.
    """
    first = batches[0]
    if first.attention or first.heads or first.running or first.averages or first.votes:
        raise InputError(
            "This method reads the attention of earlier layers, which does not span several windows. "
            "Use join='maps' or another method."
        )
    height, width = plan.canvas
    patch = first.vision.patch
    grid = max(height // patch, 1), max(width // patch, 1)
    maps = (
        _gather_matrix(plan.tops, plan.height, first.grid[0], grid[0], patch).to(first.tokens),
        _gather_matrix(plan.lefts, plan.width, first.grid[1], grid[1], patch).to(first.tokens),
    )
    states: Mapping[int, Tokens] = {
        layer: _join([batch.states[layer] for batch in batches], first.grid, plan, maps)
        for layer in first.states
    }
    tokens = _join([batch.tokens for batch in batches], first.grid, plan, maps)
    return replace(first, tokens=tokens, states=states, grid=grid)


def _gather_matrix(
    starts: Sequence[int], length: int, cells: int, target: int, patch: int
) -> Float[Tensor, "target cols"]:
    """Along one axis: weight of each window's patches in each patch of the image. Rows sum to 1."""
    centre = (torch.arange(target) + 0.5) * patch
    parts = []
    for start in starts:
        position = ((centre - start) / patch - 0.5).clamp(0, cells - 1)
        low = position.floor().long().clamp(max=max(cells - 2, 0))
        part = torch.zeros(target, cells)
        rows = torch.arange(target)
        part[rows, low] += 1 - (position - low)
        part[rows, (low + 1).clamp(max=cells - 1)] += position - low
        inside = (centre >= start) & (centre < start + length)
        parts.append(part * inside[:, None])
    joined = torch.cat(parts, dim=1)
    return joined / joined.sum(dim=1, keepdim=True)


def _join(
    windows: Sequence[Float[Tensor, "_ n d"]],
    grid: Size,
    plan: Windows,
    maps: tuple[Float[Tensor, "rows wide_rows"], Float[Tensor, "cols wide_cols"]],
) -> Float[Tensor, "1 m d"]:
    tokens = torch.cat(list(windows))
    patches = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
    down, across = maps
    whole = down @ tile_windows(patches, plan) @ across.T
    return torch.cat([tokens[:, :1].mean(dim=0, keepdim=True), whole.flatten(1).T[None]], dim=1)
