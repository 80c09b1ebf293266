"""`--engine` and `--precision int8`: what is refused before weights are loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

import tagmask


@pytest.mark.parametrize("name", ["mask", "tag"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "--precision int8 needs --engine openvino"),
        (["--engine", "openvino", "--precision", "int8"], "Give a folder: --int8-images DIR"),
        (["--engine", "openvino", "--int8-images", "."], "no effect without --precision int8"),
        (["--engine", "openvino"], "openvino needs openvino. Run: pip install 'tagmask[openvino]'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    command: Callable[..., Result],
    few_photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda module: None)
    for module in ("mask_command", "tag_command"):
        monkeypatch.setattr(f"tagmask.cli.{module}.load_weights", lambda *given: pytest.fail("loaded"))
    result = command(name, few_photos, "-w", "cat", "-o", tmp_path / "out", *options, code=2)
    assert message in " ".join(result.output.split())


def test_a_student_and_a_comparison_have_no_engine(
    command: Callable[..., Result], few_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda module: object())
    out = ("-o", tmp_path / "out", "--engine", "openvino")
    result = command("mask", few_photos, *out, "--student", tmp_path / "x.safetensors", code=2)
    assert "--engine and --student exclude each other" in result.output
    result = command("mask", few_photos, *out, "-w", "cat", "--compare", "clip,sclip", code=2)
    assert "--engine" in result.output


@pytest.mark.openvino
@pytest.mark.filterwarnings("ignore")
def test_commands_run_on_openvino(command: Callable[..., Result], few_photos: Path, tmp_path: Path) -> None:
    words, out = ("-w", "cat", "-w", "boat"), tmp_path / "out"
    int8 = ("--engine", "openvino", "--precision", "int8", "--int8-images", few_photos)
    command("mask", few_photos, *words, "-o", out, *int8)
    with tagmask.Run(out) as run:
        recorded = run.identity.fields["engine"]
    assert isinstance(recorded, dict)
    assert (recorded["name"], recorded["precision"]) == ("openvino", "int8")
    assert "3 of 3 were done" in command("mask", few_photos, *words, "-o", out, *int8).output
    result = command("mask", few_photos, *words, "-o", out, code=2)
    assert "engine.name was openvino, is not set" in " ".join(result.output.split())
    command("tag", few_photos, *words, "--engine", "openvino")
