"""The best text of every pixel, found without stitching the maps of all texts at once.

Tile by tile, texts that cannot win are left out: if another text is better in every patch under the tile, it
is better in every pixel, because a pixel's scores are sums over those patches with the same weights for all
texts. A probability also needs the sum of exponentials over all texts; these are stitched block by block, and
a block stays in the processor's cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.windows import used_columns
from tagmask.types import Size

__all__ = ["BestTexts", "Competition", "best_of_planes", "best_of_tiles"]

_PRUNED = 64
"""Texts from which on leaving some out pays."""
_LEADERS = 4
"""Texts of a tile that all others, or all others of their group, are compared with."""
_SLACK = 1e-5
"""A text is left out if it is worse by more than this part of the largest score: more than rounding."""
_TILE = 24, 64
"""Smallest tile, (h, w) in pixels. Larger images have larger tiles, of about a patch."""
_LEAST_ROWS = 8
"""Rows of a tile if few texts compete, at least."""
_CACHED, _BLOCK = 2**18, 2**26
"""Numbers of one block: 1 MiB, the cache of a processor core; 256 MiB on accelerators."""

_Scores = Callable[[Int[Tensor, " n"]], Float[Tensor, "n rows cols"]]
"""Returns the scores of some texts in a tile: cosines times the factor in the softmax. May be overwritten."""


@dataclass(frozen=True)
class Competition:
    """Which texts compete, and what to find out in addition to the best."""

    texts: Int[Tensor, " q"]
    """Those that may win, ascending. All others only count in the sum of exponentials."""
    scale: float
    """Factor on the cosines."""
    background: int = 0
    """If the best foreground score is wanted: the number of first texts that are background."""
    count: int | None = None
    """If the sum of exponentials is wanted: the number of all texts."""


@dataclass(frozen=True, eq=False)
class BestTexts:
    """The best text of every pixel of a tile. The first text wins ties."""

    index: Int[Tensor, "rows cols"]
    """int32."""
    score: Float[Tensor, "rows cols"]
    foreground: Float[Tensor, "rows cols"] | None
    """The best foreground score; None if it is not wanted or no foreground text competes."""
    total: Float[Tensor, "rows cols"] | None
    """Sum over all texts of exp(score - best score): the inverse of the best text's probability."""

    @classmethod
    def joined(cls, parts: Sequence["BestTexts"], dim: int) -> "BestTexts":
        """Join tiles side by side (`dim` 1) or one below the other (0)."""

        def join(planes: Sequence[Tensor | None]) -> Tensor | None:
            given = [plane for plane in planes if plane is not None]
            assert len(given) in (0, len(planes))  # what is wanted is wanted of every tile
            return torch.cat(given, dim) if given else None

        return cls(
            torch.cat([part.index for part in parts], dim),
            torch.cat([part.score for part in parts], dim),
            join([part.foreground for part in parts]),
            join([part.total for part in parts]),
        )

    def rows(self, top: int, bottom: int) -> "BestTexts":
        """Some of the rows."""
        foreground = None if self.foreground is None else self.foreground[top:bottom]
        total = None if self.total is None else self.total[top:bottom]
        return BestTexts(self.index[top:bottom], self.score[top:bottom], foreground, total)

    def against(self, later: "BestTexts") -> "BestTexts":
        """Compete with the best of texts that come later."""
        better = later.score > self.score
        score = torch.where(better, later.score, self.score)
        index = torch.where(better, later.index, self.index)
        found = [plane for plane in (self.foreground, later.foreground) if plane is not None]
        foreground = torch.maximum(*found) if len(found) == 2 else next(iter(found), None)
        total = None
        if self.total is not None and later.total is not None:
            total = self.total * (self.score - score).exp() + later.total * (later.score - score).exp()
        return BestTexts(index, score, foreground, total)

    def with_total_of(self, other: "BestTexts") -> "BestTexts":
        """Take over the sum of exponentials of a result in which more texts could win."""
        if other.total is None:
            return self
        return replace(self, total=other.total * (other.score - self.score).exp())


def best_of_tiles(maps: CosineMaps, competition: Competition) -> Iterator[tuple[int, int, BestTexts]]:
    """Find the best texts of an image's pixels, strip by strip.

    Args:
        maps: the cosines of one image, without corrections; the matrices that stitch them have no negative
            entry.
        competition: which texts compete.

    Yields:
        First row, last row (not included), and the best texts of the pixels in between.
    """
    planes = maps.cosines * competition.scale
    slack = _SLACK * float(planes.abs().max())
    (height, width), (tile_height, tile_width) = maps.size, _tile_size(maps, competition)
    across = [used_columns(maps.across[left : left + tile_width]) for left in range(0, width, tile_width)]
    for top in range(0, height, tile_height):
        down, rows = used_columns(maps.down[top : top + tile_height])
        band = planes[:, rows]
        tiles = []
        for columns_matrix, columns in across:
            cells = band[:, :, columns]
            size = len(down), len(columns_matrix)
            tile = replace(competition, texts=_possible(cells, competition, slack))
            tiles.append(_best_of_scores(_stitcher(cells, down, columns_matrix), size, tile))
        yield top, top + len(down), BestTexts.joined(tiles, 1)


def best_of_planes(planes: Float[Tensor, "q rows w"], competition: Competition) -> BestTexts:
    """Find the best texts of the pixels of a strip whose cosines are known.

    Args:
        planes: the cosines of all texts; they are overwritten.
        competition: which texts compete.
    """
    planes *= competition.scale
    count, rows, width = planes.shape
    columns = max(_block(planes.device) // (count * rows), _TILE[1])
    tiles = []
    for left in range(0, width, columns):
        tile = planes[:, :, left : left + columns]
        tiles.append(_best_of_scores(tile.__getitem__, (rows, tile.shape[2]), competition))
    return BestTexts.joined(tiles, 1)


def _best_of_scores(scores: _Scores, size: Size, competition: Competition) -> BestTexts:
    """Find the best text of every pixel of a tile, block by block.

    Args:
        scores: of the texts in the tile.
        size: (rows, cols) of the tile.
        competition: which texts compete.
    """
    texts = competition.texts
    block = max(_block(texts.device) // (size[0] * size[1]), 1)
    if competition.count is not None and competition.count <= block:  # stitch once
        scores = scores(torch.arange(competition.count, device=texts.device)).__getitem__
    groups = _groups(competition)
    found = [_best(scores, group, block) for group in groups if len(group)]
    foreground = found[-1].score if len(groups[-1]) else None
    best = found[0] if len(found) == 1 else found[0].against(found[1])
    total = None
    if competition.count is not None:
        total = torch.zeros_like(best.score)
        for part in torch.arange(competition.count, device=texts.device).split(block):
            total += scores(part).sub_(best.score).exp_().sum(dim=0)
    return replace(best, foreground=foreground, total=total)


def _best(scores: _Scores, texts: Int[Tensor, " n"], block: int) -> BestTexts:
    best: BestTexts | None = None
    for part in texts.split(block):
        # max(...).indices instead of argmax: equal, but much faster over this dimension.
        score, index = scores(part).max(dim=0)
        found = BestTexts(part[index].int(), score, None, None)
        best = found if best is None else best.against(found)
    assert best is not None  # there are texts
    return best


def _possible(
    cells: Float[Tensor, "q rows cols"], competition: Competition, slack: float
) -> Int[Tensor, " kept"]:
    """The texts that may be the best in a tile, or the best foreground text if that is wanted."""
    if not _prunes(competition.texts):
        return competition.texts
    groups = _groups(competition)
    return torch.cat([_unbeaten(cells, group, slack) for group in groups])


def _groups(competition: Competition) -> list[Int[Tensor, " n"]]:
    """Background and foreground texts, which compete apart if the best foreground score is wanted; or all."""
    texts = competition.texts
    if not competition.background:
        return [texts]
    is_background = texts < competition.background
    return [texts[is_background], texts[~is_background]]


def _unbeaten(
    cells: Float[Tensor, "q rows cols"], texts: Int[Tensor, " n"], slack: float
) -> Int[Tensor, " kept"]:
    """The texts that none of their leaders beats in every cell."""
    mine = cells[texts].flatten(1)
    for leader in mine[mine.mean(dim=1).topk(min(_LEADERS, len(mine))).indices]:
        kept = (mine - leader).amax(dim=1) >= -slack
        mine, texts = mine[kept], texts[kept]
    return texts


def _prunes(texts: Int[Tensor, " n"]) -> bool:
    # On accelerators, small tiles cost more than they save.
    return len(texts) >= _PRUNED and texts.device.type == "cpu"


def _tile_size(maps: CosineMaps, competition: Competition) -> Size:
    (height, width), (rows, columns) = maps.size, maps.cosines.shape[1:]
    if _prunes(competition.texts):
        return max(_TILE[0], -(-height // rows)), max(_TILE[1], -(-width // columns))
    # One block holds all texts of a tile, if possible.
    pixels = _block(maps.cosines.device) // max(len(competition.texts), competition.count or 0)
    rows = max(pixels // width, _LEAST_ROWS)
    return rows, min(max(pixels // rows, _TILE[1]), width)


def _block(device: torch.device) -> int:
    return _CACHED if device.type == "cpu" else _BLOCK


def _stitcher(
    cells: Float[Tensor, "q r c"], down: Float[Tensor, "rows r"], across: Float[Tensor, "cols c"]
) -> _Scores:
    return lambda texts: (down @ cells[texts]) @ across.T
