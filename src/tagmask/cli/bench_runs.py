"""`tagmask bench run` and `tagmask bench table`: run benchmarks, print and write the results."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import typer

from tagmask.bench.benchmark_run import Run, benchmark_identity, other_weights, run_benchmark
from tagmask.bench.catalogue import Cell, Column, Table, protocol_of, published, reference_column
from tagmask.bench.pages import Comparison, RunReport, compare_with_published, headline, write_pages
from tagmask.bench.protocol import Protocol, made_recipe
from tagmask.bench.summary import Summary
from tagmask.bench.table_page import table_page, table_record
from tagmask.catalogue import method_of
from tagmask.cli.console import message, show, with_progress
from tagmask.cli.options import Refine
from tagmask.cli.runs import Totals, stops_reported
from tagmask.clip.load import Clip
from tagmask.data.catalogue import open_dataset
from tagmask.data.sample import Dataset
from tagmask.errors import InputError, TagmaskError
from tagmask.files import write_bytes
from tagmask.printable import printable
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Produced
from tagmask.settings.parse import parse_assignments
from tagmask.strict_json import json_text

__all__ = ["Bench", "Request", "roots_of", "run_one", "run_table"]

_LONGEST_NAME = 120

Roots = Mapping[str | None, Path]
"""Folders of data sets by name; the key None is the default for all others."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings that all runs of one command share."""

    clip: Clip
    roots: Roots
    out: Path
    limit: int | None
    workers: int
    resume: bool


@dataclass(frozen=True, kw_only=True)
class Request:
    """One requested benchmark run."""

    name: str
    """The recipe's name, followed by its overrides."""
    protocol: Protocol
    data: str
    split: str | None
    images: int | None
    """Number of images in the papers' list; None for other data."""
    labelled: bool
    """Whether images without any class are skipped."""

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
        """Create a request from the options of `tagmask bench run`.

        Raises:
            InputError: the recipe is unknown or does not accept a setting.
        """
        overrides = [*_REFINEMENT_SETTINGS.get(refine, ()), *(settings or ())]
        resolved = made_recipe(recipe, parse_assignments(overrides), as_)
        column = reference_column(recipe) or Column(
            key="",
            label="",
            metric="map" if resolved.gives == "tags" else "miou",
            data=recipe.partition("/")[2],
            average="truth" if method_of(resolved).kind == "tag_first" else "union",
        )
        is_papers_data = dataset in (None, column.data) and split in (None, column.split)
        protocol = Protocol(
            recipe=resolved,
            metric=column.metric,
            average=column.average,
            groups=column.groups,
        )
        quirks = [] if as_ is None else [f"as={as_}"]
        return cls(
            name=" ".join([recipe, *overrides, *quirks]),
            protocol=protocol,
            data=dataset or str(column.data),
            split=split or column.split,
            images=column.images if is_papers_data else None,
            labelled=column.labelled and is_papers_data,
        )

    @property
    def where(self) -> str:
        """The data set and split, for messages."""
        return f"{self.data} {self.split}" if self.split else self.data

    @property
    def folder(self) -> str:
        """A valid folder name, unique to this run."""
        name = re.sub(r"[^A-Za-z0-9._=+,-]", "-", ",".join([self.name, *self._data_suffixes()]))
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _data_suffixes(self) -> Iterator[str]:
        if not self.name.split(" ", 1)[0].endswith(f"/{self.data}"):
            yield self.data
        if self.split:
            yield self.split


_REFINEMENT_SETTINGS: Mapping[Refine | None, tuple[str, ...]] = MappingProxyType(
    {
        Refine.none: ("pamr_steps=0", "crf=none"),
        Refine.pamr: ("pamr_steps=10", "crf=none"),
        Refine.crf: ("pamr_steps=0", "crf=cls-seg"),
    }
)


def roots_of(options: Sequence[str]) -> Roots:
    """Parse --data options such as "VOCdevkit" or "voc21=VOCdevkit".

    Raises:
        InputError: a folder does not exist, or a data set is given twice.
    """
    roots: dict[str | None, Path] = {}
    for text in options:
        name, equals, rest = text.partition("=")
        has_name = bool(equals) and bool(re.fullmatch(r"[a-z0-9-]+", name)) and not Path(text).exists()
        key, path = (name, Path(rest)) if has_name else (None, Path(text))
        if not path.expanduser().is_dir():
            raise InputError(f"--data {text}: There is no folder {path}. Give the folder of the data set.")
        if key in roots:
            raise InputError(f"--data is given twice for {key or 'all data sets'}. Give NAME=ROOT for each.")
        roots[key] = path.expanduser()
    return roots


def run_one(bench: Bench, request: Request) -> int:
    """Run, print and write one row. Returns the number of images that failed."""
    report = _run(bench, request)
    show(headline(report))
    for comparison in report.comparisons:
        typer.echo(_comparison_line(comparison, partial=bool(report.summary.partial)))
    message(f"written to {bench.out / request.folder}")
    return len(report.summary.failures)


def _comparison_line(comparison: Comparison, *, partial: bool) -> str:
    cell, mark = comparison.cell, " (partial)" if partial else ""
    note = f"; {cell.note}" if cell.note else ""
    return (
        f"  paper {cell.figure:g}  ours {comparison.ours:.2f}{mark}  "
        f"difference {comparison.difference:+.2f}  "
        f"{cell.table}, {cell.row}, {cell.column.label} {cell.source}{note}"
    )


def _run(bench: Bench, request: Request) -> RunReport:
    dataset = _open(bench.roots, request)
    folder = bench.out / request.folder
    run = Run(protocol=request.protocol, dataset=dataset, images=request.images, limit=bench.limit)
    with stops_reported(folder, "run the same command with --resume"):
        summary = run_benchmark(
            bench.clip, run, folder, workers=bench.workers, resume=bench.resume, watch=_report_images
        )
    identity = benchmark_identity(bench.clip, request.protocol, dataset)
    about: dict[str, object] = {**identity.fields, "recorded": identity.metadata}
    if note := other_weights(bench.clip):
        about["note"] = note
        message(f"note: {note}")
    cells = published(request.protocol, request.data, request.split)
    report = RunReport(
        name=request.name,
        data=request.where,
        protocol=request.protocol,
        summary=summary,
        comparisons=compare_with_published(summary, cells),
        about=about,
    )
    write_pages(folder, report)
    return report


def _open(roots: Roots, request: Request) -> Dataset:
    root = roots.get(request.data, roots.get(None))
    if root is None:
        raise InputError(f"No folder is given for {request.data}. Give --data {request.data}=ROOT.")
    dataset = open_dataset(request.data, root, request.split)
    if not request.labelled:
        return dataset
    return replace(dataset, samples=[sample for sample in dataset.samples if sample.tags])


def _report_images(produced: Iterable[Produced], plan: Plan) -> Iterator[Produced]:
    totals = Totals()
    if plan.done:
        message(f"{plan.summary()}.")
    for each in with_progress(produced, plan.todo, failures=lambda: totals.failed):
        if each.result is None:
            totals.failed += 1
            message(f"failed: {printable(each.task.key)}: {each.error}")
        yield each


# -- Whole tables --------------------------------------------------------------------------------------------


def run_table(bench: Bench, table: Table) -> int:
    """Run, print and write a table. Returns the number of runs that failed or had failed images."""
    finished: dict[str, Summary | str] = {}
    requests = {cell: request for cell in table.cells if (request := _request(cell)) is not None}
    if not requests:
        raise InputError(
            f"No row of {table.name} can be run: its figures are only cited. See `tagmask bench list`."
        )
    for request in requests.values():
        if request.folder in finished:
            continue
        message(f"{request.name} on {request.where}")
        try:
            report = _run(bench, request)
        except TagmaskError as error:
            message(f"not run: {error}")
            finished[request.folder] = str(error)
        else:
            message(headline(report))
            finished[request.folder] = report.summary
    results = {cell: finished[request.folder] for cell, request in requests.items()}
    page = table_page(table, results)
    for line in page.splitlines():
        show(line)
    folder = bench.out / "tables"
    write_bytes(folder / f"{table.name}.md", (page + "\n").encode())
    record = json_text(table_record(table, results), indent=2, ensure_ascii=False)
    write_bytes(folder / f"{table.name}.json", (record + "\n").encode())
    message(f"written to {folder}")
    return sum(isinstance(result, str) or bool(result.failures) for result in finished.values())


def _request(cell: Cell) -> Request | None:
    protocol, column = protocol_of(cell), cell.column
    if protocol is None or cell.recipe is None or column.data is None:
        return None
    # All columns share one run: precision and recall are computed together with the main metric.
    shared = replace(protocol, metric="map" if protocol.tags else "miou")
    return Request(
        name=" ".join([cell.recipe, *cell.settings]),
        protocol=shared,
        data=column.data,
        split=column.split,
        images=column.images,
        labelled=column.labelled,
    )
