"""The papers' tables: every figure, where it is from, and the recipe that should give it.

The figures are data (`figures/*.toml`). Whether a figure can be run is found out when it is asked: its recipe
must be one that this version has, with settings that the recipe takes. Otherwise it is cited.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, cast

from tagmask.bench.metrics import Average
from tagmask.bench.protocol import Protocol, made_recipe
from tagmask.errors import InputError
from tagmask.resolve import recipes
from tagmask.settings.parse import parse_assignments

__all__ = [
    "Cell",
    "Column",
    "Table",
    "all_tables",
    "cells",
    "protocol_of",
    "published",
    "reference_column",
    "table",
]


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a figure is measured on."""

    key: str
    label: str
    metric: str
    data: str | None = None
    """The data set; None where the figure is cited only."""
    split: str | None = None
    recipe: str = ""
    """What stands for the data set in the recipes' names."""
    average: Average = "union"
    groups: str | None = None
    labelled: bool = False
    """Images in which no class is present are left out."""
    images: int | None = None
    """How many the papers' list has, where that is settled."""
    needs: str = ""
    """For people."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of one table."""

    table: str
    row: str
    column: Column
    figure: float | None
    """As printed, mostly percent; None where our sources do not hold it."""
    source: str
    """[paper], [readme], [fig] (off a picture), [recalled] (from memory), [seed] (notes on the paper), ..."""
    recipe: str | None
    """Name of the recipe that should give it, whether or not this version has it."""
    settings: tuple[str, ...]
    """Changes to the recipe, FIELD=VALUE."""
    note: str

    @property
    def command(self) -> str | None:
        """What to type after `tagmask bench`; None where the figure is cited only."""
        if protocol_of(self) is None:
            return None
        return " ".join(["run", str(self.recipe), *(f"--set {setting}" for setting in self.settings)])


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of one paper."""

    name: str
    title: str
    paper: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: tuple[Cell, ...]
    """Row by row; a place without a figure is there if a recipe is named that should give it."""


@cache
def all_tables() -> Mapping[str, Table]:
    """Every table by name."""
    columns = {key: _column(key, said) for key, said in _toml("columns.toml").items()}
    tables: dict[str, Table] = {}
    for file in sorted(entry.name for entry in (resources.files(__package__) / "figures").iterdir()):
        if file.endswith(".toml") and file != "columns.toml":
            paper = _toml(file)
            for said in paper["table"]:
                tables[said["name"]] = _table(said, paper["paper"], columns)
    return MappingProxyType(tables)


def table(name: str) -> Table:
    """The table called `name`.

    Raises:
        InputError: no such table.
    """
    known = all_tables()
    if name not in known:
        near = get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"table {name!r} is unknown; {hint}the tables are {', '.join(known)}")
    return known[name]


def cells(pattern: str | None = None) -> Iterator[Cell]:
    """Every figure, or those whose table, row, column or recipe holds `pattern` (with * and ?).

    Where our sources hold no figure, the cell is there if it can be measured.
    """
    for each in all_tables().values():
        for cell in each.cells:
            told = (cell.table, cell.row, cell.column.key, cell.column.label, cell.recipe or "")
            fits = pattern is None or any(fnmatchcase(t.casefold(), f"*{pattern.casefold()}*") for t in told)
            if fits and (cell.figure is not None or protocol_of(cell) is not None):
                yield cell


@cache
def protocol_of(cell: Cell) -> Protocol | None:
    """How this version would measure a figure; None if it cannot."""
    column = cell.column
    if cell.recipe is None or column.data is None or cell.recipe not in recipes():
        return None
    try:
        return Protocol(
            recipe=made_recipe(cell.recipe, parse_assignments(cell.settings)),
            metric=column.metric,
            average=column.average,
            groups=column.groups,
        )
    except InputError:  # a method or a setting of a later version, or another kind of recipe
        return None


def reference_column(recipe: str) -> Column | None:
    """What the papers measure a recipe on; None if no table has it."""
    found = [cell.column for cell in cells() if cell.recipe == recipe and protocol_of(cell) is not None]
    return min(found, key=lambda column: column.metric not in ("miou", "map"), default=None)


def published(protocol: Protocol, data: str, split: str | None) -> list[Cell]:
    """All figures that were made as `protocol` says, whatever the metric."""
    return [
        cell
        for cell in cells()
        if cell.figure is not None
        and (cell.column.data, cell.column.split) == (data, split)
        and (own := protocol_of(cell)) is not None
        and _unnamed(own) == _unnamed(protocol)
    ]


def _unnamed(protocol: Protocol) -> Protocol:
    """What counts when two protocols are compared: not what the recipe is called, nor which score is read."""
    recipe = replace(protocol.recipe, name="")
    return replace(protocol, recipe=recipe, metric="map" if protocol.tags else "miou")


def _toml(file: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / "figures" / file).read_text(encoding="utf-8"))


def _column(key: str, said: Mapping[str, Any]) -> Column:
    return Column(key=key, **{"recipe": said.get("data", ""), **said})


def _table(said: Mapping[str, Any], paper: str, known: Mapping[str, Column]) -> Table:
    columns = tuple(known[key] for key in said["columns"])
    made = [cell for row in said["rows"] for cell in _row(row, said, columns)]
    return Table(
        name=said["name"],
        title=said["title"],
        paper=paper,
        columns=columns,
        rows=tuple(row["row"] for row in said["rows"]),
        cells=tuple(made),
    )


def _row(row: Mapping[str, Any], said: Mapping[str, Any], columns: tuple[Column, ...]) -> Iterator[Cell]:
    for column, figure in zip(columns, row["figures"], strict=True):
        template = cast("str | None", _by_metric(row.get("recipe"), column.metric))
        settings = cast("list[str] | None", _by_metric(row.get("set"), column.metric))
        runs = template is not None and column.data is not None
        if figure == "-" and not runs:
            continue
        yield Cell(
            table=said["name"],
            row=row["row"],
            column=column,
            figure=None if figure == "-" else float(figure),
            source=row.get("source", said["source"]),
            recipe=template.format(column.recipe) if template and runs else None,
            settings=tuple(settings or ()),
            note=row.get("note", ""),
        )


def _by_metric(said: object, metric: str) -> object:
    """What a row says for all its columns, or for those of one metric."""
    return said.get(metric) if isinstance(said, dict) else said
