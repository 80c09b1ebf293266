"""Lists of the pages that follow from the catalogue."""

from collections.abc import Iterable
from dataclasses import fields

import tagmask
from benchmarks.figures.stamps import weights_hash
from benchmarks.figures.work import COUNT, PRECISION
from tagmask.catalogue import method, method_names
from tagmask.resolve import recipe

__all__ = ["ablations", "bundled_model", "recipes"]

DATASETS = (
    *("voc2007", "voc2012", "coco2014", "coco2017", "nus-wide"),
    *("voc21", "voc20", "context60", "context59", "coco-object", "coco-stuff", "cityscapes", "ade20k"),
)
"""The order of data sets in lists; others follow."""


def bundled_model() -> str:
    """Which weights, how many scenes and what precision the tables of docs/miniature.md have."""
    return (
        f"The tables are made with the bundled model `{weights_hash()}` (the first digits of its file's "
        f"SHA-256), on {COUNT}\nscenes, in {PRECISION}.\n"
    )


def recipes() -> str:
    """A table of all recipes: methods with the same data sets and suffixes share a row."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name in tagmask.recipes():
        full, _, dataset = name.partition("/")
        base, plus, suffix = full.partition("+")
        sets = found.setdefault((recipe(name).gives, base), {})
        sets.setdefault(plus + suffix, []).append(dataset)
    rows: dict[tuple[str, str, str], list[str]] = {}
    for (gives, base), by_suffix in found.items():
        alike: dict[str, list[str]] = {}
        for suffix, sets in by_suffix.items():
            alike.setdefault(", ".join(_ordered(sets)), []).append(suffix)
        for datasets, suffixes in alike.items():
            plain, *others = sorted(suffixes)
            also = ", ".join(f"`{suffix}`" for suffix in others)
            rows.setdefault((gives, also, datasets), []).append(f"`{base}{plain}`")
    lines = [
        f"| {gives} | {', '.join(names)} | {also} | {sets} |" for (gives, also, sets), names in rows.items()
    ]
    lines.sort(key=lambda line: line.startswith("| masks"))
    return _lines("| gives | METHOD | also with | DATASET |", "|---|---|---|---|", *lines)


def _ordered(sets: Iterable[str]) -> list[str]:
    return sorted(sets, key=lambda name: (DATASETS.index(name) if name in DATASETS else len(DATASETS), name))


def ablations() -> str:
    """A table of the dense methods that have no recipes of their own, with their own settings."""
    dense = [m for name in method_names("masks") if (m := method(name, "masks")).kind == "dense"]
    own = {name.partition("/")[0] for name in tagmask.recipes()}
    shared = {setting.name for m in dense if m.name in own for setting in fields(m.settings)}
    rows = []
    for m in dense:
        if m.name not in own:
            settings = ", ".join(f"`{s.name}`" for s in fields(m.settings) if s.name not in shared)
            rows.append(f"| `{m.name}` | {m.summary} | {settings} | {m.source} |")
    return _lines("| method | what it is | its settings | source |", "|---|---|---|---|", *rows)


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
