"""Settings of TagCLIP (`papers.tagclip`), including the formulas in which its program and paper differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from tagmask.checks import check_choice, check_number
from tagmask.dense.native_size import MAX_PATCHES
from tagmask.errors import InputError

__all__ = ["PAPER_DEPTH", "TagclipSettings"]

PAPER_DEPTH = 12
"""Layers of the tower that the settings are given for."""

_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "local_source": ("refined", "coarse"),
        "dmar_masks": ("both", "attention", "class", "none"),
        "class_mask": ("boxes", "mean"),
        "vote_mean": ("patches", "tokens"),
        "cwr_scope": ("candidates", "all"),
    }
)


@dataclass(frozen=True, kw_only=True)
class TagclipSettings:
    """Settings of TagCLIP; the defaults are those of the authors' program for PASCAL VOC and COCO."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("early_exit", "lose_border")
    """Settings that are True with `as_="published"` and False with `as_="corrected"`."""
    PRINTED: ClassVar[Mapping[str, object]] = MappingProxyType(
        {
            "local_source": "coarse",
            "class_mask": "mean",
            "vote_mean": "tokens",
            "strict_votes": True,
            "background_competes": False,
            "cwr_scope": "all",
            "early_exit": False,
            "lose_border": False,
        }
    )
    """Values with `as_="printed"`: the formulas as the paper prints them."""

    patch_softmax: bool = True
    """Patch scores are probabilities over the texts; off, they are cosines, -1..1."""
    background_competes: bool = True
    """As coded: background texts take part in the softmax. As printed, only the words do."""
    last_attention: bool = False
    """Keep the last block's attention for the patch scores; removed, each patch keeps its own value."""
    dmar: bool = True
    """Refine patch scores by dual-masked attention."""
    dmar_masks: str = "both"
    """Which of DMAR's two masks are used: "both", "attention", "class" or "none"."""
    attention_layers: tuple[int, ...] = (8, 9, 10)
    """Layers of a 12-layer tower whose attention is averaged; scaled in proportion for other depths."""
    votes: int = 4
    """Minimum number of layers, of 12, in which an attention is above the layer's mean, for it to count."""
    strict_votes: bool = False
    """As printed: more layers than `votes`. As coded: at least as many."""
    vote_mean: str = "patches"
    """The layer's mean: over pairs of "patches", as coded, or of all "tokens", as printed."""
    renormalise: bool = False
    """Divide each row of the masked attention by its sum. Neither coded nor printed."""
    class_mask: str = "boxes"
    """A class counts in the "boxes" around its patches above its mean, as coded, or in those patches alone
    ("mean"), as printed."""
    local_source: str = "refined"
    """P_local, the patch score of a class: its maximum over the "refined" scores, as coded, or the "coarse"
    ones, as printed."""
    cwr: bool = True
    """Re-identify classes, each in its own crop."""
    cwr_scope: str = "candidates"
    """Re-identify "candidates", as coded, or "all" classes, as printed."""
    candidate_tau: float = 0.5
    """A candidate scores above this fraction of the score range over all patches and classes."""
    mask_tau: float = 0.5
    """A candidate's mask: patches above this fraction of the class's own score range."""
    fusion: float = 0.5
    """Weight of the patch score; the crop's score has weight 1 - this."""
    early_exit: bool = True
    """As coded: a candidate with an empty box ends re-identification."""
    lose_border: bool = True
    """As coded: boxes are clipped one cell short, and the last grid row and column are never inside."""
    min_patches: int = 1
    """Smaller images are enlarged to about this many patches."""
    max_patches: int = MAX_PATCHES
    """Larger images are reduced to at most this many patches: memory and time grow with its square."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("candidate_tau", "mask_tau", "fusion"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("votes", self.votes, 0, PAPER_DEPTH, whole=True)
        check_number("min_patches", self.min_patches, 1, whole=True)
        check_number("max_patches", self.max_patches, 1, whole=True)
        if self.min_patches > self.max_patches:
            raise InputError(
                f"min_patches {self.min_patches} is greater than max_patches {self.max_patches}. "
                "Give 1 <= min_patches <= max_patches."
            )
        if not self.attention_layers:
            raise InputError("attention_layers is empty. Give one or more layers, for example (8, 9, 10).")
        for layer in self.attention_layers:
            check_number("a layer of attention_layers", layer, 0, PAPER_DEPTH - 1, whole=True)
