"""`tagmask bench table` with figures that are computed from runs, in place of real runs."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tagmask.bench.pages import RunReport
from tagmask.bench.summary import Summary
from tagmask.cli import bench_runs
from tagmask.cli.bench_runs import Bench, Request
from tagmask.cli.main import app
from tagmask.errors import InputError

SUMMARY = Summary(scores={"miou": 30.0}, classes={}, scored=9, requested=9, failures=(), partial=())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace runs: SCLIP scores 30, with PAMR 32, and there is no folder of Cityscapes."""
    names: list[str] = []

    def _run(bench: Bench, request: Request, file: object) -> tuple[RunReport, Path]:
        names.append(request.name)
        if request.data == "cityscapes":
            raise InputError("No folder is given for cityscapes.")
        score = 32.0 if "+pamr" in request.name else 30.0
        summary = replace(SUMMARY, scores={"miou": score})
        protocol, about = request.protocol, {}
        report = RunReport(
            name=request.name,
            data=request.data,
            protocol=protocol,
            summary=summary,
            comparisons=(),
            about=about,
        )
        return report, bench.out

    monkeypatch.setattr(bench_runs, "_run", _run)
    return names


def table(tmp_path: Path, name: str) -> Result:
    options = ["--data", str(tmp_path), "-o", str(tmp_path / "out"), "--weights", "miniature"]
    return CliRunner().invoke(app, ["bench", "table", name, *options])


def test_means_share_the_runs_of_the_table_and_name_what_is_missing(tmp_path: Path, ran: list[str]) -> None:
    result = table(tmp_path, "sclip-1")
    assert len(ran) == len(set(ran)) == 5 * 8  # rows x data sets: no run of the means alone
    assert "| SCLIP | 59.1 / 30.00 (unverified) |" in result.stdout
    assert "| 32.2 (unverified) / not run | 34.2 / 30.00 (unverified) |" in result.stdout
    assert "| 38.2 (unverified) / not computed |" in result.stdout
    missing = "no result for sclip/cityscapes (No folder is given for cityscapes)"
    assert f"* SCLIP, mean of eight: not computed: {missing}" in result.stdout.splitlines()


def test_a_mean_and_a_gain_are_computed(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = bench_runs._run
    monkeypatch.setattr(
        bench_runs,
        "_run",
        lambda bench, request, file: given(
            bench, replace(request, data=request.data.replace("cityscapes", "x")), file
        ),
    )
    result = table(tmp_path, "sclip-1-quoted")
    assert result.exit_code == 0, result.output
    (row,) = (line for line in result.stdout.splitlines() if line.startswith("| SCLIP |"))
    assert row.endswith("| 38.2 / 30.00 (unverified) | 1.9 / 2.00 (unverified) |")
    assert "| GroupViT |  |  |  |  | 30.7 (unverified) | 1.4 (unverified) |" in result.stdout
