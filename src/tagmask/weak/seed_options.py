"""Options of seeds, checked before any weights or images are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tagmask.errors import InputError

__all__ = ["SeedOptions"]


_NEEDS_CRF = "--min-confidence compares with the probabilities of a CRF."


@dataclass(frozen=True)
class SeedOptions:
    """Options of the seed source: a frozen CLIP, an MCTformer, activation maps, or existing masks.

    Raises:
        InputError: options that exclude each other, or that need another option.
    """

    words: tuple[str, ...] | None
    """Class names without the background; None: the recipe's."""
    recipe: str | None = None
    """Name of the recipe for a CLIP; None: chosen by `settings`."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Overrides of the recipe's settings, by name."""
    background: Sequence[str] | None = None
    """Background words; None: those of the recipe or of the weights; "auto": chosen for the words."""
    tags_file: Path | None = None
    """File of ground-truth tags of each image; None: the recipe predicts the tags."""
    cams: Path | None = None
    """Folder of activation maps."""
    threshold: float | None = None
    """Background score for activation maps."""
    truth: Path | None = None
    """Folder of ground-truth masks of some images, used to choose the threshold if none is given."""
    masks: Path | None = None
    """Folder of existing index PNGs, to check and copy."""
    mctformer: Path | None = None
    """Run folder of a trained MCTformer, which computes activation maps of the ground-truth tags."""
    affinity: Path | None = None
    """Run folder of a trained affinity network, along whose affinities the MCTformer's maps are spread."""
    min_confidence: float | None = None
    """Pixels with a lower probability after the CRF become the ignore index; None: the recipe's."""
    save_cams: bool = False
    """Whether a CLIP's activation maps are written too, as CLIP-ES's program does."""
    head: Path | None = None
    """What corrected masks taught (`tagmask improve`), for seeds from a CLIP."""
    device: str = "auto"
    """For these networks, as `tagmask.load` takes it."""

    def __post_init__(self) -> None:
        if not self.uses_clip and self.head is not None:
            raise InputError(
                "--head corrects the scores of a CLIP. Give no --cams, --masks or --method mctformer."
            )
        if not self.uses_clip and self.save_cams:
            raise InputError(
                "--save-cams writes CLIP-ES's activation maps. Give no --cams, --masks or --method mctformer."
            )
        if self.min_confidence is not None and (self.masks is not None or self.mctformer is not None):
            raise InputError(f"{_NEEDS_CRF} Give it with CLIP or --cams only.")
        if self.cams is not None and self.masks is not None:
            raise InputError("--cams and --masks exclude each other. Give only one of them.")
        others = (self.cams, self.masks, self.recipe)
        if self.mctformer is not None and any(each is not None for each in others):
            raise InputError("MCTformer's seeds need no --cams, --masks or --recipe. Leave them out.")
        if self.mctformer is not None:
            if self.tags_file is None:
                raise InputError("MCTformer maps the tags that an image has. Give them: --tags-file FILE.")
            if self.affinity is not None and self.truth is not None:
                raise InputError("With --affinity the background's score is not chosen. Leave out --truth.")
            return
        if self.affinity is not None:
            raise InputError("--affinity refines the maps of an MCTformer. Give --method mctformer too.")
        if self.cams is None and (self.threshold is not None or self.truth is not None):
            raise InputError("--threshold and --truth need activation maps. Give --cams DIR too.")
        if self.uses_clip:
            return
        if self.masks is not None and self._refined:
            raise InputError("Existing masks are copied as they are. Leave out --refine.")
        if self.recipe is not None or self.words is None:
            raise InputError(
                "Masks and activation maps have no class names. Name the classes in order: -w cat -w dog."
            )
        if self.cams is not None:
            self._check_cams()

    def _check_cams(self) -> None:
        crf, thresholds = self.settings.get("crf"), (self.threshold, self.truth)
        if self._refined and crf is None:
            raise InputError("Activation maps are refined by a CRF only. Give --refine crf, or no --refine.")
        if crf is None and self.min_confidence is not None:
            raise InputError(f"{_NEEDS_CRF} Give --refine crf too.")
        if crf is not None and thresholds != (None, None):
            raise InputError(
                "With --refine crf the background is 1 - the highest map. Leave out --threshold and --truth."
            )
        if crf is None and thresholds == (None, None):
            raise InputError(
                "Activation maps need a threshold. Give --threshold T, or --truth DIR to choose it. "
                "CLIP-ES's is 0.5."
            )

    @property
    def _refined(self) -> bool:
        steps = self.settings.get("pamr_steps"), self.settings.get("tlp_steps")
        return self.settings.get("crf") is not None or any(steps)

    @property
    def uses_clip(self) -> bool:
        """Whether a CLIP computes the seeds."""
        return self.cams is None and self.masks is None and self.mctformer is None
