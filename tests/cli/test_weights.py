"""`tagmask weights`, and `tag` and `mask` without --weights."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from tagmask.cli import downloads
from tagmask.cli.downloads import download_progress
from tagmask.cli.main import app
from tagmask.clip.names import KNOWN
from tests.known_weights import publish
from tests.servers import serving_file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def downloadable(home: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Replace ViT-B-16:openai by a local test file that can be downloaded."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    with serving_file(sclip_weights) as url:
        publish(monkeypatch, sclip_weights, url)
        yield home / ".cache" / "clip" / "ViT-B-16.pt"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    PILImage.new("RGB", (64, 48), (90, 160, 80)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_list_shows_all_names_and_local_paths(home: Path, sclip_weights: Path) -> None:
    result = run("weights", "list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(KNOWN)
    assert "ViT-B-16:laion2b_s34b_b88k          gelu       -" in result.stdout
    assert run("weights", "list", "--here").stdout == ""
    file = home / ".cache" / "clip" / "ViT-B-32.pt"
    shutil.copy(sclip_weights, file)
    assert run("weights", "list", "--here").stdout.split() == ["ViT-B-32:openai", "quickgelu", str(file)]
    rows = [json.loads(line) for line in run("weights", "list", "--json").stdout.splitlines()]
    assert {row["name"]: row["path"] for row in rows if row["path"]} == {"ViT-B-32:openai": str(file)}


def test_get_downloads_once_and_prints_the_path(downloadable: Path) -> None:
    first = run("weights", "get", "ViT-B-16:openai")
    assert (first.exit_code, first.stdout) == (0, f"{downloadable}\n")
    assert "downloading to" in first.stderr
    second = run("weights", "get", "ViT-B-16:openai")
    assert (second.stdout, second.stderr) == (first.stdout, "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ViT-B-16:openai",
            "cannot be downloaded.\nDownloads are switched off: HF_HUB_OFFLINE is set.\n",
        ),
        ("hf:a/b", "hf:a/b is not in the caches"),
        ("ViT-B-16", "is an architecture without a tag"),
        ("hf:a", "Use hf:OWNER/REPO"),
        ("nowhere.pt", "There is no file or folder nowhere.pt"),
    ],
)
def test_get_reports_errors(name: str, message: str, home: Path) -> None:
    result = run("weights", "get", name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_tag_without_weights_downloads_the_default(downloadable: Path, photo: Path) -> None:
    result = run("tag", photo, "-w", "cat", "--precision", "float32")
    assert result.exit_code == 0, result.output
    assert downloadable.is_file()
    assert f"ViT-B-16:openai: downloading to {downloadable}" in result.stderr
    assert "quickgelu, float32 on" in result.stderr  # known, not assumed


@pytest.mark.parametrize("command", ["tag", "mask"])
def test_offline_error_names_both_alternatives(command: str, home: Path, photo: Path) -> None:
    more = ("-o", home / "out") if command == "mask" else ()
    result = run(command, photo, "-w", "cat", *more)
    assert result.exit_code == 2
    assert "HF_HUB_OFFLINE" in result.stderr
    assert "Give a file: --weights PATH. Or try the bundled model: --weights miniature." in result.stderr


def test_check_describes_weights(home: Path, sclip_weights: Path) -> None:
    result = run("weights", "check", sclip_weights)
    assert result.exit_code == 0, result.output
    for part in (
        "format      state dict",
        f"sha256      {hashlib.sha256(sclip_weights.read_bytes()).hexdigest()}\n",
        "224 x 224 pixels, patches of 16, 4 layers of width 128",
        "3 layers of width 128",
        "quickgelu (assumed)",
        "0.2758 (assumed)",
    ):
        assert part in result.stdout


def test_check_compares_with_the_published_hash(downloadable: Path, sclip_weights: Path) -> None:
    assert "weights get ViT-B-16:openai" in run("weights", "check", "ViT-B-16:openai").stdout
    run("weights", "get", "ViT-B-16:openai")
    good = run("weights", "check", "ViT-B-16:openai")
    assert good.exit_code == 0, good.stdout
    assert "(as published)" in good.stdout
    assert "quickgelu (the name ViT-B-16:openai)" in good.stdout
    tensors = torch.load(sclip_weights, weights_only=True)
    torch.save({**tensors, "logit_scale": tensors["logit_scale"] + 1}, downloadable)
    bad = run("weights", "check", "ViT-B-16:openai")
    assert bad.exit_code == 1
    assert "! The SHA-256 starts with" in bad.stdout


def test_check_finds_faulty_weights(home: Path, sclip_weights: Path, tmp_path: Path) -> None:
    tensors = torch.load(sclip_weights, weights_only=True)
    with_nan = {k: t.clone() for k, t in tensors.items()}
    with_nan["visual.proj"][0, 0] = float("nan")
    torch.save(with_nan, tmp_path / "nan.pt")
    save_file({k: t.contiguous() for k, t in tensors.items()}, tmp_path / "good.safetensors")
    shutil.copy(sclip_weights, home / ".cache" / "clip" / "ViT-B-32.pt")
    (tmp_path / "empty.pt").touch()
    result = run(
        "weights",
        "check",
        tmp_path / "nan.pt",
        tmp_path / "good.safetensors",
        "ViT-B-32:openai",
        "empty.pt",
    )
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if line.startswith("!")]
    assert len(lines) == 4, result.stdout
    assert "holds NaN or infinite values, in visual.proj" in lines[0]
    assert "The SHA-256 starts with" in lines[1]
    assert "patches of 16 in images of 224 pixels; ViT-B-32:openai has patches of 32" in lines[2]
    assert "There is no file empty.pt" in lines[3]


def test_doctor_lists_cached_names(home: Path, sclip_weights: Path) -> None:
    base = home / "hf" / "hub" / "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("abc")
    folder = base / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text("{}")
    (folder / "open_clip_model.safetensors").write_text("x")
    result = run("doctor")
    assert result.exit_code == 0
    assert f"ViT-B-16:laion2b_s34b_b88k: {folder}" in result.stdout
    assert "none: HF_HUB_OFFLINE is set" in result.stdout


def test_download_progress_is_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(downloads, "_SECONDS_BETWEEN_LINES", 0.0)
    with download_progress() as show:
        show("ViT.pt", 12_000_000, 351_000_000)
        show("ViT.pt", 351_000_000, None)
    assert capsys.readouterr() == ("", "ViT.pt: 12 of 351 MB\nViT.pt: 351 MB\n")


def test_download_progress_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with download_progress() as show:
        assert capsys.readouterr() == ("", "")
        show("ViT.pt", 12_000_000, 351_000_000)
        show("ViT.pt", 351_000_000, 351_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "ViT.pt" in err
    assert "351.0" in err
