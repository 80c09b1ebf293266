"""All figures that `make figures` makes, in the order in which it makes them."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import tagmask
from benchmarks.figures import lists
from benchmarks.figures.report_pictures import report_pictures
from benchmarks.figures.stamps import (
    drawings_hash,
    page_hash,
    scenes_hash,
    settings_hash,
    weights_hash,
)
from benchmarks.figures.work import COUNT, PRECISION, Work
from benchmarks.grid import METHODS, grid
from benchmarks.world import world
from tagmask.bench.miniature.printed import PRINTED, Printed
from tagmask.bench.miniature.setups import MaskSetup, TagSetup
from tagmask.bench.miniature.tables import CRF, PAMR

__all__ = ["FIGURES", "Figure", "Made", "by_name"]


@dataclass(frozen=True)
class Made:
    """A block's new content."""

    text: str
    """Whole lines; empty to keep the block's text, and change its pictures only."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Files of docs/images."""


@dataclass(frozen=True)
class Figure:
    """A generated table or picture."""

    name: str
    command: str
    """Makes it alone, or prints what it holds."""
    stamps: Callable[[], Mapping[str, str]]
    """Hashes of what its values depend on, by name: quick."""
    make: Callable[[Work], Made]
    quick: bool = False
    """Whether it is made in an instant, so that the tests compare its text with the page's."""


def by_name() -> Mapping[str, Figure]:
    """Return all figures by name."""
    return {figure.name: figure for figure in FIGURES}


# -- Tables of `tagmask bench miniature` ---------------------------------------------------------------------

_PICTURED = ("tagclip-2", "tagclip-layers", "sclip-1", "family", "tagclip-4-masks", "cls-seg")
"""Tables whose diagram is on the page too."""
_UNTITLED = ("taggers", "calibration", "claims")
"""Tables that stand below a heading of their page."""


def _table(part: Printed) -> Figure:
    picture = f"miniature-{part.name}.svg"
    pictured = part.name in _PICTURED and part.picture is not None

    def make(work: Work) -> Made:
        measured = work.measure(part.setups)
        lines = [] if part.name in _UNTITLED else [f"### {part.title}", ""]
        if pictured:
            lines += [f"![{part.title}](images/{picture})", ""]
        lines += part.lines(work.clip, measured)
        files = {picture: part.picture(measured).encode()} if pictured and part.picture else {}
        return Made("\n".join(lines).strip("\n") + "\n", files)

    def stamps() -> Mapping[str, str]:
        return {
            "weights": weights_hash(),
            "scenes": scenes_hash(),
            "settings": settings_hash(part.setups, part.title, part.labels, COUNT, PRECISION),
        }

    command = f"tagmask bench miniature --precision {PRECISION} --table {part.name}"
    return Figure(part.name, command + (" --pictures docs/images" if pictured else ""), stamps, make)


# -- Pictures ------------------------------------------------------------------------------------------------


def _world(work: Work) -> Made:
    file = io.BytesIO()
    world().save(file, "JPEG", quality=88, optimize=True)
    return Made("", {"world.jpg": file.getvalue()})


def _grid(work: Work) -> Made:
    file = io.BytesIO()
    grid(tagmask.load("miniature", device="cpu")).save(file, "JPEG", quality=84, optimize=True)
    return Made("", {"methods.jpg": file.getvalue()})


def _grid_stamps() -> Mapping[str, str]:
    settings = settings_hash(tuple(map(MaskSetup, METHODS)))
    return {"weights": weights_hash(), "scenes": scenes_hash(), "settings": settings}


_DEMO = (
    TagSetup(),
    MaskSetup("sclip"),
    MaskSetup("sclip", PAMR),
    MaskSetup("cls-seg"),
    MaskSetup("cls-seg", CRF),
)
"""The setups of `tagmask demo`."""


def _report_stamps() -> Mapping[str, str]:
    return {
        "weights": weights_hash(),
        "scenes": scenes_hash(),
        "settings": settings_hash(_DEMO),
        "page": page_hash(),
    }


def _report(name: str) -> Figure:
    def make(work: Work) -> Made:
        return Made("", {f"{name}.png": report_pictures(name)})

    return Figure(name, "tagmask demo", _report_stamps, make)


# -- Lists ---------------------------------------------------------------------------------------------------


def _list(name: str, command: str, text: Callable[[], str]) -> Figure:
    return Figure(name, command, dict, lambda work: Made(text()), quick=True)


def _all() -> Iterator[Figure]:
    yield _list("bundled-model", "tagmask weights check miniature", lists.bundled_model)
    yield _list("recipes", "tagmask recipes", lists.recipes)
    yield _list("ablations", "tagmask methods", lists.ablations)
    yield Figure("world", "python -m benchmarks.world", lambda: {"drawings": drawings_hash()}, _world)
    yield Figure("methods", "python -m benchmarks.grid", _grid_stamps, _grid)
    yield _report("report")
    yield _report("report-phone")
    yield from map(_table, PRINTED)


FIGURES: tuple[Figure, ...] = tuple(_all())
