"""Functions that several papers share: similarity, outliers and neighbourhoods of patches."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.errors import InputError
from tagmask.types import Size, Tokens

__all__ = [
    "as_on_square_grid",
    "cosine_similarity",
    "drop_below",
    "gaussian_prior",
    "local_outlier_factor",
    "lof_outliers",
    "normalise_rows",
    "repair_outliers",
    "similarity_softmax",
]

_NEIGHBOURS = 30
_OUTLIER_QUANTILE = 0.95


def cosine_similarity(x: Tokens) -> Float[Tensor, "b n n"]:
    """Pairwise cosine similarity of the tokens."""
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return unit @ unit.transpose(-2, -1)


def drop_below(similarity: Float[Tensor, "b n n"], threshold: float = 0.4) -> Float[Tensor, "b n n"]:
    """Set similarities below the threshold to 0."""
    return similarity.masked_fill(similarity < threshold, 0.0)


def normalise_rows(similarity: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
    """Divide each row by its sum."""
    return similarity / (similarity.sum(dim=-1, keepdim=True) + 1e-6)


def similarity_softmax(similarity: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
    """Softmax of 3 * (similarity - mean of the map); entries below the mean get weight 0.

    The diagonal is always included, so that no row is empty (the original gives NaN there).
    """
    logits = 3 * (similarity - similarity.mean(dim=(-2, -1), keepdim=True))
    diagonal = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return torch.softmax(logits.masked_fill((logits < 0) & ~diagonal, -torch.inf), dim=-1)


def gaussian_prior(grid: Size, sigma: float = 5.0) -> Float[Tensor, "n n"]:
    """exp(-distance² / 2 sigma²) between the patches of a grid; 0 for the class token, which comes first."""
    gh, gw = grid
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in grid)
    down = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * sigma**2))
    across = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * sigma**2))
    prior = torch.einsum("ik,jl->ijkl", down, across).reshape(gh * gw, gh * gw)
    return F.pad(prior, (1, 0, 1, 0))


def local_outlier_factor(patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"]:
    """Local outlier factor of each patch among its 30 nearest neighbours; about 1 for inliers.

    The squared distance to a patch's 30th neighbour, times the mean of the inverse of this distance over its
    neighbours. Grids of 30 patches or fewer use all other patches as neighbours.

    Source: SC-CLIP, as coded. The general LOF reduces to this if the reachability distance is replaced by the
        point's own k-distance.
    """
    # Differences, not |a|² + |b|² - 2ab: near ties decide which patches are outliers.
    distance = torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    count = min(_NEIGHBOURS, patches.shape[1] - 1)
    if count < 1:
        return torch.ones_like(patches[..., 0])
    nearest = distance.topk(count + 1, dim=-1, largest=False)
    k_distance = nearest.values[..., -1]
    neighbours = nearest.indices[..., 1:].flatten(1)
    return k_distance * (1 / k_distance).gather(1, neighbours).view(*k_distance.shape, count).mean(dim=-1)


def lof_outliers(patches: Float[Tensor, "b p d"]) -> Bool[Tensor, "b p"]:
    """Patches whose local outlier factor exceeds the 0.95 quantile (linear) of their image."""
    score = local_outlier_factor(patches)
    return score > torch.quantile(score, _OUTLIER_QUANTILE, dim=1, keepdim=True)


def as_on_square_grid(outliers: Bool[Tensor, "b p"], grid: Size) -> Bool[Tensor, "b p"]:
    """Move outliers to where the authors' program places them: it assumes a square grid of gh x gh.

    Raises:
        InputError: a position outside the grid, where that program fails.
    """
    gh, gw = grid
    moved = torch.zeros_like(outliers)
    image, index = outliers.nonzero(as_tuple=True)
    row, column = index // gh, index % gh
    if bool(((row >= gh) | (column >= gw)).any()):
        raise InputError(
            f"As published, outliers of a {gh}x{gw} grid fall outside it, and the authors' program fails. "
            "Use square windows or as_='corrected'."
        )
    moved[image, row * gw + column] = True
    return moved


def repair_outliers(
    patches: Float[Tensor, "b p d"], outliers: Bool[Tensor, "b p"], grid: Size, *, zero: bool = False
) -> Float[Tensor, "b p d"]:
    """Replace outlier patches by the mean of those of their 8 neighbours that are not outliers.

    Without such a neighbour, a patch stays unchanged, or becomes 0 with `zero`.
    """
    gh, gw = grid
    inliers = (~outliers).to(patches.dtype)[..., None]
    sums = _neighbour_sums((patches * inliers).transpose(1, 2).reshape(len(patches), -1, gh, gw))
    counts = _neighbour_sums(inliers.transpose(1, 2).reshape(len(patches), 1, gh, gw))
    mean = (sums / counts.clamp(min=1)).flatten(2).transpose(1, 2)
    isolated = counts.flatten(2).transpose(1, 2) == 0
    repaired = mean if zero else torch.where(isolated, patches, mean)
    return torch.where(outliers[..., None], repaired, patches)


def _neighbour_sums(maps: Float[Tensor, "b k gh gw"]) -> Float[Tensor, "b k gh gw"]:
    padded = F.pad(maps, (1, 1, 1, 1))
    gh, gw = maps.shape[-2:]
    total = torch.zeros_like(maps)
    for down in range(3):
        for across in range(3):
            if (down, across) != (1, 1):
                total += padded[..., down : down + gh, across : across + gw]
    return total
