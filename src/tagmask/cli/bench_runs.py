"""What `tagmask bench run` and `tagmask bench table` do, write and print."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import typer

from tagmask.bench.benchmark_run import Run, describe_run, other_weights, run_benchmark
from tagmask.bench.catalogue import Cell, Column, Table, protocol_of, published, reference_column
from tagmask.bench.journal import Record
from tagmask.bench.pages import Comparison, RunReport, compare_with_published, headline, write_pages
from tagmask.bench.protocol import Protocol, made_recipe
from tagmask.bench.summary import Summary
from tagmask.bench.table_page import table_page, table_record
from tagmask.catalogue import method_of
from tagmask.cli.console import message, report_if_stopped, with_progress
from tagmask.cli.options import Refine
from tagmask.clip.load import Clip
from tagmask.data.catalogue import open_dataset
from tagmask.data.sample import Dataset
from tagmask.errors import InputError, TagmaskError
from tagmask.files import ensure_folder, write_bytes
from tagmask.settings.parse import parse_assignments

__all__ = ["Bench", "Request", "roots_of", "run_one", "run_table"]

_LONGEST_NAME = 120

Roots = Mapping[str | None, Path]
"""Folders of data sets by name; None is for all others."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all runs of one command share."""

    clip: Clip
    roots: Roots
    out: Path
    limit: int | None
    workers: int
    resume: bool


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run that was asked for."""

    name: str
    """The recipe's, with what was changed."""
    protocol: Protocol
    data: str
    split: str | None
    images: int | None
    """How many the papers' list has; None for other data."""
    labelled: bool
    """Images in which no class is present are left out."""

    @classmethod
    def of(
        cls,
        recipe: str,
        settings: Sequence[str] | None,
        refine: Refine | None,
        as_: str | None,
        dataset: str | None,
        split: str | None,
    ) -> "Request":
        """From the options of `tagmask bench run`.

        Raises:
            InputError: an unknown recipe, or settings that it does not take.
        """
        changes = [*_REFINED.get(refine, ()), *(settings or ())]
        made = made_recipe(recipe, parse_assignments(changes), as_)
        column = reference_column(recipe) or Column(
            key="",
            label="",
            metric="map" if made.gives == "tags" else "miou",
            data=recipe.partition("/")[2],
            average="truth" if method_of(made).kind == "tag_first" else "union",
        )
        usual = dataset in (None, column.data) and split in (None, column.split)
        protocol = Protocol(
            recipe=made,
            metric=column.metric,
            average=column.average,
            groups=column.groups,
        )
        quirks = [] if as_ is None else [f"as={as_}"]
        return cls(
            name=" ".join([recipe, *changes, *quirks]),
            protocol=protocol,
            data=dataset or str(column.data),
            split=split or column.split,
            images=column.images if usual else None,
            labelled=column.labelled and usual,
        )

    @property
    def where(self) -> str:
        """The data set, for people."""
        return f"{self.data} {self.split}" if self.split else self.data

    @property
    def folder(self) -> str:
        """A name that a folder can have, another for every other run."""
        name = re.sub(r"[^A-Za-z0-9._=+,-]", "-", ",".join([self.name, *(self._data_named())]))
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _data_named(self) -> Iterator[str]:
        if not self.name.split(" ", 1)[0].endswith(f"/{self.data}"):
            yield self.data
        if self.split:
            yield self.split


_REFINED: Mapping[Refine | None, tuple[str, ...]] = MappingProxyType(
    {
        Refine.none: ("pamr_steps=0", "crf=none"),
        Refine.pamr: ("pamr_steps=10", "crf=none"),
        Refine.crf: ("pamr_steps=0", "crf=cls-seg"),
    }
)


def roots_of(given: Sequence[str]) -> Roots:
    """Folders from texts such as "VOCdevkit" or "voc21=VOCdevkit".

    Raises:
        InputError: a folder that does not exist, or one data set twice.
    """
    roots: dict[str | None, Path] = {}
    for text in given:
        name, equals, rest = text.partition("=")
        named = bool(equals) and bool(re.fullmatch(r"[a-z0-9-]+", name)) and not Path(text).exists()
        key, path = (name, Path(rest)) if named else (None, Path(text))
        if not path.expanduser().is_dir():
            raise InputError(f"--data {text}: there is no folder {path}; give the data set's own folder")
        if key in roots:
            raise InputError(f"--data is given twice for {key or 'all data sets'}; give NAME=ROOT for each")
        roots[key] = path.expanduser()
    return roots


def run_one(bench: Bench, request: Request) -> int:
    """Run, print and write one row; returns how many images failed."""
    found = _run(bench, request)
    typer.echo(headline(found))
    for each in found.comparisons:
        typer.echo(_beside(each, partial=bool(found.summary.partial)))
    message(f"written to {bench.out / request.folder}")
    return len(found.summary.failures)


def _beside(each: Comparison, *, partial: bool) -> str:
    cell, mark = each.cell, " (partial)" if partial else ""
    note = f"; {cell.note}" if cell.note else ""
    return (
        f"  paper {cell.figure:g}  ours {each.ours:.2f}{mark}  difference {each.difference:+.2f}  "
        f"{cell.table}, {cell.row}, {cell.column.label} {cell.source}{note}"
    )


def _run(bench: Bench, request: Request) -> RunReport:
    dataset = _opened(bench.roots, request)
    folder = bench.out / request.folder
    ensure_folder(folder)
    run = Run(protocol=request.protocol, dataset=dataset, images=request.images, limit=bench.limit)
    with report_if_stopped(folder):
        summary = run_benchmark(
            bench.clip, run, folder, workers=bench.workers, resume=bench.resume, watch=_report_failures
        )
    about = dict(describe_run(bench.clip, request.protocol, dataset))
    if note := other_weights(bench.clip):
        about["note"] = note
        message(f"note: {note}")
    cells = published(request.protocol, request.data, request.split)
    found = RunReport(
        name=request.name,
        data=request.where,
        protocol=request.protocol,
        summary=summary,
        comparisons=compare_with_published(summary, cells),
        about=about,
    )
    write_pages(folder, found)
    return found


def _opened(roots: Roots, request: Request) -> Dataset:
    root = roots.get(request.data, roots.get(None))
    if root is None:
        raise InputError(f"no folder is given for {request.data}; give --data {request.data}=ROOT")
    dataset = open_dataset(request.data, root, request.split)
    if not request.labelled:
        return dataset
    return replace(dataset, samples=[sample for sample in dataset.samples if sample.tags])


def _report_failures(records: Iterable[Record], total: int) -> Iterator[Record]:
    for record in with_progress(records, total):
        if record.failed is not None:
            message(f"failed: {record.id}: {record.reason}")
        yield record


# -- Whole tables --------------------------------------------------------------------------------------------


def run_table(bench: Bench, table: Table) -> int:
    """Run a table, print and write it; returns how many of its runs failed or had images that failed."""
    done: dict[str, Summary | str] = {}
    requests = {cell: request for cell in table.cells if (request := _request(cell)) is not None}
    if not requests:
        raise InputError(f"no row of {table.name} can be run: its figures are cited (tagmask bench list)")
    for request in requests.values():
        if request.folder in done:
            continue
        message(f"{request.name} on {request.where}")
        try:
            found = _run(bench, request)
        except TagmaskError as error:
            message(f"not run: {error}")
            done[request.folder] = str(error)
        else:
            message(headline(found))
            done[request.folder] = found.summary
    results = {cell: done[request.folder] for cell, request in requests.items()}
    page = table_page(table, results)
    typer.echo(page)
    folder = bench.out / "tables"
    write_bytes(folder / f"{table.name}.md", (page + "\n").encode())
    record = json.dumps(table_record(table, results), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(folder / f"{table.name}.json", (record + "\n").encode())
    message(f"written to {folder}")
    return sum(isinstance(result, str) or bool(result.failures) for result in done.values())


def _request(cell: Cell) -> Request | None:
    protocol, column = protocol_of(cell), cell.column
    if protocol is None or cell.recipe is None or column.data is None:
        return None
    # Which score of a run a column shows is no part of the run: precision and recall come with the rest.
    first = replace(protocol, metric="map" if protocol.tags else "miou")
    return Request(
        name=" ".join([cell.recipe, *cell.settings]),
        protocol=first,
        data=column.data,
        split=column.split,
        images=column.images,
        labelled=column.labelled,
    )
