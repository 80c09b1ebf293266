"""Hashes of what a figure depends on.

They are chosen so that a figure becomes stale when its values may have changed, and not with every change of
the code: the weights, the scenes, and every setting that is in use. See docs/architecture.md, "Figures in the
pages".
"""

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import cache
from importlib import resources

import numpy as np

from benchmarks.figures.blocks import digest
from benchmarks.world import ROWS, STYLES, world
from tagmask.bench.miniature.setups import Setup, recipe_of
from tagmask.miniature.evaluation_scenes import SIZES, single_object, unseen_scene
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS, plan_scene
from tagmask.report import ReportItem, render
from tagmask.results import Segmentation, Tags

__all__ = ["canonical", "drawings_hash", "page_hash", "scenes_hash", "settings_hash", "weights_hash"]

_DRAWN, _CELLS = 16, 4
"""Scenes that are drawn for the hash, and the number of cells along their sides."""


@cache
def weights_hash() -> str:
    """Hash the bundled model's file."""
    return digest((resources.files("tagmask.miniature") / "miniature.safetensors").read_bytes())


@cache
def scenes_hash() -> str:
    """Hash the test scenes: the plans of the first 100, and the colours of some of them as drawn.

    Of a drawn scene only the mean colours of 4 x 4 cells count, in whole grey levels: a changed drawing
    changes them, another rounding on another processor does not.
    """
    plans = [
        plan_scene(seed, split="test", aspect=SIZES[seed % len(SIZES)][1] / SIZES[seed % len(SIZES)][0])
        for seed in range(100)
    ]
    drawn = [*map(unseen_scene, range(_DRAWN)), *map(single_object, range(_DRAWN // 4))]
    cells = [_cells(scene.image) for scene in drawn]
    names = [*CLASS_NAMES, *BACKGROUND_NAMES, *COLOURS]
    return digest(canonical([[_plan(str(plan)) for plan in plans], cells, names]).encode())


@cache
def drawings_hash() -> str:
    """Hash the drawings of the classes, five styles each, by the mean colours of their tiles' quarters."""
    rows = np.array_split(np.asarray(world(), np.float64), 2 * ROWS)
    count = 2 * STYLES * len(CLASS_NAMES) // ROWS
    means = [cell.mean(axis=(0, 1)) for row in rows for cell in np.array_split(row, count, axis=1)]
    return digest(canonical([int(value) for value in np.round(np.concatenate(means))]).encode())


def _plan(text: str) -> str:
    """A plan with its numbers cut to six decimals."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


def _cells(image: np.ndarray) -> list[int]:
    """Mean colours of the image's cells, in whole grey levels."""
    rows = np.array_split(image.astype(np.float64), _CELLS)
    means = [cell.mean(axis=(0, 1)) for row in rows for cell in np.array_split(row, _CELLS, axis=1)]
    return [int(value) for value in np.round(np.concatenate(means))]


@cache
def settings_hash(setups: tuple[Setup, ...], *others: Hashable) -> str:
    """Hash the full recipes of setups, and anything else that decides a figure, such as labels and counts."""
    described = []
    for setup in setups:
        recipe = {name: value for name, value in recipe_of(setup).deciding().items() if name != "name"}
        # What the recipe does not hold: how the setup is run.
        changed = {
            f.name: getattr(setup, f.name) for f in fields(setup) if getattr(setup, f.name) != f.default
        }
        described.append([recipe, changed])
    return digest(canonical([described, others]).encode())


def canonical(value: object) -> str:
    """Write a value as JSON, with sorted keys and without settings that are off (None or False).

    So a new setting that is off by default makes no figure stale.

    Example:
        >>> canonical({"b": (1, 2.5), "a": None, "c": {"on": True, "off": False}})
        '{"b": [1, 2.5], "c": {"on": true}}'
    """
    return json.dumps(_without_off(value), sort_keys=True, ensure_ascii=False, default=str)


def _without_off(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _without_off(v) for k, v in value.items() if v is not None and v is not False}
    if isinstance(value, list | tuple):
        return [_without_off(v) for v in value]
    return value


@cache
def page_hash() -> str:
    """Hash the report page of one made-up image, without its pictures: layout, style and texts."""
    labels = np.zeros((8, 8), np.uint8)
    labels[:4] = 1
    masks = Segmentation(("background", "cat"), labels, None, True, "float32")
    tags = Tags(("cat",), np.array([0.5], np.float32), (0,), 0.25, "float32")
    item = ReportItem(
        "scene", np.zeros((8, 8, 3), np.uint8), tags, (("SCLIP", masks),), truth=masks, note="Note"
    )
    page = render("Title", "Lead", [item], {"Weights": "miniature"})
    return digest(re.sub(r"data:[^\"')]*", "", page).encode())
