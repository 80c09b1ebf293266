"""The frozen features of an image's windows, kept to be compared with any texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.model import Vision
from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, SecondPassContext, compare_patches, unit_patches
from tagmask.dense.windows import Windows, tile_windows
from tagmask.types import Pixels, Size, TextFeatures

__all__ = ["FrozenBatch", "FrozenWindows", "StoredBatch"]


_MAPPINGS = ("attention", "states", "heads", "running")
"""Parts of the tower's features that hold several tensors."""


@dataclass(frozen=True, eq=False)
class StoredBatch:
    """What is stored of a `FrozenBatch`: all but what the image gives again."""

    grid: Size
    tensors: Mapping[str, Tensor]
    """By the names of `FrozenBatch.named_tensors`."""


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

    @classmethod
    def restored(cls, stored: StoredBatch, vision: Vision, rule: DenseRule, pixels: Pixels) -> "FrozenBatch":
        """Return the batch that was stored.

        Args:
            stored: its grid and its tensors.
            vision: the image tower that they come from.
            rule: of the method that they were kept for.
            pixels: the windows.

        Raises:
            ValueError: they are not what the rule needs, or of other windows.
        """
        tensors = stored.tensors
        if any(len(tensor) != len(pixels) for tensor in tensors.values()):
            raise ValueError("features of other windows")
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in _MAPPINGS}
        for name, tensor in tensors.items():
            kind, _, key = name.partition(".")
            if kind in parts:
                parts[kind][key] = tensor
        second = rule.second_pass is not None
        patches, tokens = tensors.get("patches"), tensors.get("tokens")
        if (patches is None) != second or (tokens is None) == (second or rule.scores is not None):
            raise ValueError("features of another method")
        tower = None
        if tokens is not None:
            tower = TowerFeatures(
                vision,
                tokens,
                stored.grid,
                {int(key): tensor for key, tensor in parts["attention"].items()},
                {int(key): tensor for key, tensor in parts["states"].items()},
                {frozenset(map(int, key.split("-"))): tensor for key, tensor in parts["heads"].items()},
                parts["running"],
            )
        return cls(rule, stored.grid, patches, tower, pixels if second else None)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that is kept of the tower, by name."""
        if self.patches is not None:
            yield "patches", self.patches
        if self.tower is not None:
            tower = self.tower
            yield "tokens", tower.tokens
            yield from ((f"attention.{layer}", tensor) for layer, tensor in tower.attention.items())
            yield from ((f"states.{layer}", tensor) for layer, tensor in tower.states.items())
            for layers, tensor in tower.heads.items():
                yield f"heads.{'-'.join(map(str, sorted(layers)))}", tensor
            yield from ((f"running.{name}", tensor) for name, tensor in tower.running.items())

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is kept."""
        yield from (tensor for _, tensor in self.named_tensors())
        if self.pixels is not None:
            yield self.pixels


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
