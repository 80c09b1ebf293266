"""What the tables measure: tagging and segmentation setups, and the form of their results."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float32, Int
from numpy import ndarray

__all__ = ["Counts", "MaskSetup", "Scores", "Settings", "TagSetup"]

Counts = Int[ndarray, "n k k"]
"""Per scene: pixels by true class and predicted class."""

Scores = Float32[ndarray, "n c"]
"""Per scene: the score of each object class."""

Settings = tuple[tuple[str, Any], ...]
"""Names and values; pairs, not a mapping, so that setups are hashable."""


@dataclass(frozen=True)
class TagSetup:
    """A tagging setup."""

    settings: Settings = ()
    """Settings of the `Tagger`, `method` and `as_` included."""
    patches: str | None = None
    """If given, a dense method: score each class by its best patch, without refinement."""
    noise: float = 0.0
    """TagCLIP only: standard deviation of Gaussian noise on the patches' logits."""
    false_patches: float = 0.0
    """TagCLIP only: share of random patches that are certain of a random text."""

    @property
    def is_tagclip(self) -> bool:
        """Whether it is TagCLIP, with any settings."""
        return self.patches is None and "method" not in dict(self.settings)


@dataclass(frozen=True)
class MaskSetup:
    """A segmentation setup."""

    method: str = "sclip"
    settings: Settings = ()
    """Settings of the `Segmenter`, including the method's own."""
    tags: str | None = None
    """Candidate classes. None: all. "found": the tags predicted by TagCLIP. "true": the ground-truth tags."""
    tagger: Settings = ()
    """Settings of CLS-SEG's tagger, for "found"."""
    names: str = "one"
    """Names per class. "one": its name; "four": its name, plain and in three colours; "uneven": four names
    for every other class, one for the rest."""
