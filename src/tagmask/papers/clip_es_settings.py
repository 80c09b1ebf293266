"""Settings of CLIP-ES."""

from dataclasses import dataclass
from typing import ClassVar

from tagmask.checks import check_choice, check_number
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.refine.cda import COMBINATIONS

__all__ = ["AFFINITIES", "ClipEsSettings", "tagclip_settings"]

AFFINITIES = ("attention", "cda")


@dataclass(frozen=True, kw_only=True)
class ClipEsSettings:
    """Settings of CLIP-ES; the defaults are the paper's for PASCAL VOC."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("lose_border",)
    """Settings that are True with `as_="published"` and False with `as_="corrected"`."""

    attention_layers: tuple[int, ...] = tuple(range(4, 12))
    """Layers of a 12-layer tower whose attention is averaged; scaled in proportion for other depths."""
    scalings: int = 2
    """How many times a map is scaled to 0..1 before its box mask. With 1, tiny gradients stay below 1."""
    box_threshold: float = 0.4
    """Boxes enclose regions above this fraction of a map's maximum; only patches inside them are spread."""
    lose_border: bool = True
    """As coded: boxes are clipped one cell short, and the last grid row and column are never inside."""
    sinkhorn_rounds: int = 3
    """Rounds of column and row normalisation before the affinity is made symmetric."""
    affinity_power: int = 2
    """How many times a map is multiplied by the affinity."""
    background_power: float | None = 1.0
    """The background plane is (1 - maximum map) to this power; None: no plane, every pixel gets a tag."""
    confidence: float | None = None
    """Labels with a lower probability after the CRF become `ignore_index`; None keeps all. CLIP-ES trains its
    segmenter with 0.95."""
    half_planes: bool = True
    """As coded: planes are rounded to float16, which turns near ties into ties."""
    affinity: str = "attention"
    """What maps are spread along. "attention": the averaged attention, from the patches in each map's boxes;
    "cda": that and the likeness of the patches' class distributions (`refine.cda`), without boxes."""
    cda_tau: float = 0.01
    """Temperature of the likeness: the smaller, the more alike patches must be to share their maps."""
    cda_steps: int = 1
    """How many times a map is spread with "cda"."""
    cda_combination: str = "elementwise"
    """How both affinities are combined: "product" of the matrices, or "elementwise". It, tau and the steps
    were chosen on drawn scenes (`benchmarks.cda_choice`)."""
    min_patches: int = 1
    """Smaller images are enlarged to about this many patches."""
    max_patches: int = 4096
    """Larger images are reduced to at most this many patches: memory and time grow with its square."""

    def __post_init__(self) -> None:
        tagclip_settings(self)  # checks the settings that both methods share
        check_number("scalings", self.scalings, 1, whole=True)
        check_number("box_threshold", self.box_threshold, 0, 1)
        check_number("sinkhorn_rounds", self.sinkhorn_rounds, 0, whole=True)
        check_number("affinity_power", self.affinity_power, 0, whole=True)
        check_choice("affinity", self.affinity, AFFINITIES)
        check_number("cda_tau", self.cda_tau, 1e-6)
        check_number("cda_steps", self.cda_steps, 0, whole=True)
        check_choice("cda_combination", self.cda_combination, COMBINATIONS)
        if self.background_power is not None:
            check_number("background_power", self.background_power, 0)
        if self.confidence is not None:
            check_number("confidence", self.confidence, 0, 1)

    @property
    def idle(self) -> tuple[str, ...]:
        """Settings without a part in the results, which a run's identity leaves out."""
        return () if self.affinity == "cda" else ("affinity", "cda_tau", "cda_steps", "cda_combination")


def tagclip_settings(settings: ClipEsSettings) -> TagclipSettings:
    """The settings that both methods share, as TagCLIP's."""
    return TagclipSettings(
        attention_layers=settings.attention_layers,
        min_patches=settings.min_patches,
        max_patches=settings.max_patches,
    )
