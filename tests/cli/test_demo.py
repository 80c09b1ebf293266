"""`tagmask demo`, `doctor` and `bench miniature`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner

from tagmask.bench.miniature.ground_truth import objects_only
from tagmask.cli.main import app
from tagmask.masks import read_index_png
from tagmask.miniature.evaluation_scenes import unseen_scene


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


def test_demo_writes_a_page_without_weights(run: CliRunner, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = run.invoke(app, ["demo", "--out", str(out), "--precision", "float32"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if line.startswith("scene-")]
    assert len(lines) == 8
    page = (out / "report.html").read_text(encoding="utf-8")
    for number in range(1, 9):
        assert f"scene-{number}" in page
        labels = read_index_png(out / "masks" / f"scene-{number}.png")
        with PILImage.open(out / "images" / f"scene-{number}.png") as image:
            assert labels.shape == image.size[::-1]
        assert (out / "overlays" / f"scene-{number}.jpg").is_file()
    found, objects = (sum(int(line.split()[i]) for line in lines) for i in (1, 3))
    truths = [objects_only(unseen_scene(seed).labels) for seed in range(1, 9)]
    assert objects == sum(len(np.unique(truth)) - 1 for truth in truths)
    assert found / objects > 0.4


def test_demo_into_a_file_is_refused(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    result = run.invoke(app, ["demo", "--out", str(tmp_path / "demo")])
    assert result.exit_code == 2
    assert "Choose another path" in result.stderr
    assert (tmp_path / "demo").read_text() == "mine"


def test_doctor_lists_caches_and_weights(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    result = run.invoke(app, ["doctor"])
    assert result.exit_code == 0
    for topic in ("Versions", "Hardware", "Caches", "Weights", "torch", "--precision auto", "miniature"):
        assert topic in result.stdout
    assert f"no .pt file in {tmp_path / '.cache' / 'clip'}" in result.stdout
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    (tmp_path / ".cache" / "clip" / "ViT-B-16.pt").write_bytes(b"x")
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(tmp_path / "gone.pt"))
    result = run.invoke(app, ["doctor"])
    assert str(tmp_path / ".cache" / "clip" / "ViT-B-16.pt") in result.stdout
    assert "gone.pt (not found)" in result.stdout


def test_doctor_lists_the_words_of_miniature(run: CliRunner) -> None:
    result = run.invoke(app, ["doctor", "--words"])
    assert result.exit_code == 0
    assert "automobile" in result.stdout
    assert "umbrella" in result.stdout


def test_unknown_words_give_one_warning(run: CliRunner, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    PILImage.new("RGB", (64, 48), (90, 160, 80)).save(image)
    shared = ["-w", "giraffe", "-w", "car", "--weights", "miniature"]
    for command in (["tag", str(image)], ["mask", str(image), "--out", str(tmp_path / "out")]):
        result = run.invoke(app, [*command, *shared])
        assert result.exit_code == 0, result.output
        assert result.stderr.count("miniature was not trained on: giraffe.") == 1
    known = run.invoke(app, ["tag", str(image), "-w", "red car", "-w", "tree", "--weights", "miniature"])
    assert "was not trained on" not in known.stderr


def test_bench_prints_tables(run: CliRunner, tmp_path: Path) -> None:
    names = ("sclip-1", "tagclip-4-tags", "classes", "thresholds")
    command = ["bench", "miniature", "--scenes", "3", *(part for name in names for part in ("--table", name))]
    result = run.invoke(app, [*command, "--pictures", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "| SCLIP + PAMR |" in result.stdout
    assert "| coarse + DMAR + CWR |" in result.stdout
    assert "| background |" in result.stdout
    assert "| threshold | precision |" in result.stdout
    pictures = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert pictures == ["miniature-sclip-1.svg", "miniature-tagclip-4-tags.svg"]


def test_unknown_table_is_refused(run: CliRunner) -> None:
    result = run.invoke(app, ["bench", "miniature", "--table", "sclip-9"])
    assert result.exit_code == 2
    assert "Unknown table 'sclip-9'. Did you mean " in result.stderr
