"""`tagmask data`: list, check, prepare."""

from pathlib import Path

from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.data.catalogue import DATASETS
from tagmask.data.converters import CONVERTERS
from tests.data import layouts


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_list_names_all_data_sets_and_converters() -> None:
    result = run("list")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert names == [*DATASETS, "tagmask", *CONVERTERS]
    assert "val 1449, train 1464" in result.stdout


def test_check_gives_exit_code_1_for_missing_files(tmp_path: Path) -> None:
    layouts.folder(tmp_path)
    result = run("check", "folder", tmp_path, "--read")
    assert result.exit_code == 0
    assert "  masks, decoded  2 of 2 are valid\n" in result.stdout
    (tmp_path / "masks" / "a.png").unlink()
    result = run("check", "folder", tmp_path)
    assert result.exit_code == 1
    assert f"! masks           1 of 2 files exist; missing: {tmp_path}/masks/a.png\n" in result.stdout


def test_check_of_an_unknown_name_is_a_usage_error(tmp_path: Path) -> None:
    result = run("check", "voc2O12", tmp_path)
    assert result.exit_code == 2
    assert "tagmask: Unknown data set 'voc2O12'. Did you mean voc2012" in result.stderr


def test_prepare_converts_resumes_and_counts_failures(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    raw = tmp_path / "stuffthingmaps" / "val2017" / "000000000724.png"
    content = raw.read_bytes()
    raw.write_bytes(b"")
    result = run("prepare", "coco-object", tmp_path)
    assert result.exit_code == 1
    assert f"failed: {raw}: an empty file" in result.stderr
    assert "1 files created, 0 existed, 1 failed" in result.stderr
    raw.write_bytes(content)
    result = run("prepare", "coco-object", tmp_path)
    assert result.exit_code == 0
    assert "1 files created, 1 existed, 0 failed" in result.stderr
    assert run("prepare", "coco-objects", tmp_path).exit_code == 2
