"""MCTformer's settings in a training run: version, sizes and augmentation."""

from dataclasses import dataclass

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError
from tagmask.papers.mctformer import VERSIONS

__all__ = ["MctFormerSettings"]


@dataclass(frozen=True)
class MctFormerSettings:
    """MCTformer's version, its sizes, and its augmentation.

    Raises:
        InputError: a value out of range.
    """

    version: str = "v2"
    """"v1", "v2" or "plus"."""
    width: int = 384
    """Width of a token; if `model.weights` is set, theirs."""
    depth: int = 12
    """Number of blocks; if `model.weights` is set, theirs."""
    heads: int = 6
    """Attention heads; if `model.weights` is set, width / 64."""
    drop_path: float = 0.1
    """Probability of dropping a residual branch of the last block; rises linearly from 0."""
    area: tuple[float, float] = (0.08, 1.0)
    """Range of a crop's share of the image's area."""
    operations: int = 2
    """RandAugment: number of operations that each image gets, each with probability 0.5; 0: none."""
    erase: float = 0.25
    """Probability that a box of the crop is replaced by noise."""
    affinity_base: int = 64
    """Affinity network: channels of ResNet38's first convolution; 64 is the published network."""

    def __post_init__(self) -> None:
        check_choice("mctformer.version", self.version, VERSIONS)
        check_number("mctformer.affinity_base", self.affinity_base, 1, 64, whole=True)
        for name in ("width", "depth", "heads"):
            check_number(f"mctformer.{name}", getattr(self, name), 1, whole=True)
        check_number("mctformer.drop_path", self.drop_path, 0, 0.9)
        check_number("mctformer.operations", self.operations, 0, whole=True)
        check_number("mctformer.erase", self.erase, 0, 1)
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise InputError(f"mctformer.area is {self.area}. Give two numbers up to 1, the smaller first.")
