"""Training images, drawn once before training into two memory-mapped files.

Drawing during training would halve its speed on two cores. A *wide* image is a whole scene; a *close-up*, of
half its side, shows one or two large objects, or only a background.
"""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from tagmask.files import write_bytes
from tagmask.miniature.scenes import Content, Scene, VisibleObject, draw_scene, plan_scene
from tagmask.miniature.training.variation import varied
from tagmask.strict_json import json_text

__all__ = ["Bank", "close_scene", "open_bank", "wide_scene"]

SIDE = 224
CLOSE_SIDE = SIDE // 2
_CHUNK = 500


@dataclass(frozen=True, eq=False)
class Bank:
    """Images in memory-mapped files, and their contents."""

    wide: UInt8[ndarray, "n 224 224 3"]
    wide_contents: tuple[Content, ...]
    close: UInt8[ndarray, "m 112 112 3"]
    close_contents: tuple[Content, ...]


def wide_scene(seed: int) -> Scene:
    """Draw a whole scene: one large object in every fourth, else one to five objects."""
    if seed % 4 == 0:
        plan = plan_scene(seed, count=(1, 1), radius=(0.25, 0.5))
    else:
        plan = plan_scene(seed, count=(1, 5), radius=(0.13, 0.4))
    return draw_scene(plan, (SIDE, SIDE), varied)


def close_scene(seed: int) -> Scene:
    """Draw a close-up: one object in every other, else one to three; none in every tenth."""
    seed += 10**9  # no close-up repeats a wide scene
    if seed % 10 == 0:
        plan = plan_scene(seed, count=(0, 0))
    elif seed % 10 == 1:
        plan = plan_scene(seed, count=(1, 1), radius=(0.6, 1.1))
    elif seed % 2 == 0:
        plan = plan_scene(seed, count=(1, 1), radius=(0.25, 0.6))
    else:
        plan = plan_scene(seed, count=(1, 3), radius=(0.22, 0.5))
    return draw_scene(plan, (CLOSE_SIDE, CLOSE_SIDE), varied)


def open_bank(folder: Path, wide: int, close: int, workers: int = 2) -> Bank:
    """Open the bank in `folder`; images that are missing are drawn first."""
    folder.mkdir(parents=True, exist_ok=True)
    images, contents = {}, {}
    for name, draw, count, side in (
        ("wide", wide_scene, wide, SIDE),
        ("close", close_scene, close, CLOSE_SIDE),
    ):
        path = folder / f"{name}-{count}.npy"
        listing = path.with_suffix(".json")
        if not listing.is_file():
            contents_list = _draw_all(path, draw, count, side, workers)
            write_bytes(listing, json_text(contents_list).encode())
        images[name] = np.load(path, mmap_mode="r")
        contents[name] = _read_listing(listing)
    return Bank(images["wide"], contents["wide"], images["close"], contents["close"])


Entry = tuple[list[tuple[int, int, tuple[float, float]]], list[int]]


def _draw_all(path: Path, draw: Callable[[int], Scene], count: int, side: int, workers: int) -> list[Entry]:
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    entries: list[Entry] = []
    starts = range(0, count, _CHUNK)
    jobs = [(draw, first, min(first + _CHUNK, count)) for first in starts]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for first, (images, chunk) in zip(starts, pool.imap(_draw_chunk, jobs), strict=True):
            out[first : first + len(images)] = images
            entries += chunk
    out.flush()
    return entries


def _draw_chunk(
    job: tuple[Callable[[int], Scene], int, int],
) -> tuple[UInt8[ndarray, "n h w 3"], list[Entry]]:
    draw, first, stop = job
    scenes = [draw(seed) for seed in range(first, stop)]
    entries: list[Entry] = []
    for scene in scenes:
        content = scene.content
        entries.append(([(t.kind, t.colour, t.centre) for t in content.things], list(content.grounds)))
    return np.stack([scene.image for scene in scenes]), entries


def _read_listing(path: Path) -> tuple[Content, ...]:
    return tuple(
        Content(tuple(VisibleObject(kind, colour, (x, y)) for kind, colour, (x, y) in things), tuple(grounds))
        for things, grounds in json.loads(path.read_bytes())
    )
