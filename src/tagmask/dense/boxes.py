"""Bounding boxes of the connected regions of score maps, for all classes at once.

Connected components are found on runs (stretches of true cells in one row), which are far fewer
than cells. Touching runs are merged until nothing changes; the first run identifies a region.

    r   runs of all classes, in row-major order      e   pairs of runs that touch
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.errors import ShapeError
from tagmask.regions import components

__all__ = ["component_boxes_union", "contour_boxes", "mask_box"]


def component_boxes_union(
    scores: Float[Tensor, "c gh gw"],
    threshold: Float[Tensor, " t"],
    *,
    lose_border: bool = True,
) -> tuple[Bool[Tensor, "c gh gw"], Int[Tensor, " c"]]:
    """Cover each class's regions above the threshold by their bounding boxes.

    Scores are quantised to 8 bits, u = trunc(255 * score); a cell is above the threshold if
    u > trunc(threshold * max u). Each 8-connected region of such cells gives one box.

    Args:
        scores: 0..1, usually min-max scaled so that each class reaches 1. A class with NaN scores
            has no region.
        threshold: one per class, as a share of its highest score. The product with max u is
            computed in float64: pass literal factors such as 0.4 in float64 too.
        lose_border: clip the half-open boxes at gw - 1 and gh - 1 as the original does, so that
            the last column and row are never covered; a region that lies only there is lost.

    Returns:
        The union of each class's boxes, and its number of regions (lost ones included).

    Raises:
        ShapeError: the number of thresholds is not the number of classes.

    Source:
        TagCLIP (AAAI 2024), class mask of DMAR, and CLIP-ES (CVPR 2023), as coded by the
        authors, who use the boxes of OpenCV's contours. Contours of holes lie within an outer
        box, so they are neither needed nor counted here.

    Example:
        >>> scores = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.9, 0.0], [0.0, 0.0, 0.0]]])
        >>> union, regions = component_boxes_union(scores, torch.tensor([0.5]))
        >>> union.int().tolist(), regions.tolist()
        ([[[1, 1, 0], [1, 1, 0], [0, 0, 0]]], [1])
    """
    c, gh, gw = scores.shape
    owner, boxes = _region_boxes(_strong(scores, threshold))
    return _union(boxes, owner, (c, gh, gw), lose_border), torch.bincount(owner, minlength=c)


def contour_boxes(
    scores: Float[Tensor, "gh gw"], threshold: float, *, lose_border: bool = True
) -> list[tuple[int, int, int, int]]:
    """The bounding box of every contour of one class's regions, those of holes included.

    A hole is a 4-connected area of cells that are not above the threshold and do not reach the border; its
    contour runs through the cells around it.

    Args:
        scores: as in `component_boxes_union`.
        threshold: as a share of the highest score.
        lose_border: as in `component_boxes_union`.

    Returns:
        (x0, y0, x1, y1) in cells, half-open: regions first. With `lose_border`, a box may be empty.

    Source:
        FreeCP, as coded by the authors, who use the boxes of all of OpenCV's contours.

    Example:
        >>> ring = torch.ones(5, 5)
        >>> ring[2, 2] = 0.0
        >>> contour_boxes(ring, 0.4)
        [(0, 0, 4, 4), (1, 1, 4, 4)]
    """
    gh, gw = scores.shape
    strong = _strong(scores[None], torch.tensor([threshold], dtype=torch.float64))
    _, boxes = _region_boxes(strong)
    empty = F.pad(~strong[0], (1, 1, 1, 1), value=True).cpu().numpy().astype(np.uint8)
    found = boxes.tolist()
    for hole in components(empty, 1, 2):
        x0, y0, x1, y1 = hole.box  # in the padded map, so x0 - 1 is its first column; one more is around it
        if x0 > 0:  # else it is the outside, which has the padding's corner
            found.append([x0 - 2, y0 - 2, x1, y1])
    if lose_border:
        found = [[x0, y0, min(x1, gw - 1), min(y1, gh - 1)] for x0, y0, x1, y1 in found]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in found]


def _strong(scores: Float[Tensor, "c gh gw"], threshold: Float[Tensor, " t"]) -> Bool[Tensor, "c gh gw"]:
    """The cells above the threshold, as `component_boxes_union` defines it."""
    c = len(scores)
    if threshold.shape != (c,):
        raise ShapeError(f"Got {threshold.numel()} thresholds for {c} classes. Give one threshold per class.")
    levels = (scores.float() * 255).trunc()
    # On the CPU, which always supports float64; float32 could round the product up to an integer.
    threshold_levels = (threshold.cpu().double() * levels.amax((1, 2)).cpu().double()).trunc()
    return levels > threshold_levels.to(levels)[:, None, None]


def mask_box(mask: Bool[Tensor, "c gh gw"], *, lose_border: bool) -> Int[Tensor, "c 4"]:
    """The bounding box of all true cells of each mask.

    Args:
        mask: one per class.
        lose_border: clip the half-open boxes at gw - 1 and gh - 1, as in `component_boxes_union`.

    Returns:
        (x0, y0, x1, y1) in cells, half-open; (0, 0, 0, 0) for an empty mask. With `lose_border`
        a mask that is true in the last column or row only has x0 == x1 or y0 == y1.

    Source:
        TagCLIP (AAAI 2024), class-wise re-identification, as coded by the authors.

    Example:
        >>> mask_box(torch.tensor([[[False, True], [False, False]]]), lose_border=False)
        tensor([[1, 0, 2, 1]])
    """
    _, gh, gw = mask.shape
    x0, x1 = _extent(mask.any(1))
    y0, y1 = _extent(mask.any(2))
    if lose_border:
        # An empty mask stays all 0; otherwise x0 <= gw - 1, so x1 >= x0.
        x1, y1 = x1.clamp(max=gw - 1), y1.clamp(max=gh - 1)
    return torch.stack([x0, y0, x1, y1], 1)


def _extent(hit: Bool[Tensor, "c n"]) -> tuple[Int[Tensor, " c"], Int[Tensor, " c"]]:
    hits = hit.int()
    last = hit.shape[1] - hits.flip(1).argmax(1)
    return hits.argmax(1), last * hit.any(1)


class _Runs(NamedTuple):
    start: Int[Tensor, " r"]
    """Flat index of the first cell."""
    stop: Int[Tensor, " r"]
    """Flat index of the last cell."""
    cell: Int[Tensor, "c gh gw"]
    """The run that each true cell belongs to; meaningless elsewhere."""


def _runs(strong: Bool[Tensor, "c gh gw"]) -> _Runs:
    starts, stops = strong.clone(), strong.clone()
    starts[..., 1:] &= ~strong[..., :-1]
    stops[..., :-1] &= ~strong[..., 1:]
    cell = starts.flatten().cumsum(0).sub_(1).view(strong.shape)
    return _Runs(starts.flatten().nonzero()[:, 0], stops.flatten().nonzero()[:, 0], cell)


def _touching(runs: _Runs, strong: Bool[Tensor, "c gh gw"]) -> tuple[Int[Tensor, " e"], Int[Tensor, " e"]]:
    upper, lower = strong[:, :-1], strong[:, 1:]
    upper_run, lower_run = runs.cell[:, :-1], runs.cell[:, 1:]
    # List each pair of runs once or twice: at the first column they share, or where only their corners meet.
    straight = upper & lower
    straight[..., 1:] &= ~(upper[..., :-1] & lower[..., :-1])
    falling = upper[..., :-1] & lower[..., 1:] & ~upper[..., 1:] & ~lower[..., :-1]
    rising = upper[..., 1:] & lower[..., :-1] & ~upper[..., :-1] & ~lower[..., 1:]
    above = [upper_run[straight], upper_run[..., :-1][falling], upper_run[..., 1:][rising]]
    below = [lower_run[straight], lower_run[..., 1:][falling], lower_run[..., :-1][rising]]
    return torch.cat(above), torch.cat(below)


def _join(runs: _Runs, strong: Bool[Tensor, "c gh gw"]) -> Int[Tensor, " r"]:
    """Merge touching runs; returns the first run of each run's region."""
    above, below = _touching(runs, strong)
    head = torch.arange(len(runs.start), device=strong.device)
    while True:
        a, b = head[above], head[below]
        if torch.equal(a, b):
            return head
        # Union-find: heads point at themselves here. Link the later head of each pair to the earliest
        # one that it touches, then follow the links to the root until all trees are flat again.
        head = head.scatter_reduce(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        while not torch.equal(further := head[head], head):
            head = further


def _region_boxes(
    strong: Bool[Tensor, "c gh gw"],
) -> tuple[Int[Tensor, " regions"], Int[Tensor, "regions 4"]]:
    """Class and bounding box of each 8-connected region."""
    gh, gw = strong.shape[1:]
    runs = _runs(strong)
    head = _join(runs, strong)
    y = runs.start // gw % gh
    # The far corner is negated, so that one minimum over the runs finds all four sides.
    corners = torch.stack([runs.start % gw, y, -(runs.stop % gw) - 1, -y - 1], 1)
    least = corners.scatter_reduce(0, head[:, None].expand(-1, 4), corners, "amin")
    region = (head == torch.arange(len(head), device=head.device)).nonzero()[:, 0]
    boxes = least[region] * torch.tensor([1, 1, -1, -1], device=head.device)
    return runs.start[region] // (gh * gw), boxes


def _union(
    boxes: Int[Tensor, "regions 4"],
    owner: Int[Tensor, " regions"],
    shape: tuple[int, int, int],
    lose_border: bool,
) -> Bool[Tensor, "c gh gw"]:
    c, gh, gw = shape
    x0, y0, x1, y1 = boxes.unbind(1)
    if lose_border:
        x1, y1 = x1.clamp(max=gw - 1), y1.clamp(max=gh - 1)
    # Mark the corners of the boxes; cumulative sums then count the boxes that cover each cell.
    marks = torch.zeros(c, gh + 1, gw + 1, dtype=torch.int32, device=boxes.device)
    once = torch.ones_like(owner, dtype=torch.int32)
    for y, x, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        marks.index_put_((owner, y, x), sign * once, accumulate=True)
    covered = marks.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
    return covered[:, :gh, :gw] > 0
