"""`tagmask bench run` and `tagmask bench table`: run benchmarks, print and write the results."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from tagmask.bench.benchmark_run import Run, benchmark_identity, other_weights, run_benchmark
from tagmask.bench.catalogue import (
    Cell,
    Column,
    Table,
    protocol_of,
    published,
    reference_column,
    trained_as,
)
from tagmask.bench.derived import Result, computed, measured
from tagmask.bench.folder_scores import find_masks
from tagmask.bench.pages import Comparison, RunReport, compare_with_published, headline, write_pages
from tagmask.bench.protocol import Protocol, made_recipe
from tagmask.bench.submission import Submission
from tagmask.bench.summary import Summary
from tagmask.bench.table_page import table_page, table_record
from tagmask.bench.trained import TRAINED, ModelFile, TrainedModel, TrainedRecipe
from tagmask.catalogue import method_of
from tagmask.cli.bench_submission import write_submission
from tagmask.cli.console import message, show, with_progress
from tagmask.cli.options import Refine
from tagmask.cli.runs import Totals, stops_reported
from tagmask.clip.load import Clip
from tagmask.data.catalogue import open_dataset, split_of
from tagmask.data.sample import Dataset
from tagmask.errors import InputError, TagmaskError
from tagmask.files import file_hash, write_bytes
from tagmask.printable import printable
from tagmask.resolve import recipe as find_recipe
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Produced
from tagmask.settings.parse import parse_assignments
from tagmask.settings.recipes import Recipe
from tagmask.settings.refinement import REFINERS
from tagmask.strict_json import json_text

__all__ = ["Bench", "Request", "roots_of", "run_one", "run_table"]

_LONGEST_NAME = 120

Roots = Mapping[str | None, Path]
"""Folders of data sets by name; the key None is the default for all others."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings that all runs of one command share."""

    clip: Callable[[], Clip]
    """Loads the CLIP, on first use."""
    models: Sequence[ModelFile]
    """Trained networks to score."""
    device: str
    precision: str
    roots: Roots
    out: Path
    limit: int | None
    workers: int
    resume: bool
    submission: Path | None = None
    competition: str = "comp6"

    def model(self, protocol: Protocol, dataset: Dataset, file: ModelFile | None) -> Clip | TrainedModel:
        """What a protocol scores: the CLIP, or a trained network.

        Raises:
            InputError: a trained network is needed and not given, or given and not needed.
            WeightsError: it cannot be used.
        """
        recipe = protocol.recipe
        if not isinstance(recipe, TrainedRecipe):
            if file is not None:
                raise InputError(f"{recipe.name} scores a CLIP, not a trained network. Leave out --model.")
            return self.clip()
        if file is None:
            raise InputError(f"{recipe.name} scores a trained network. Give --model DIR.")
        return TrainedModel(file, recipe, dataset.classes, device=self.device, precision=self.precision)


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
        overrides = [*_refinement_settings(recipe, refine), *(settings or ())]
        resolved = made_recipe(recipe, parse_assignments(overrides), as_)
        column = reference_column(recipe) or Column(
            key="",
            label="",
            metric="map" if resolved.gives == "tags" else "miou",
            data=recipe.partition("/")[2],
            average="truth" if _tags_first(resolved) else "union",
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


def _tags_first(recipe: Recipe | TrainedRecipe) -> bool:
    return isinstance(recipe, Recipe) and method_of(recipe).kind == "tag_first"


def _refinement_settings(recipe: str, refine: Refine | None) -> list[str]:
    """The settings that --refine stands for, as --set takes them; TLP is named if it is on, here or there."""
    if refine is None:
        return []
    named = dict(REFINERS[refine.value])
    if not named["tlp_steps"] and recipe not in TRAINED and not getattr(find_recipe(recipe), "tlp_steps", 0):
        del named["tlp_steps"]
    return [f"{name}={'none' if value is None else value}" for name, value in named.items()]


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
    files = bench.models
    if len(files) > 1:
        raise InputError("A run scores one network. Give --model once; `bench table` takes several.")
    submission = _submission(bench, request)
    report, folder = _run(bench, request, files[0] if files else None)
    if report.labelled:
        show(headline(report))
    for comparison in report.comparisons:
        typer.echo(_comparison_line(comparison, partial=bool(report.summary.partial)))
    message(f"written to {folder}")
    if submission is not None:
        dataset = _open(bench.roots, request)
        write_submission(submission, find_masks(folder, dataset), dataset)
    return len(report.summary.failures)


def _submission(bench: Bench, request: Request) -> Submission | None:
    if bench.submission is None:
        return None
    if bench.limit is not None:
        raise InputError("A submission holds the masks of all images of its split. Leave out --limit.")
    split = split_of(request.data, request.split)
    return Submission(bench.submission, request.data, split, bench.competition)


def _comparison_line(comparison: Comparison, *, partial: bool) -> str:
    cell, mark = comparison.cell, " (partial)" if partial else ""
    note = f"; {cell.note}" if cell.note else ""
    difference = f"difference {comparison.difference:+.2f}" if cell.verified else "no difference"
    return (
        f"  paper {cell.figure:g}  ours {comparison.ours:.2f}{mark}  {difference}  "
        f"{cell.table}, {cell.row}, {cell.column.label} {cell.source}{note}"
    )


def _run(bench: Bench, request: Request, file: ModelFile | None) -> tuple[RunReport, Path]:
    """Run one row; return its report and its folder."""
    dataset = _open(bench.roots, request)
    model = bench.model(request.protocol, dataset, file)
    masks = bench.submission is not None
    folder = bench.out / _folder_name(request, file, masks=masks)
    run = Run(
        protocol=request.protocol, dataset=dataset, images=request.images, limit=bench.limit, masks=masks
    )
    with stops_reported(folder, "run the same command with --resume"):
        summary = run_benchmark(
            model, run, folder, workers=bench.workers, resume=bench.resume, watch=_report_images
        )
    identity = benchmark_identity(model, request.protocol, dataset, masks=masks)
    about: dict[str, object] = {**identity.fields, "recorded": identity.metadata}
    if isinstance(model, Clip) and (note := other_weights(model)):
        about["note"] = note
        message(f"note: {note}")
    cells = published(request.protocol, request.data, request.split, file)
    report = RunReport(
        name=request.name,
        data=request.where,
        protocol=request.protocol,
        summary=summary,
        comparisons=compare_with_published(summary, cells) if dataset.labelled else (),
        about=about,
        labelled=dataset.labelled,
    )
    write_pages(folder, report)
    return report, folder


def _folder_name(request: Request, file: ModelFile | None, *, masks: bool) -> str:
    """A run's folder: runs of other networks, and runs that keep their masks, have folders of their own."""
    model = [f"model-{file_hash(file.path)[:8]}"] if file is not None else []
    return ",".join([request.folder, *model, *(["masks"] if masks else [])])


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
    finished: dict[tuple[str, ModelFile | str | None], Summary | str] = {}
    derived = [cell for cell in table.cells if cell.plus and cell.command]
    parts = [part for cell in derived for part in (*cell.plus, *cell.minus)]
    # A mean's own runs come last: most are runs of the table's other cells.
    cells = dict.fromkeys([*table.cells, *parts])
    requests = {cell: request for cell in cells if (request := _request(cell)) is not None}
    if not requests:
        raise InputError(
            f"No row of {table.name} can be run by this command. See `tagmask bench list {table.name}`."
        )
    keys = {}
    for cell, request in requests.items():
        file = _model_for(bench, cell)
        key = keys[cell] = (request.folder, file)
        if isinstance(file, str):
            finished[key] = file
            message(f"{cell.row}: not run: {file}")
            continue
        if key in finished:
            continue
        message(f"{request.name} on {request.where}")
        try:
            report, _ = _run(bench, request, file)
        except TagmaskError as error:
            message(f"not run: {error.in_one_line}")
            finished[key] = error.in_one_line
        else:
            message(headline(report))
            finished[key] = report.summary
    results: dict[Cell, Result] = {}
    for cell, key in keys.items():
        summary = finished[key]
        results[cell] = summary if isinstance(summary, str) else measured(cell, summary)
    results |= {cell: computed(cell, results) for cell in derived}
    results = {cell: results[cell] for cell in table.cells if cell in results}
    page = table_page(table, results)
    for line in page.splitlines():
        show(line)
    folder = bench.out / "tables"
    write_bytes(folder / f"{table.name}.md", (page + "\n").encode())
    record = json_text(table_record(table, results), indent=2, ensure_ascii=False)
    write_bytes(folder / f"{table.name}.json", (record + "\n").encode())
    message(f"written to {folder}")
    return sum(isinstance(result, str) or bool(result.failures) for result in finished.values())


def _model_for(bench: Bench, cell: Cell) -> ModelFile | str | None:
    """The first given network that was trained as the figure's, or what is missing; None for a CLIP's."""
    recipe = TRAINED.get(cell.recipe or "")
    if recipe is None:
        return None
    method = recipe.method
    for file in bench.models:
        if file.method == method and trained_as(cell, file):
            return file
    trained = f" trained with {' '.join(cell.training)}" if cell.training else ""
    return f"No {method}{trained} is given. Give --model DIR."


def _request(cell: Cell) -> Request | None:
    protocol, column = protocol_of(cell), cell.column
    if protocol is None or cell.recipe is None or column.data is None or column.server:
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
