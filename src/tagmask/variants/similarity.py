"""Small functions that several papers share: who is alike, who is odd, who is near."""

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
    """Cosine of every token with every other."""
    unit: Tensor = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return unit @ unit.transpose(-2, -1)


def drop_below(similarity: Float[Tensor, "b n n"], least: float = 0.4) -> Float[Tensor, "b n n"]:
    """Similarities under `least` become 0."""
    return similarity.masked_fill(similarity < least, 0.0)


def normalise_rows(similarity: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
    """Rows divided by their sum."""
    return similarity / (similarity.sum(dim=-1, keepdim=True) + 1e-6)


def similarity_softmax(similarity: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
    """Softmax over the similarities above the map's mean, three times stretched; the others get nothing.

    A token always keeps its own place, so that no row is empty (the original gives NaN there).
    """
    stretched = 3 * (similarity - similarity.mean(dim=(-2, -1), keepdim=True))
    own = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return torch.softmax(stretched.masked_fill((stretched < 0) & ~own, -torch.inf), dim=-1)


def gaussian_prior(grid: Size, sigma: float = 5.0) -> Float[Tensor, "n n"]:
    """exp(-distance² / 2 sigma²) between the patches of a grid; 0 for the class token, which comes first."""
    gh, gw = grid
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in grid)
    down = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * sigma**2))
    across = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * sigma**2))
    near = torch.einsum("ik,jl->ijkl", down, across).reshape(gh * gw, gh * gw)
    return F.pad(near, (1, 0, 1, 0))


def local_outlier_factor(patches: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"]:
    """How thin each patch's neighbourhood is against that of its 30 nearest; about 1 for ordinary ones.

    The (squared) distance to a patch's 30th neighbour, times the mean of its neighbours' inverse ones. Grids
    of 30 patches and fewer take all the others.

    Source: SC-CLIP, as coded; it is called LOF there, and is what that becomes when a point's own distance
        serves as reach.
    """
    # Differences, not |a|² + |b|² - 2ab: near ties decide which patches are odd.
    distance = torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    count = min(_NEIGHBOURS, patches.shape[1] - 1)
    if count < 1:
        return torch.ones_like(patches[..., 0])
    nearest = distance.topk(count + 1, dim=-1, largest=False)
    reach = nearest.values[..., -1]
    around = nearest.indices[..., 1:].flatten(1)
    return reach * (1 / reach).gather(1, around).view(*reach.shape, count).mean(dim=-1)


def lof_outliers(patches: Float[Tensor, "b p d"]) -> Bool[Tensor, "b p"]:
    """The loneliest patches: those over the 0.95 quantile (linear) of their map."""
    score = local_outlier_factor(patches)
    return score > torch.quantile(score, _OUTLIER_QUANTILE, dim=1, keepdim=True)


def as_on_square_grid(odd: Bool[Tensor, "b p"], grid: Size) -> Bool[Tensor, "b p"]:
    """Outliers where the authors' program looks for them: row and column by the number of rows.

    Raises:
        InputError: a place outside the grid, where that program stops.
    """
    gh, gw = grid
    moved = torch.zeros_like(odd)
    image, index = odd.nonzero(as_tuple=True)
    row, column = index // gh, index % gh
    if bool(((row >= gh) | (column >= gw)).any()):
        raise InputError(
            f"as published, outliers of a {gh}x{gw} grid fall outside it and the program stops; "
            "use windows of equal sides, or as_='corrected'"
        )
    moved[image, row * gw + column] = True
    return moved


def repair_outliers(
    patches: Float[Tensor, "b p d"], odd: Bool[Tensor, "b p"], grid: Size, *, zero: bool = False
) -> Float[Tensor, "b p d"]:
    """Odd patches become the mean of those of their 8 neighbours that are not odd.

    Without any such neighbour a patch stays, or becomes 0 with `zero`.
    """
    gh, gw = grid
    sound = (~odd).to(patches.dtype)[..., None]
    around = _neighbour_sums((patches * sound).transpose(1, 2).reshape(len(patches), -1, gh, gw))
    number = _neighbour_sums(sound.transpose(1, 2).reshape(len(patches), 1, gh, gw))
    mean = (around / number.clamp(min=1)).flatten(2).transpose(1, 2)
    lone = number.flatten(2).transpose(1, 2) == 0
    mended = mean if zero else torch.where(lone, patches, mean)
    return torch.where(odd[..., None], mended, patches)


def _neighbour_sums(maps: Float[Tensor, "b k gh gw"]) -> Float[Tensor, "b k gh gw"]:
    padded = F.pad(maps, (1, 1, 1, 1))
    gh, gw = maps.shape[-2:]
    total = torch.zeros_like(maps)
    for down in range(3):
        for across in range(3):
            if (down, across) != (1, 1):
                total += padded[..., down : down + gh, across : across + gw]
    return total
