"""The command line end to end: output, files, exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask import __version__
from tagmask.catalogue import method_names
from tagmask.masks import read_index_png
from tests.cli.running import run


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tagmask.cli.main import app;"
        "result = CliRunner().invoke(app, ['--help']); print(result.stdout);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules or 'PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tag" in done.stdout
    assert "mask" in done.stdout


def test_version() -> None:
    assert run("--version").stdout == f"tagmask {__version__}\n"


def test_tag_prints_all_scores_and_the_threshold(photos: Path, tagclip_weights: Path) -> None:
    result = run("tag", photos, "-w", "cat", "-w", "dog, puppy", "--weights", tagclip_weights)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{photos / 'a.jpg'}: ")
    assert [line.split()[1] for line in lines[1:4]].count("----") == 1
    assert {line.split()[1] for line in lines[1:4]} == {"cat", "dog", "----"}
    assert "2 of 2 images done" in result.stderr
    assert "chosen by --precision auto" in result.stderr


def test_tag_writes_json_lines(photos: Path, tagclip_weights: Path, tmp_path: Path) -> None:
    (photos / "c.jpg").write_text("no image")
    out = tmp_path / "new" / "tags.jsonl"
    options = ("-w", "cat", "-w", "dog", "--weights", tagclip_weights, "--precision", "float32")
    result = run("tag", photos, *options, "--json", "--out", out)
    assert result.exit_code == 1
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [json.loads(line) for line in result.stdout.splitlines()] == records
    assert [Path(record["path"]).name for record in records] == ["a.jpg", "c.jpg", "b.png"]
    assert set(records[0]) == {"path", "tags", "scores", "threshold"}
    assert set(records[0]["scores"]) == {"cat", "dog"}
    assert set(records[1]) == {"path", "error"}
    assert f"failed: {photos / 'c.jpg'}" in result.stderr
    assert "2 of 3 images done, 1 failed" in result.stderr
    assert not list(out.parent.glob("*.partial"))


def test_several_workers_give_the_results_of_one(
    photos: Path, tagclip_weights: Path, sclip_weights: Path, tmp_path: Path
) -> None:
    (photos / "c.jpg").write_text("no image")
    words = ("-w", "cat", "-w", "dog", "--precision", "float32")
    tags, masks = [], []
    for number in (1, 3):
        result = run("tag", photos, *words, "--weights", tagclip_weights, "--json", "--workers", number)
        tags.append([json.loads(line) for line in result.stdout.splitlines()])
        out = tmp_path / str(number)
        assert run(
            "mask", photos, *words, "--weights", sclip_weights, "-o", out, "--workers", number
        ).exit_code
        masks.append({path.name: read_index_png(path) for path in (out / "masks").rglob("*.png")})
    assert [list(record) for record in tags[0]] == [list(record) for record in tags[1]]
    for single, parallel in zip(*tags, strict=True):
        assert single["path"] == parallel["path"]
        assert single.get("scores") == pytest.approx(parallel.get("scores"), abs=1e-5)
    assert masks[0].keys() == masks[1].keys()
    assert len(masks[0]) == 2
    for name, mask in masks[0].items():  # threads sum in another order, which may flip near ties
        assert (mask == masks[1][name]).mean() > 0.99


def test_mask_writes_masks_overlays_and_classes(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("mask", photos, "-w", "cat", "-w", "dog, puppy", "--weights", sclip_weights, "-o", out)
    assert result.exit_code == 0, result.output
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    outputs = ["masks/a.png", "masks/sub/b.png", "overlays/a.jpg", "overlays/sub/b.jpg"]
    expected = ["classes.json", *outputs, "run.db", "run.json"]
    assert files == sorted(str(Path(name)) for name in expected)
    classes = json.loads((out / "classes.json").read_text())
    assert [entry["name"] for entry in classes["classes"]] == ["background", "cat", "dog"]
    fields = json.loads((out / "run.json").read_text())["fields"]
    assert fields["words"] == ["cat", "dog, puppy"]
    assert fields["settings"]["method"] == "sclip"
    with PILImage.open(out / "masks" / "sub" / "b.png") as mask:
        assert (mask.mode, mask.size) == ("P", (200, 320))
        assert int(np.array(mask).max()) <= 2
    assert result.stdout.count("->") == 2


def test_mask_without_overlays(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    run("mask", photos, "-w", "cat", "--weights", sclip_weights, "-o", tmp_path / "out", "--no-overlay")
    assert not (tmp_path / "out" / "overlays").exists()
    assert (tmp_path / "out" / "masks" / "a.png").exists()


def test_threshold_and_background_options(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    def labels(name: str, *options: str) -> set[int]:
        out = tmp_path / name
        result = run("mask", photos / "a.jpg", "-w", "cat", "--weights", sclip_weights, "-o", out, *options)
        assert result.exit_code == 0, result.output
        return set(np.unique(np.array(PILImage.open(out / "masks" / "a.png"))).tolist())

    assert labels("high", "--threshold", "1") == {0}
    assert labels("none", "--no-background") == {0}
    names = json.loads((tmp_path / "none" / "classes.json").read_text())["classes"]
    assert [entry["name"] for entry in names] == ["cat"]
    labels("custom", "-b", "wall", "-b", "grass")
    fields = json.loads((tmp_path / "custom" / "run.json").read_text())["fields"]
    assert fields["background"] == ["wall", "grass"]


def test_recipe_includes_words(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--recipe", "sclip/voc20", "--method", "maskclip", "--weights", sclip_weights, "-o", out)
    assert run("mask", photos / "a.jpg", *options).exit_code == 0
    assert json.loads((out / "classes.json").read_text())["classes"][0]["name"] == "aeroplane"
    assert json.loads((out / "run.json").read_text())["fields"]["settings"]["method"] == "maskclip"


def test_words_from_a_file(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cat\n\ndog, puppy\n")
    result = run(
        "tag", photos / "a.jpg", "-w", f"@{words}", "-w", "cow", "--weights", sclip_weights, "--json"
    )
    assert list(json.loads(result.stdout)["scores"]) == ["cat", "dog", "cow"]


def test_comma_without_space_gives_a_note(photos: Path, sclip_weights: Path) -> None:
    result = run("tag", photos / "a.jpg", "-w", "dog,puppy", "--weights", sclip_weights)
    assert result.exit_code == 0
    assert "CLIP reads 'dog,puppy' as one text" in result.stderr


def test_weights_from_the_environment(
    photos: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(sclip_weights))
    assert run("tag", photos / "a.jpg", "-w", "cat").exit_code == 0


def test_missing_weights_are_reported_with_alternatives(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    result = run("tag", photos, "-w", "cat")
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "tagmask: ViT-B-16:openai is not in the caches and cannot be downloaded.\n"
        "Downloads are switched off: HF_HUB_OFFLINE is set.\n"
        "Give a file: --weights PATH. Or try the bundled model: --weights miniature.\n"
    )
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tag", "{photos}"), "No words are given. Give -w cat -w dog"),
        (("tag", "{photos}", "-w", "@{photos}/empty.txt"), "empty.txt is empty"),
        (("tag", "{photos}", "-w", "@~nobody-here/x.txt"), "cannot be read"),
        (
            ("tag", "{photos}", "-w", "cat", "--format", "json", "--out", "{photos}"),
            "is a folder. Give a file",
        ),
        (("tag", "{photos}", "-w", "cat", "--format", "json", "--out", "."), ". is a folder. Give a file"),
        (("tag", "{photos}", "-w", "cat", "--device", "meta"), "Cannot use device 'meta'"),
        (("tag", "{photos}", "-w", "cat", "--weights", "~nobody-here/x.pt"), "~nobody-here/x.pt"),
        (("tag", "{photos}/nowhere", "-w", "cat"), "nowhere"),
        (("tag", "{photos}/empty", "-w", "cat"), "No images in"),
        (("tag", "{photos}", "-w", "@nowhere.txt"), "The words file nowhere.txt cannot be read"),
        (("tag", "{photos}", "-w", "cat", "-b", "wall", "--no-background"), "exclude each other"),
        (("tag", "{photos}", "-w", "cat", "--weights", "{photos}/a.jpg"), "a.jpg"),
        (("tag", "{photos}", "-w", "cat", "--recipe", "tagclip/voc"), "Did you mean tagclip/voc2"),
        (("tag", "{photos}", "-w", "cat", "--min-score", "7"), "min_score"),
        (("tag", "{photos}", "-w", "cat", "--device", "gpu"), "Unknown device 'gpu'"),
        (("mask", "{photos}", "-w", "cat"), "--out"),
        (
            ("mask", "{photos}", "-w", "cat", "-o", "{photos}/o", "--method", "slip"),
            "Unknown method 'slip'",
        ),
        (("mask", "{photos}", "-w", "cat", "-o", "{photos}/a.jpg"), "a.jpg"),
    ],
)
def test_usage_errors_exit_2_with_one_message(
    arguments: tuple[str, ...],
    message: str,
    photos: Path,
    sclip_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (photos / "empty").mkdir()
    (photos / "empty.txt").write_text("\n \n")
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(sclip_weights))
    monkeypatch.setenv("TERM", "dumb")
    result = run(*(argument.format(photos=photos) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_bad_files_do_not_stop_the_others(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    write_bad_files(photos)
    result = run("mask", photos, "-w", "cat", "--weights", sclip_weights, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert (tmp_path / "out" / "masks" / "a.png").exists()
    assert (tmp_path / "out" / "masks" / "sub" / "b.png").exists()
    failed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 4
    assert re.search(r"2 of 6 images done in .* s, 4 failed", result.stderr)
    assert not [
        path for path in (tmp_path / "out").rglob("*") if "tmp" in path.name or path.suffix == ".part"
    ]


def write_bad_files(folder: Path) -> None:
    (folder / "empty.jpg").touch()
    (folder / "page.png").write_text("<!doctype html><title>404</title>")
    content = (folder / "a.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    (folder / "noise.webp").write_bytes(bytes(range(256)) * 20)


def test_second_run_does_not_mask_its_output(photos: Path, sclip_weights: Path) -> None:
    for summary in ("2 of 2 images done in", "0 of 2 images done, 2 were done before"):
        result = run("mask", photos, "-w", "cat", "--weights", sclip_weights, "-o", photos)
        assert summary in result.stderr
    again = run("mask", photos / "masks", "-w", "cat", "--weights", sclip_weights, "-o", photos)
    assert again.exit_code == 2
    assert "Give the photos themselves" in again.stderr


def test_no_output_is_not_reported_as_written(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    result = run(
        "mask", tmp_path / "bad.jpg", "-w", "cat", "--weights", sclip_weights, "-o", tmp_path / "out"
    )
    assert result.exit_code == 1
    assert "0 of 1 images done, 1 failed" in result.stderr
    assert "written to" not in result.stderr


def test_methods_command_lists_every_method() -> None:
    listing = run("methods").stdout
    assert [line.split()[0] for line in listing.splitlines()] == list(tagmask.methods())
    assert set(method_names("masks")) < set(tagmask.methods())
    assert "`tagmask methods`" in " ".join(run("mask", "--help").stdout.replace("│", " ").split())


def test_corrected_top_and_activation(photos: Path, tagclip_weights: Path) -> None:
    options = (
        "--recipe",
        "tagclip/voc2012",
        "--weights",
        tagclip_weights,
        "--json",
        "--precision",
        "float32",
    )

    def scores(*more: str) -> tuple[dict[str, object], str]:
        done = run("tag", photos / "a.jpg", *options, *more)
        return json.loads(done.stdout), done.stderr

    plain, stderr = scores()
    assert "(assumed)" in stderr
    assert scores("--as", "published")[0] == plain
    assert scores("--as", "corrected")[0]["scores"] != plain["scores"]
    assert scores("--activation", "gelu")[0]["scores"] != plain["scores"]
    top, stderr = scores("--top", "1", "--activation", "quickgelu")
    assert top["scores"] == plain["scores"]
    assert len(top["tags"]) == 1
    assert "(assumed)" not in stderr


def test_new_words_are_announced_once(photos: Path, sclip_weights: Path) -> None:
    arguments = ("tag", photos / "a.jpg", "-w", "zebra crossing", "--weights", sclip_weights)
    assert "encoding" in run(*arguments).stderr
    assert "encoding" not in run(*arguments).stderr
