"""Every method by name. Each is described at the end of its own file and listed here.

Only two other places know methods: `pipelines` runs each kind, and presets (`settings.presets`) name them.
"""

import re
from collections.abc import Callable
from typing import cast

from tagmask.checks import did_you_mean, shown
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, RuleFactory, VariantSettings
from tagmask.errors import InputError
from tagmask.method import Method
from tagmask.papers import (
    clip_es,
    clip_surgery_tags,
    clip_tags,
    cls_seg,
    dpt,
    freecp,
    piaa,
    sparc,
    tagclip,
)
from tagmask.plugins import load_installed
from tagmask.settings.recipes import Recipe
from tagmask.types import Attention
from tagmask.variants import (
    clearclip,
    clip,
    clip_surgery,
    combinations,
    gem,
    learned,
    maskclip,
    naclip,
    pearl,
    resclip,
    sc_clip,
    sclip,
    sfp,
)

__all__ = [
    "dense_rule",
    "describe_methods",
    "method",
    "method_names",
    "method_of",
    "register_method",
    "registered_methods",
]

_MODULES = (
    clip,
    maskclip,
    sclip,
    learned,
    clip_surgery,
    gem,
    clearclip,
    naclip,
    resclip,
    sc_clip,
    sfp,
    pearl,
    combinations,
    cls_seg,
    clip_es,
    clip_tags,
    clip_surgery_tags,
    dpt,
    tagclip,
    freecp,
    sparc,
    piaa,
)
"""In the order of `tagmask methods`: those that give masks, then those that give tags."""

_BUILT_IN = {(each.gives, each.name): each for module in _MODULES for each in module.METHODS}
_REGISTERED: dict[tuple[str, str], Method] = {}
"""Methods added by `register_method`, until the process ends."""


def method(name: object, gives: str) -> Method:
    """Return the method called `name` that gives "masks" or "tags".

    Raises:
        InputError: no such method.
    """
    key = gives, str(name)
    found = _BUILT_IN.get(key) or _REGISTERED.get(key)
    if found is None:
        load_installed()
        found = _REGISTERED.get(key)
    if found is None:
        known = method_names(gives)
        other = "masks" if gives == "tags" else "tags"
        if str(name) in method_names(other):
            raise InputError(f"Method {name!r} gives {other}, not {gives}. See `tagmask methods`.")
        raise InputError(
            f"Unknown method {shown(name)}.{did_you_mean(name, known, 1)} See `tagmask methods`."
        )
    return found


def method_of(recipe: Recipe) -> Method:
    """Return the method of a recipe."""
    return method(recipe.method, recipe.gives)


def method_names(gives: str) -> tuple[str, ...]:
    """Return the names of all methods that give "masks" or "tags"."""
    return tuple(name for kind, name in (*_BUILT_IN, *_REGISTERED) if kind == gives)


def registered_methods() -> tuple[str, ...]:
    """Return the names of the methods that a user has registered."""
    load_installed()
    return tuple(name for _, name in _REGISTERED)


def describe_methods() -> dict[str, str]:
    """Describe every method in one line: what it gives (masks or tags), what it does, its source.

    Returns:
        A line per name, such as "masks: ... (SCLIP, ECCV 2024)".
    """
    load_installed()
    lines: dict[str, str] = {}
    for each in (*_BUILT_IN.values(), *_REGISTERED.values()):
        line = f"{each.gives}: {each.summary} ({each.source})"
        lines[each.name] = f"{lines[each.name]}; {line}" if each.name in lines else line
    return lines


def dense_rule(name: str, depth: int, settings: VariantSettings | None = None) -> DenseRule:
    """Return the rule of a dense method: what its last block computes.

    Args:
        name: of the method.
        depth: number of layers of the image tower.
        settings: the method's settings; None for its defaults.

    Raises:
        InputError: no such method, or not a dense one.
    """
    found = method(name, "masks")
    if found.rule is None:
        raise InputError(f"Method {name!r} masks tags and has no attention to vary. Give a dense method.")
    if isinstance(found.rule, DenseRule):
        return found.rule
    return found.rule(found.default_settings() if settings is None else settings, depth)


Attend = Callable[[TowerFeatures], Attention | None]
"""From the tower's features before its last block to attention weights (b, heads, n, n)."""


def register_method(
    name: str,
    rule: Attend | DenseRule | RuleFactory,
    *,
    settings: type[VariantSettings] | None = None,
    summary: str = "custom method",
    source: str = "registered with tagmask.register_method",
) -> None:
    """Add a dense method of your own: `method=name` then works wherever a built-in one does.

    Args:
        name: lower-case letters, digits and hyphens; not the name of a built-in method. A method that was
            registered under this name is replaced.
        rule: a function from the tower's features before its last block to the attention weights of the
            last block (b, heads, n, n); or a `DenseRule`, which can change more of the block; or, with
            `settings`, a function (settings, number of layers) -> `DenseRule`.
        settings: its settings class, a frozen dataclass; each field can then be overridden by name.
        summary: a line for `tagmask methods`.
        source: where it comes from, such as a paper.

    Raises:
        InputError: an invalid name, or that of a built-in method.

    Example:
        >>> from tagmask.dense.rule import affinity
        >>> register_method("value-value", lambda x: affinity(x.v, x.v))
        >>> method("value-value", "masks").summary
        'custom method'
    """
    if ("masks", name) in _BUILT_IN:
        raise InputError(f"Method {name!r} is built in. Register yours under another name.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise InputError(f"Invalid method name {name!r}. Use lower-case letters, digits and hyphens.")
    if settings is None and not isinstance(rule, DenseRule):
        rule = DenseRule(cast(Attend, rule))
    _REGISTERED["masks", name] = Method(
        name=name,
        kind="dense",
        rule=cast("DenseRule | RuleFactory", rule),
        summary=summary,
        source=source,
        settings=settings or VariantSettings,
    )
