"""The description of a method: how it runs, which settings it takes, where it comes from.

Each method is described at the end of its own file, in `variants/` or `papers/`; `catalogue` lists them all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tagmask.dense.rule import DenseRule, RuleFactory, VariantSettings

__all__ = ["BEHAVIOURS", "GIVES", "Method", "OwnWords", "dense_method"]

GIVES = {
    "dense": "masks",
    "tag_first": "masks",
    "tagclip": "tags",
    "one_pass": "tags",
    "freecp": "tags",
    "sparc": "tags",
    "piaa": "tags",
}
"""Whether each kind of method gives masks or tags."""

BEHAVIOURS = ("published", "corrected", "printed")
"""Values of `as_`: as coded by the authors; without what looks unintended in their code; with the paper's
formulas where the code differs from them (TagCLIP; elsewhere the same as published)."""

Score = Callable[..., object]
"""Scoring function of a `one_pass` method: (clip, pixels, text features, settings) -> scores (b, q)."""


@dataclass(frozen=True, kw_only=True)
class OwnWords:
    """Defaults of a tagging method when the user gives words and no recipe."""

    templates: str | tuple[str, ...] = "prompts_tag85"
    """Prompt templates, or the name of a list of them (`settings.words`)."""
    background: bool = False
    """Whether the words compete with background texts by default."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings that differ from those for data sets."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method, as the catalogue lists it."""

    name: str
    kind: str
    """Which pipeline runs it: a key of `GIVES`, and of `pipelines.MASK_PIPELINES` or `TAG_PIPELINES`."""
    summary: str
    source: str
    settings: type = VariantSettings
    """Its settings class, the type of `recipe.variant`."""
    preset: Mapping[str, object] = field(default_factory=dict)
    """Settings values that define this method."""
    rule: DenseRule | RuleFactory | None = None
    """Dense methods only: the rule, or a function (settings, number of layers) -> rule."""
    score: Score | None = None
    """`one_pass` methods only: the scoring function."""
    own_words: OwnWords | None = None
    """Tagging methods only: the defaults for a user's words."""
    adapts: bool = False
    """Whether it must see a set of images before it can tag any."""
    large: str = ""
    """Published results with ViT-L/14, if they are below those with ViT-B/16."""
    check: Callable[..., None] | None = None
    """(settings, vision): raises InputError if the settings do not fit the weights."""

    @property
    def quirks(self) -> tuple[str, ...]:
        """Names of its settings that are True as published and False as corrected."""
        return getattr(self.settings, "QUIRKS", ())

    @property
    def printed(self) -> Mapping[str, object]:
        """Settings with the formulas as printed, where the authors' code differs from their paper."""
        return getattr(self.settings, "PRINTED", {})

    def behaviour(self, as_: str) -> dict[str, object]:
        """Values of its settings for one of `BEHAVIOURS`; settings that no behaviour changes are left out."""
        coded = self.default_settings()
        formulas = {name: getattr(coded, name) for name in self.printed}
        quirks = dict.fromkeys(self.quirks, as_ != "corrected")
        return {**formulas, **quirks, **(self.printed if as_ == "printed" else {})}

    @property
    def gives(self) -> str:
        """What it gives: "masks" or "tags"."""
        return GIVES[self.kind]

    def default_settings(self) -> Any:  # noqa: ANN401  # its settings class
        """Return its default settings."""
        return self.settings(**self.preset)


def dense_method(
    name: str,
    rule: DenseRule | RuleFactory,
    summary: str,
    source: str,
    *,
    settings: type[VariantSettings] = VariantSettings,
    large: str = "",
    check: Callable[..., None] | None = None,
) -> Method:
    """Describe a dense method: one that compares words with every pixel. Arguments as `Method`'s fields."""
    return Method(
        name=name,
        kind="dense",
        rule=rule,
        summary=summary,
        source=source,
        large=large,
        settings=settings,
        check=check,
    )
