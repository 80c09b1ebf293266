"""Settings of FreeCP's purification (`papers.freecp`), for any dense method."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import ClassVar

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError

__all__ = ["PURIFY", "PurifySettings", "check_purify_settings", "deciding_settings"]

PURIFY = ("off", "scores", "tags")
"""Values of `purify`."""

_REPLACED = ("prob_thd", "area_thd")
"""Settings of the labels that purification does without."""


@dataclass(frozen=True, kw_only=True)
class PurifySettings:
    """Which words of an image are dropped; the thresholds are those of the authors for PASCAL VOC."""

    PURIFY_QUIRKS: ClassVar[tuple[str, ...]] = (
        "purify_half_block",
        "purify_first_head",
        "purify_first_class",
    )
    """Settings that are True as published; the default is False."""

    purify: str | bool = "off"
    """Drop words of which there is no trace in the image. "scores": those whose map does not survive
    propagation, and all but one of those that share a region; "tags": the same, with TagCLIP's scores (this
    project's combination); "off". True is "scores", False is "off"."""
    redundancy: float = 0.15
    """A word stays if the agreement of its map with its propagated map (0..0.5) exceeds this."""
    overlap: float = 0.8
    """Words whose maps overlap at least this much (0..1) are one group, among which crops decide."""
    purify_scope: str = "window"
    """Redundancy is decided for each "window", as published, or once for the "image", by the best window."""
    purify_tag_low: float = 0.2
    """With "tags": words whose tag score is below it are dropped. 0 is the image's lowest score, 1 its
    highest."""
    purify_tag_high: float = 0.8
    """With "tags": words whose tag score is at least this are not redundant."""
    purify_half_block: bool = False
    """As coded: a base with residual and MLP loses the residual, y + MLP(y) of the attention's output y."""
    purify_first_head: bool = False
    """As coded: maps of GEM are propagated with the attention of the first head, not with the heads' mean."""
    purify_first_class: bool = False
    """As coded: without a background, pixels where all words were dropped get the first word."""

    def __post_init__(self) -> None:
        if isinstance(self.purify, bool):
            object.__setattr__(self, "purify", "scores" if self.purify else "off")
        check_choice("purify", self.purify, PURIFY)
        check_choice("purify_scope", self.purify_scope, ("window", "image"))
        check_number("redundancy", self.redundancy, 0, 1)
        check_number("overlap", self.overlap, 0, 1)
        check_number("purify_tag_low", self.purify_tag_low, 0, 1)
        check_number("purify_tag_high", self.purify_tag_high, self.purify_tag_low)

    @property
    def purifies(self) -> bool:
        """Whether words are dropped."""
        return self.purify != "off"


_DEFAULTS = MappingProxyType({field.name: field.default for field in fields(PurifySettings)})


def deciding_settings(flat: Mapping[str, object]) -> dict[str, object]:
    """Return a recipe's settings by name, without those of purification if it is off: they decide nothing."""
    if flat["purify"] != "off":
        return dict(flat)
    return {name: value for name, value in flat.items() if name not in _DEFAULTS}


def check_purify_settings(recipe: object, overrides: Mapping[str, object]) -> None:
    """Refuse settings that have no effect: of a purification that is off, or that purification replaces.

    Args:
        recipe: with these settings.
        overrides: the settings that were given, by name.

    Raises:
        InputError: such a setting is given.
    """
    if not isinstance(recipe, PurifySettings):
        return
    if recipe.purifies:
        names = [name for name in _REPLACED if overrides.get(name)]
        if names:
            raise InputError(
                f"{names[0]} (--threshold) has no effect with purify, which drops words by their maps. "
                "Leave it out, or give redundancy=, the score that a word must exceed (0 to 0.5)."
                if names[0] == "prob_thd"
                else f"{names[0]} has no effect with purify. Leave it out."
            )
        return
    names = [name for name in overrides if name in _DEFAULTS and name != "purify"]
    if names and not set(names) <= set(PurifySettings.PURIFY_QUIRKS):
        raise InputError(f"{names[0]} has no effect without purify. Give purify=True too.")
