"""The papers' tables: every published figure, its source, and the recipe that should reproduce it.

The figures are data (`figures/*.toml`). A figure can be run if this version has its recipe and the recipe has
the settings; this is checked on demand. Otherwise the figure is only cited.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, cast

from tagmask.bench.metrics import Average
from tagmask.bench.protocol import Protocol, made_recipe, recipe_names
from tagmask.bench.trained import TRAINED, ModelFile
from tagmask.checks import did_you_mean, shown
from tagmask.errors import InputError
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
    "trained_as",
]


_TRAINED_METHODS = frozenset(recipe.method for recipe in TRAINED.values())


@dataclass(frozen=True, kw_only=True)
class Column:
    """The data and metric of a figure."""

    key: str
    label: str
    metric: str
    data: str | None = None
    """The data set; None if the figure is only cited."""
    split: str | None = None
    recipe: str = ""
    """The data set's part of the recipes' names."""
    average: Average = "union"
    groups: str | None = None
    labelled: bool = False
    """Whether images without any class are left out."""
    images: int | None = None
    """Number of images in the papers' list, if known."""
    trained: bool = False
    """Whether trained networks are scored (`trained.TRAINED`), not a CLIP."""
    server: bool = False
    """Whether only the data set's server can score it."""
    needs: str = ""
    """The data that a user needs, as text."""
    mean: tuple[str, ...] = ()
    """Columns whose mean the figure is, if it is computed from other runs."""
    gain: str | None = None
    """"pamr": the figure is the gain of that mean by PAMR; "over": its gain over the row's `over`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of one table."""

    table: str
    row: str
    column: Column
    figure: float | None
    """As printed, mostly percent; None if it is not in our sources."""
    source: str
    """[paper], [readme], [fig] (read from an image of a table), [unverified], ...; see docs/benchmarks.md."""
    recipe: str | None
    """Name of the recipe that should reproduce it, whether or not this version has it."""
    settings: tuple[str, ...]
    """Overridden settings of the recipe, FIELD=VALUE."""
    note: str
    training: tuple[str, ...] = ()
    """Settings with which the scored network must have been trained, KEY=VALUE."""
    other_command: str | None = None
    """The command that gives the figure, where that is not a run of a recipe."""
    plus: "tuple[Cell, ...]" = ()
    """Runs whose mean score the figure is, if it is computed from runs (`bench.derived`)."""
    minus: "tuple[Cell, ...]" = ()
    """Runs whose mean score is subtracted from that; empty for none."""

    @property
    def verified(self) -> bool:
        """Whether the figure was checked against its source; else nothing is subtracted from it."""
        return self.source != "[unverified]"

    @property
    def command(self) -> str | None:
        """The arguments of `tagmask bench`, or a whole command; None if the figure is only cited."""
        if self.plus and all(protocol_of(part) is not None for part in (*self.plus, *self.minus)):
            return f"table {self.table}"
        if protocol_of(self) is None:
            return self.other_command
        model = ["--model MODEL"] if self.recipe in TRAINED else []
        server = [f"--split {self.column.split} --submission FILE.tar"] if self.column.server else []
        return " ".join(
            ["run", str(self.recipe), *model, *server, *(f"--set {setting}" for setting in self.settings)]
        )


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of one paper."""

    name: str
    title: str
    paper: str
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    cells: tuple[Cell, ...]
    """Row by row. A cell without a figure is kept if it names a recipe."""


@cache
def all_tables() -> Mapping[str, Table]:
    """Return all tables by name."""
    columns = {key: _column(key, entry) for key, entry in _toml("columns.toml").items()}
    tables: dict[str, Table] = {}
    for file in sorted(entry.name for entry in (resources.files(__package__) / "figures").iterdir()):
        if file.endswith(".toml") and file != "columns.toml":
            paper = _toml(file)
            for entry in paper["table"]:
                tables[entry["name"]] = _table(entry, paper["paper"], columns)
    return MappingProxyType(tables)


def table(name: str) -> Table:
    """Return the table called `name`.

    Raises:
        InputError: an unknown table.
    """
    known = all_tables()
    if name not in known:
        raise InputError(f"Unknown table {shown(name)}.{did_you_mean(name, known)} See `tagmask bench list`.")
    return known[name]


def cells(pattern: str | None = None) -> Iterator[Cell]:
    """Yield every figure, or those whose table, row, column or recipe contains `pattern` (with * and ?).

    A cell without a published figure is included if it can be run.
    """
    for each in all_tables().values():
        for cell in each.cells:
            texts = (cell.table, cell.row, cell.column.key, cell.column.label, cell.recipe or "")
            matches = pattern is None or any(
                fnmatchcase(t.casefold(), f"*{pattern.casefold()}*") for t in texts
            )
            if matches and (cell.figure is not None or cell.command is not None):
                yield cell


@cache
def protocol_of(cell: Cell) -> Protocol | None:
    """Return the protocol that measures a figure; None if this version cannot run it."""
    column = cell.column
    if cell.recipe is None or column.data is None or cell.recipe not in recipe_names():
        return None
    try:
        return Protocol(
            recipe=made_recipe(cell.recipe, parse_assignments(cell.settings)),
            metric=column.metric,
            average=column.average,
            groups=column.groups,
        )
    except InputError:  # unknown method or setting, or a metric of the other kind of recipe
        return None


def reference_column(recipe: str) -> Column | None:
    """Return the column in which the papers report a recipe; None if no table has it."""
    columns = [cell.column for cell in cells() if cell.recipe == recipe and protocol_of(cell) is not None]
    return min(columns, key=lambda column: column.metric not in ("miou", "map"), default=None)


def published(protocol: Protocol, data: str, split: str | None, model: ModelFile | None = None) -> list[Cell]:
    """Return all published figures with the same protocol, in any metric.

    Args:
        protocol: of a run.
        data: name of its data set.
        split: its split; None for the default.
        model: the trained network that was scored, if any; only figures of networks that were trained the
            same way are returned.
    """
    return [
        cell
        for cell in cells()
        if cell.figure is not None
        and (cell.column.data, cell.column.split) == (data, split)
        and (measured := protocol_of(cell)) is not None
        and _comparable(measured) == _comparable(protocol)
        and (model is None or trained_as(cell, model))
    ]


def trained_as(cell: Cell, model: ModelFile) -> bool:
    """Whether a network is known to be trained as the figure's."""
    return model.trained_with(parse_assignments(cell.training))


def _comparable(protocol: Protocol) -> Protocol:
    """The protocol without its recipe's name and metric, for comparison."""
    recipe = replace(protocol.recipe, name="")
    return replace(protocol, recipe=recipe, metric="map" if protocol.tags else "miou")


def _toml(file: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / "figures" / file).read_text(encoding="utf-8"))


def _column(key: str, entry: Mapping[str, Any]) -> Column:
    return Column(key=key, **{"recipe": entry.get("data", ""), **entry, "mean": tuple(entry.get("mean", ()))})


def _table(entry: Mapping[str, Any], paper: str, known: Mapping[str, Column]) -> Table:
    columns = tuple(known[key] for key in entry["columns"])
    cells_of_rows = [cell for row in entry["rows"] for cell in _row(row, entry, columns, known)]
    return Table(
        name=entry["name"],
        title=entry["title"],
        paper=paper,
        columns=columns,
        rows=tuple(row["row"] for row in entry["rows"]),
        cells=tuple(cells_of_rows),
    )


def _row(
    row: Mapping[str, Any], entry: Mapping[str, Any], columns: tuple[Column, ...], known: Mapping[str, Column]
) -> Iterator[Cell]:
    figures = row.get("figures", ["-"] * len(columns))
    for column, figure in zip(columns, figures, strict=True):
        template = cast("str | None", _of_column(row.get("recipe"), column))
        settings = cast("list[str] | None", _of_column(row.get("set"), column))
        runs = template is not None and column.data is not None
        runs = runs and (str(template).partition("/")[0] in _TRAINED_METHODS) == column.trained
        plus, minus = _parts(row, entry, column, known)
        if figure == "-" and not runs and not plus:
            continue
        yield Cell(
            table=entry["name"],
            row=row["row"],
            column=column,
            figure=None if figure == "-" else float(figure),
            source=row.get("source", entry["source"]),
            recipe=template.format(column.recipe) if template and runs else None,
            settings=tuple(setting.replace("{}", column.recipe) for setting in settings or ()),
            note=row.get("note", ""),
            training=tuple(cast("list[str] | None", _of_column(row.get("training"), column)) or ()),
            other_command=cast("str | None", _of_column(row.get("command"), column)),
            plus=plus,
            minus=minus,
        )


def _parts(
    row: Mapping[str, Any], entry: Mapping[str, Any], column: Column, known: Mapping[str, Column]
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The runs that a computed figure adds and subtracts; none if the column's figures are not computed."""
    recipe = row.get("recipe")
    if not column.mean or not isinstance(recipe, str) or (column.gain == "over" and "over" not in row):
        return (), ()
    columns = tuple(known[key] for key in column.mean)
    same = {"row": row["row"], "set": row.get("set")}
    refined = recipe.replace("/", "+pamr/") if column.gain == "pamr" else recipe
    plus = tuple(_row({**same, "recipe": refined}, entry, columns, known))
    if column.gain == "pamr":
        return plus, tuple(_row({**same, "recipe": recipe}, entry, columns, known))
    if column.gain == "over":
        return plus, tuple(_row({**same, "recipe": recipe, "set": row["over"]}, entry, columns, known))
    return plus, ()


def _of_column(value: object, column: Column) -> object:
    """A row's value for one column, by its key or its metric; a row may give one value for all columns."""
    return value.get(column.key, value.get(column.metric)) if isinstance(value, dict) else value
