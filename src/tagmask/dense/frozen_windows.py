"""The frozen features of an image's windows, kept to be compared with any texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, SecondPassContext, compare_patches, unit_patches
from tagmask.dense.windows import Windows, tile_windows
from tagmask.types import Pixels, Size, TextFeatures

__all__ = ["FrozenBatch", "FrozenWindows"]


@dataclass(frozen=True, eq=False)
class FrozenBatch:
    """Windows that passed through the tower together.

    They are compared in the same batches as without freezing, since the rounding of a matrix product may
    depend on its size.
    """

    rule: DenseRule
    grid: Size
    patches: Float[Tensor, "b p e"] | None = field(repr=False)
    """Unit patch features; None if the last block reads the texts."""
    tower: TowerFeatures | None = field(repr=False)
    """Features before the last block, for methods that read them after the comparison or run it again."""
    pixels: Pixels | None = field(repr=False)
    """The normalised windows, for methods whose last block reads the texts."""

    @classmethod
    def of(cls, tower: TowerFeatures, rule: DenseRule, pixels: Pixels) -> "FrozenBatch":
        """Keep what comparisons under a rule need."""
        kept = replace(tower)  # without the queries, keys and values that were computed meanwhile
        if rule.second_pass is not None:
            return cls(rule, tower.grid, None, kept, pixels)
        patches = unit_patches(tower, rule)
        return cls(rule, tower.grid, patches, None if rule.scores is None else kept, None)

    def compare(
        self, texts: TextFeatures, scale: float, head: Float[Tensor, "e c"] | None
    ) -> Float[Tensor, "b planes gh gw"]:
        """Cosines of all texts, followed by a head's corrections; see `patch_cosines`."""
        compared = compare_patches(self.units(texts, scale), self.tower, self.rule, texts, head)
        return compared.reshape(*compared.shape[:2], *self.grid)

    def units(self, texts: TextFeatures, scale: float) -> Float[Tensor, "b p e"]:
        """Unit patch features before the comparison."""
        if self.patches is not None:
            return self.patches
        assert self.tower is not None  # see `of`
        assert self.pixels is not None
        return unit_patches(replace(self.tower), self.rule, SecondPassContext(self.pixels, texts, scale))

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is kept."""
        kept = [self.patches, self.pixels]
        if self.tower is not None:
            tower = self.tower
            kept += [tower.tokens, *tower.attention.values(), *tower.states.values(), *tower.heads.values()]
        return (tensor for tensor in kept if tensor is not None)


@dataclass(frozen=True, eq=False)
class FrozenWindows:
    """The frozen features of one image's windows under one method, and the map that stitches them."""

    batches: tuple[FrozenBatch, ...]
    plan: Windows
    down: Float[Tensor, "h rows"] = field(repr=False)
    across: Float[Tensor, "w cols"] = field(repr=False)
    pixels: Float[Tensor, "3 hs ws"] = field(repr=False)
    """The scaled, normalised image that the windows were cropped from."""

    @property
    def size(self) -> Size:
        """(h, w) of the original image."""
        return len(self.down), len(self.across)

    @property
    def nbytes(self) -> int:
        """Memory of all that is kept, in bytes."""
        kept = [self.down, self.across, self.pixels, *(t for batch in self.batches for t in batch.tensors())]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def maps(self, texts: TextFeatures, scale: float, head: Float[Tensor, "e c"] | None = None) -> CosineMaps:
        """Compare the windows with texts.

        Args:
            texts: unit features.
            scale: factor on the cosines in the softmax over texts, for methods whose last block reads them.
            head: of a `tagmask.pipelines.head.Head`.
        """
        planes = torch.cat([batch.compare(texts, scale, head) for batch in self.batches])
        maps = stitch(planes, self.plan, self.down, self.across, self.pixels)
        return maps if head is None else maps.with_corrections(len(texts))

    def features(self, texts: TextFeatures, scale: float) -> Float[Tensor, "e rows cols"]:
        """The windows' unit patch features, laid out like the maps of `CosineMaps`."""
        units = [batch.units(texts, scale).transpose(1, 2).unflatten(2, batch.grid) for batch in self.batches]
        return tile_windows(torch.cat(units), self.plan)
