import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tagmask.bench.catalogue import Cell, Column, Table
from tagmask.bench.derived import measured
from tagmask.bench.pages import RunReport, compare_with_published, headline, write_pages
from tagmask.bench.protocol import Protocol
from tagmask.bench.summary import Failure, Summary
from tagmask.bench.table_page import table_page, table_record
from tagmask.resolve import recipe

SUMMARY = Summary(
    scores={"miou": 59.6349, "pixel accuracy": 80.0, "mean accuracy": math.nan},
    classes={"background": 90.0, "cat | dog": 29.27, "ship": math.nan},
    scored=1449,
    requested=1449,
    failures=(),
    partial=(),
)
PART = replace(
    SUMMARY,
    scored=38,
    failures=(Failure("a|b", "size", "its mask is (2, 2)\n(h, w)"),),
    partial=(
        "1 of 39 images failed: 1 mask of the wrong size",
        "only the first 39 of 1449 images were requested",
    ),
)
COLUMN = Column(key="voc21", label="VOC21", metric="miou", data="voc21")


def cell(row: str, figure: float | None, **changed: object) -> Cell:
    default = Cell(
        table="sclip-1",
        row=row,
        column=COLUMN,
        figure=figure,
        source="[paper]",
        recipe=None,
        settings=(),
        note="",
    )
    return replace(default, **changed)  # type: ignore[arg-type]


def report(summary: Summary) -> RunReport:
    return RunReport(
        name="sclip/voc21",
        data="voc21",
        protocol=Protocol(recipe=recipe("sclip/voc21")),
        summary=summary,
        comparisons=compare_with_published(summary, [cell("SCLIP", 59.1), cell("SCLIP, again", 60.0)]),
        about={"weights": "1", "note": "other weights"},
    )


def test_headline_names_recipe_data_and_score() -> None:
    assert headline(report(SUMMARY)) == "sclip/voc21 on voc21, 1449 images: mIoU 59.63"
    assert headline(report(PART)) == (
        "sclip/voc21 on voc21, 38 images: mIoU 59.63 "
        "(partial: 1 of 39 images failed: 1 mask of the wrong size; "
        "only the first 39 of 1449 images were requested)"
    )
    unknown = replace(PART, scores={"miou": math.nan})
    assert "mIoU unknown (partial" in headline(report(unknown))


def test_figures_are_compared_in_the_same_metric() -> None:
    scores = {"map": 94.0, "f1": 84.0}
    published = [cell(m, f, column=replace(COLUMN, metric=m)) for m, f in (("map", 94.1), ("f1", 84.12))]
    comparisons = compare_with_published(replace(SUMMARY, scores=scores), [*published, cell("c", 50.0)])
    assert [round(each.difference, 2) for each in comparisons] == [-0.1, -0.12]


def test_nothing_is_subtracted_from_an_unverified_figure(tmp_path: Path) -> None:
    unverified = cell("SCLIP", 59.1, source="[unverified]")
    (comparison,) = compare_with_published(SUMMARY, [unverified])
    assert math.isnan(comparison.difference)
    write_pages(tmp_path, replace(report(SUMMARY), comparisons=[comparison]))
    assert "| mIoU | 59.1 [unverified] | 59.63 | - |" in (tmp_path / "result.md").read_text()
    table = replace(TABLE, cells=(unverified,), rows=("SCLIP",))
    page = table_page(table, {unverified: measured(unverified, SUMMARY)})
    assert "| SCLIP | 59.1 / 59.63 (unverified) |  |" in page.splitlines()
    assert "| SCLIP | 59.1 (unverified) |  |" in table_page(table, {}).splitlines()
    assert "| SCLIP | 59.1 (unverified) / not run |  |" in table_page(table, {unverified: "x"}).splitlines()


@pytest.mark.parametrize("summary", [SUMMARY, PART])
def test_run_writes_its_pages(tmp_path: Path, summary: Summary) -> None:
    write_pages(tmp_path, report(summary))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["value"] == summary.scores["miou"]
    assert result["scores"]["mean accuracy"] is None
    assert result["partial"] == list(summary.partial)
    assert result["images"]["failed"] == [f.__dict__ for f in summary.failures]
    assert [round(each["difference"], 4) for each in result["published"]] == [0.5349, -0.3651]
    page = (tmp_path / "result.md").read_text()
    assert "| sclip-1 | SCLIP | mIoU | 59.1 [paper] | 59.63 | +0.53 |" in page
    assert "| cat \\| dog | 29.27 |" in page
    assert "| ship | - |" in page
    assert "Note: other weights." in page
    assert ("| paper | ours (partial) | difference |" in page) == bool(summary.partial)
    assert ("| a\\|b | mask of the wrong size | its mask is (2, 2) (h, w) |" in page) == bool(
        summary.failures
    )
    ElementTree.parse(tmp_path / "classes.svg")
    assert ("partial" in (tmp_path / "classes.svg").read_text()) == bool(summary.partial)


RUN, CITED, NOT_RUN, PARTIAL = (
    cell("ours", 59.1),
    cell("cited", 51.2),
    cell("no data", 12.0),
    cell("partly", None),
)
TABLE = Table(
    name="sclip-1",
    title="Segmentation",
    paper="SCLIP",
    columns=(COLUMN, replace(COLUMN, key="empty", label="Empty")),
    rows=("ours", "cited", "no data", "partly", "later"),
    cells=(RUN, CITED, NOT_RUN, replace(PARTIAL, note="no figure"), cell("later", None)),
)
RESULTS = {
    RUN: measured(RUN, SUMMARY),
    NOT_RUN: "there is no folder",
    TABLE.cells[3]: measured(PARTIAL, PART),
}


def test_tables_compare_ours_with_the_paper() -> None:
    page = table_page(TABLE, RESULTS).splitlines()
    assert "| | VOC21, mIoU | Empty, mIoU |" in page
    assert "| ours | 59.1 / 59.63 (+0.53) |  |" in page
    assert "| cited | 51.2 |  |" in page
    assert "| no data | 12 / not run |  |" in page
    assert "| partly | ? / 59.63* |  |" in page
    assert "* no data, VOC21: not run: there is no folder" in page
    assert "| later |  |  |" in page
    assert "* partly: no figure" in page
    assert any(line.startswith("* partly, VOC21: partial: 1 of 39 images failed") for line in page)


def test_table_record_is_json() -> None:
    record = json.loads(json.dumps(table_record(TABLE, RESULTS), allow_nan=False))
    assert [each.get("ours") for each in record["figures"]] == [59.6349, None, None, 59.6349, None]
    assert record["figures"][2]["not run"] == "there is no folder"
    assert record["figures"][3]["partial"] == list(PART.partial)
