"""`tagmask bench` end to end, with a synthetic data set in place of a benchmark's folders."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tagmask.bench import catalogue, protocol
from tagmask.cli import bench_runs
from tagmask.cli.bench_runs import Request
from tagmask.cli.main import app
from tagmask.cli.options import Refine
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import ImageError, InputError
from tagmask.resolve import recipe
from tagmask.runs.folder import RunStopped
from tagmask.runs.producer import Terminated
from tagmask.settings.recipes import MaskRecipe

Opened = list[tuple[str, str | None]]

QUICK = ("--set", 'templates=["a {}."]')
MASK_QUICK = (*QUICK, "--set", "short_side=48", "--set", "crop=48", "--set", "stride=48")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def unreadable() -> np.ndarray:
    raise ImageError("photo.jpg is damaged or truncated")


def synthetic(seed: int, classes: int) -> Sample:
    def image() -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)

    def mask() -> np.ndarray:
        return np.random.default_rng(seed).integers(0, classes, (48, 48), np.uint8)

    return Sample(id=f"image-{seed}", read_image=image, tags=(seed % 3,), read_mask=mask)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    """Replace data sets by synthetic ones; the value lists the names and splits that were opened."""
    calls: Opened = []

    def open_dataset(name: str, root: Path, split: str | None = None) -> Dataset:
        calls.append((name, split))
        if name == "voc20":
            raise InputError("VOCdevkit has no SegmentationClass")
        count = {"voc21": 21, "voc2012": 21, "coco2014": 81}[name]
        samples = [synthetic(seed, count) for seed in range(3)]
        samples.append(Sample(id="unlabelled", read_image=samples[0].read_image, tags=()))
        return Dataset(
            name=name,
            classes=("background", *(f"class {i}" for i in range(1, count))),
            tag_classes=tuple(f"class {i}" for i in range(1, count)),
            samples=samples if name == "coco2014" else samples[:3],
        )

    monkeypatch.setattr(bench_runs, "open_dataset", open_dataset)
    (tmp_path / "data").mkdir()
    return calls


def bench(tmp_path: Path, *arguments: object) -> Result:
    return run(
        "bench", *arguments, "--data", tmp_path / "data", "--weights", "miniature", "-o", tmp_path / "out"
    )


def test_help_and_lists_import_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tagmask.cli.main import app;"
        "result = CliRunner().invoke(app, ['bench', '--help']); print(result.stdout);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("run", "table", "list", "tags", "miniature"):
        assert command in done.stdout


def test_row_is_run_and_compared(tmp_path: Path, opened: Opened) -> None:
    result = bench(tmp_path, "run", "sclip/voc21", *MASK_QUICK)
    assert result.exit_code == 0, result.output
    name = 'sclip/voc21 templates=["a {}."] short_side=48 crop=48 stride=48'
    assert result.stdout.startswith(f"{name} on voc21, 3 images: mIoU ")
    assert "(partial: the data set has 3 images, the papers' list 1449)" in result.stdout
    assert len(result.stdout.splitlines()) == 1  # no figure was made with these settings
    assert "12 layers of width 128" in result.stderr
    assert opened == [("voc21", None)]
    (folder,) = (tmp_path / "out").iterdir()
    assert {p.name for p in folder.iterdir()} == {
        "classes.svg", "result.json", "result.md", "run.db", "run.json"
    }  # fmt: skip
    assert len(json.loads((folder / "result.json").read_text())["classes"]) == 21


def test_results_are_compared_with_the_papers_figures(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(recipe("tagclip/voc2012"), templates=("a {}.",))  # one sentence per word
    catalogue.protocol_of.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "recipe", {"tagclip/voc2012": quick}.__getitem__)
        patch.setattr(catalogue, "recipe_names", lambda: ("tagclip/voc2012",))
        result = bench(tmp_path, "tagclip/voc2012", "--workers", 2)
        ablation = bench(tmp_path, "table", "tagclip-4", "--resume", "--limit", 2)
    catalogue.protocol_of.cache_clear()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("tagclip/voc2012 on voc2012, 3 images: mAP ")
    assert any("paper 94.1  ours " in line and " (partial)  difference " in line for line in lines)
    assert any("paper 94.1" in line and "tagclip-4, both" in line and "[paper]" in line for line in lines)
    assert ablation.exit_code == 0, ablation.output
    rows = [line for line in ablation.stdout.splitlines() if line.startswith("| ")]
    assert rows[0] == "| | VOC2012 val, tags, mAP | VOC2012 val, mIoU |"
    assert re.fullmatch(r"\| both \| 94.1 / \d+\.\d\d\* \([+-]\d+\.\d\d\) \| 64.8 \|", rows[-1])
    record = json.loads((tmp_path / "out" / "tables" / "tagclip-4.json").read_text())
    assert ["ours" in figure for figure in record["figures"]] == [True, False] * 4
    assert len(list((tmp_path / "out").glob("tagclip-voc2012*"))) == 4  # "both" resumed the first run


def test_run_resumes_only_with_resume(tmp_path: Path, opened: Opened) -> None:
    command = ("run", "sclip/voc21", *MASK_QUICK)
    assert bench(tmp_path, *command, "--limit", 2).exit_code == 0
    again = bench(tmp_path, *command)
    assert again.exit_code == 2
    assert "Give --resume to continue" in again.stderr
    resumed = bench(tmp_path, *command, "--resume")
    fresh = run(
        "bench", *command, "--data", tmp_path / "data", "--weights", "miniature", "-o", tmp_path / "other"
    )
    assert resumed.stdout == fresh.stdout
    assert "2 of 3 were done." in resumed.stderr
    mixed = bench(tmp_path, *command, "--resume", "--precision", "bfloat16")
    assert mixed.exit_code == 2
    assert "weights.precision was float32, is bfloat16" in mixed.stderr


@pytest.mark.parametrize(
    ("error", "code", "match"),
    [
        (KeyboardInterrupt(), 130, r"kept in .*out.sclip.*; run the same command with --resume to go on"),
        (Terminated(), 143, "run the same command with --resume to go on"),
        (RunStopped("The disk is full."), 2, "tagmask: The disk is full"),
    ],
)
def test_a_stopped_run_or_table_ends_at_once_and_says_how_to_go_on(
    tmp_path: Path,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    match: str,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(bench_runs, "run_benchmark", stopped)
    for command in (("run", "sclip/voc21"), ("table", "sclip-4")):
        result = bench(tmp_path, *command)
        assert result.exit_code == code, result.output
        assert re.search(match, result.stderr), result.stderr
        assert "not run: The disk" not in result.stderr


def test_failed_images_are_named_and_give_exit_code_1(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bench_runs.open_dataset

    def with_one_bad(name: str, root: Path, split: str | None = None) -> Dataset:
        dataset = original(name, root, split)
        return replace(
            dataset, samples=[*dataset.samples, replace(dataset.samples[0], id="bad", read_image=unreadable)]
        )

    monkeypatch.setattr(bench_runs, "open_dataset", with_one_bad)
    result = bench(tmp_path, "sclip/voc21", *MASK_QUICK)
    assert result.exit_code == 1
    assert "failed: bad: photo.jpg is damaged or truncated" in result.stderr
    assert "(partial: 1 of 4 images failed: 1 unreadable image;" in result.stdout


def test_images_without_labels_are_skipped_if_the_paper_skips_them(tmp_path: Path, opened: Opened) -> None:
    result = bench(tmp_path, "tagclip/coco2014", *QUICK)
    assert result.exit_code == 0, result.output
    assert "3 images: mAP" in result.stdout


def test_dataset_and_split_options(tmp_path: Path, opened: Opened) -> None:
    result = bench(tmp_path, "sclip/voc21", *MASK_QUICK, "--dataset", "voc2012", "--split", "train")
    assert result.exit_code == 0, result.output
    assert "on voc2012 train, 3 images" in result.stdout
    assert "partial" not in result.stdout
    assert opened == [("voc2012", "train")]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("run", "sclip/voc22"), "Did you mean sclip/voc21"),
        (("run", "sclip/voc21", "--set", "method=nobody"), "Unknown method 'nobody'"),
        (("run", "sclip/voc21", "--set", "stride"), "has no value. Give NAME=VALUE"),
        (("run", "sclip/voc20"), "no SegmentationClass"),
        (("run", "tagclip/voc2012", "--dataset", "coco2014", *QUICK), "20 .* has 80"),
        (("table", "tagclip-5"), "Did you mean tagclip-4"),
        (("table", "weakclip-cost"), "No row of weakclip-cost can be run by this command"),
        (("run", "weakclip/voc2012"), "scores a trained network. Give --model DIR"),
        (("run", "sclip/voc21", "--model", "none"), "There is no model none/model.safetensors"),
        (("run", "weakclip/voc2012", "--set", "method=clip"), "has no setting method"),
    ],
)  # fmt: skip
def test_invalid_requests_are_refused(
    tmp_path: Path, opened: Opened, arguments: tuple[str, ...], match: str
) -> None:
    result = bench(tmp_path, *arguments)
    assert result.exit_code == 2
    assert re.search(match, result.stderr), result.stderr


def test_data_folders_for_all_or_by_name(tmp_path: Path, opened: Opened) -> None:
    data = tmp_path / "data"
    options = ("--weights", "miniature", "-o", tmp_path / "out")
    assert run("bench", "sclip/voc21", *MASK_QUICK, "--data", f"voc21={data}", *options).exit_code == 0
    other = run("bench", "sclip/voc21", "--data", f"voc20={data}", *options)
    assert "Give --data voc21=ROOT" in other.stderr
    absent = run("bench", "sclip/voc21", "--data", tmp_path / "absent", *options)
    assert "There is no folder" in absent.stderr
    twice = run("bench", "sclip/voc21", "--data", data, "--data", data, *options)
    assert "--data is given twice" in twice.stderr


def test_table_skips_rows_without_data(tmp_path: Path, opened: Opened) -> None:
    options = ("--weights", "miniature", "-o", tmp_path / "out")
    result = run("bench", "table", "sclip-4", "--data", f"voc20={tmp_path / 'data'}", *options)
    assert result.exit_code == 1
    assert "| mode 1: short side 224 | 56.5 (unverified) / not run |" in result.stdout
    assert "| TCL | 51.2 (unverified) |" in result.stdout
    assert result.stderr.count("not run: No folder is given for voc21. Give --data voc21=ROOT") == 5
    assert opened == []


def test_refine_option_overrides_settings(tmp_path: Path, opened: Opened) -> None:
    result = bench(tmp_path, "run", "sclip/voc21", *MASK_QUICK, "--refine", "pamr", "--limit", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("sclip/voc21 pamr_steps=10 crf=none templates=")
    (folder,) = (tmp_path / "out").iterdir()
    about = json.loads((folder / "result.json").read_text())["about"]
    assert (about["recipe"]["pamr_steps"], about["recipe"]["crf"]) == (10, None)


@pytest.mark.parametrize(
    ("recipe", "refine", "expected"),
    [
        ("sclip/voc21", "tlp", ["pamr_steps=0", "crf=none", "tlp_steps=25"]),
        ("sclip/voc21", "crf", ["pamr_steps=0", "crf=cls-seg"]),
        ("pearl/voc21", "pamr", ["pamr_steps=10", "crf=none", "tlp_steps=0"]),
    ],
)
def test_refine_names_the_settings_that_it_changes(recipe: str, refine: str, expected: list[str]) -> None:
    request = Request.of(recipe, None, Refine(refine), None, None, None)
    assert request.name.split()[1:] == expected
    found = request.protocol.recipe
    assert isinstance(found, MaskRecipe)
    assert found.tlp_steps == (25 if refine == "tlp" else 0)


def test_list_shows_figures_sources_and_commands() -> None:
    result = run("bench", "list", "tagclip-4")
    assert result.exit_code == 0
    assert "94.1  [paper]" in result.stdout
    assert "run cls-seg/voc2012 --set tagger.cwr=false" in result.stdout
    assert "PASCAL VOC 2012, segmentation val, 1449 images" in result.stdout
    assert "8 figures, of which 8 can be run" in result.stderr
    cited = run("bench", "list", "IIC")
    assert "cited" in cited.stdout
    assert "No table, row, column or recipe matches" in run("bench", "list", "nobody").stderr


def test_no_difference_to_an_unverified_figure_is_printed(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(recipe("sclip/voc21"), templates=("a {}.",), short_side=48, crop=48, stride=48)
    catalogue.protocol_of.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "recipe", {"sclip/voc21": quick}.__getitem__)
        patch.setattr(catalogue, "recipe_names", lambda: ("sclip/voc21",))
        lines = bench(tmp_path, "sclip/voc21").stdout.splitlines()
    catalogue.protocol_of.cache_clear()
    (unverified,) = [line for line in lines if "sclip-1, SCLIP" in line]
    assert "paper 59.1  ours " in unverified
    assert "[unverified]" in unverified
    assert "  no difference  " in unverified
    assert any("sclip-readme, SCLIP" in line and "  difference " in line for line in lines)


def test_list_as_json() -> None:
    printed = run("bench", "list", "sclip-readme", "--json").stdout
    records = [json.loads(line) for line in printed.splitlines()]
    assert len(records) == 9
    assert records[0]["figure"] == 59.63
    assert records[0]["command"] == "run sclip/voc21"


def test_tag_files_are_scored(tmp_path: Path) -> None:
    tags, truth = tmp_path / "tags.txt", tmp_path / "truth.txt"
    tags.write_text("a 0 1\nb 1\n")
    truth.write_text("a 0\nb 1\n")
    result = run("bench", "tags", tags, truth, "--classes", 2)
    assert result.exit_code == 0
    assert "2 tags correct, 1 wrong, 0 missed" in result.stdout
    assert "all decisions    precision 0.6667  recall 1.0000  F1 0.8000" in result.stdout
    truth.write_text("a 0\nb 1\nc 1\n")
    part = run("bench", "tags", tags, truth, "--classes", 2)
    assert part.exit_code == 1
    assert "2 images (partial: of 3)" in part.stdout
    assert "1 images are in the ground truth but not in the tags: c" in part.stderr
