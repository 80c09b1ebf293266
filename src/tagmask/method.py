"""What a method is: how it runs, which settings it takes, where it comes from.

Each method says so at the end of its own file, in `variants/` or `papers/`; `catalogue` lists them all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tagmask.dense.rule import DenseRule, RuleFactory, VariantSettings

__all__ = ["GIVES", "Method", "OwnWords", "dense_method"]

GIVES = {
    "dense": "masks",
    "tag_first": "masks",
    "tagclip": "tags",
    "one_pass": "tags",
    "sparc": "tags",
    "piaa": "tags",
}
"""What comes of each kind of method."""

Score = Callable[..., object]
"""(clip, pixels, text features, settings) -> (b, q) scores: how a `one_pass` method tags."""


@dataclass(frozen=True, kw_only=True)
class OwnWords:
    """What a method that tags takes where a user gives words and no recipe."""

    templates: str | tuple[str, ...] = "prompts_tag85"
    """Sentences, or the name of a list of them (`settings.words`)."""
    background: bool = False
    """The words compete with background names unless the caller says otherwise."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The method's own numbers, where others than for data sets."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One line of the catalogue."""

    name: str
    kind: str
    """How it runs: a key of `GIVES`, and of `pipelines.MASK_PIPELINES` or `pipelines.TAG_PIPELINES`."""
    summary: str
    source: str
    settings: type = VariantSettings
    """Class of its own numbers, `recipe.variant`."""
    preset: Mapping[str, object] = field(default_factory=dict)
    """Values of these that make it this method."""
    rule: DenseRule | RuleFactory | None = None
    """Of a dense method: its rule, or the function that makes it from settings and the number of layers."""
    score: Score | None = None
    """Of a `one_pass` method."""
    own_words: OwnWords | None = None
    adapts: bool = False
    """It needs a set of images before it can tag any."""
    large: str = ""
    """What is published of it on ViT-L/14, where that is below ViT-B/16."""
    check: Callable[..., None] | None = None
    """(settings, vision): refuses settings that do not fit the weights, where a method has such."""

    @property
    def quirks(self) -> tuple[str, ...]:
        """Its settings that are True as published and False as corrected."""
        return getattr(self.settings, "QUIRKS", ())

    @property
    def gives(self) -> str:
        """What comes of it: "masks" or "tags"."""
        return GIVES[self.kind]

    def default_settings(self) -> Any:  # noqa: ANN401  # its own class
        """Its own numbers where nothing else is known."""
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
    """A method that compares words with every pixel; arguments as `Method`'s fields."""
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
