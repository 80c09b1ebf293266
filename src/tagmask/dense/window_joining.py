"""Windows joined before the last block, so that its attention spans the whole image.

This project's own; no paper has it. The blocks before see windows of the size they were trained on, and the
last one, whose attention the dense methods replace, relates all patches of the image.
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


def join_windows(passes: Sequence[TowerFeatures], plan: Windows) -> TowerFeatures:
    """One pass over an image from those over its windows.

    Each patch of the image's own grid takes the mean, over the windows that its centre lies in, of their
    patches there (linear between centres). The class token is the mean of the windows'. The stream and the
    layers' outputs that were kept are joined alike.

    Args:
        passes: over the windows, in the order of `plan`, any number of windows in each.
        plan: where they lie.

    Raises:
        InputError: attention was kept, which says nothing about patches of different windows.
    """
    first = passes[0]
    if first.attention or first.heads:
        raise InputError(
            "this method reads the attention of earlier layers, which windows do not share; "
            "choose another, or join='maps'"
        )
    height, width = plan.canvas
    patch = first.vision.patch
    grid = max(height // patch, 1), max(width // patch, 1)
    maps = (
        _gather_matrix(plan.tops, plan.height, first.grid[0], grid[0], patch).to(first.tokens),
        _gather_matrix(plan.lefts, plan.width, first.grid[1], grid[1], patch).to(first.tokens),
    )
    states: Mapping[int, Tokens] = {
        layer: _joined([each.states[layer] for each in passes], first.grid, plan, maps)
        for layer in first.states
    }
    tokens = _joined([each.tokens for each in passes], first.grid, plan, maps)
    return replace(first, tokens=tokens, states=states, grid=grid)


def _gather_matrix(
    starts: Sequence[int], length: int, cells: int, target: int, patch: int
) -> Float[Tensor, "target cols"]:
    """Along one axis: what each patch of the image takes of each patch of each window. Rows sum to 1."""
    centre = (torch.arange(target) + 0.5) * patch
    parts = []
    for start in starts:
        place = ((centre - start) / patch - 0.5).clamp(0, cells - 1)
        low = place.floor().long().clamp(max=max(cells - 2, 0))
        part = torch.zeros(target, cells)
        rows = torch.arange(target)
        part[rows, low] += 1 - (place - low)
        part[rows, (low + 1).clamp(max=cells - 1)] += place - low
        inside = (centre >= start) & (centre < start + length)
        parts.append(part * inside[:, None])
    joined = torch.cat(parts, dim=1)
    return joined / joined.sum(dim=1, keepdim=True)


def _joined(
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
