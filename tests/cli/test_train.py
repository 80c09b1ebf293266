"""`tagmask train` end to end: output, files, exit codes and resuming."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from tagmask import Run
from tagmask.clip.load import load
from tagmask.masks import index_png, read_index_png
from tagmask.pipelines.head import Head, write_head
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import MaskRecipe
from tagmask.weak import run_all
from tagmask.weak import seeds as weak_seeds
from tagmask.weak.mask_folder import words_of
from tagmask.weak.training_folder import read_metadata
from tests.cli.conftest import wait_until_done
from tests.cli.running import train

QUICK = [
    *("--set", "steps=2", "--set", "batch=2", "--set", "crop=64", "--set", "base_short=64"),
    *("--set", "loss.size=16", "--set", "log_every=1", "--set", "picture_every=1"),
    *("--set-student", "steps=2", "--set-student", "batch=2", "--set-student", "crop=64"),
    *("--scales", "0.5", "--no-flip", "--crf", "none"),
]


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    PILImage.fromarray(shapes[2][:96, :120]).save(folder / "a.png")
    PILImage.fromarray(shapes[1][:100, :90]).save(folder / "sub" / "b.png")
    return folder


def test_help_names_the_steps_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tagmask.cli.main import app;"
        "result = CliRunner().invoke(app, ['train', '--help']); print(result.stdout);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules or 'PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(step in done.stdout for step in ("seeds", "weakclip", "pseudo", "student", "all"))


def test_seeds_from_words_are_made_once(photos: Path, tmp_path: Path) -> None:
    command = ("seeds", photos, "-o", tmp_path / "seeds", "-w", "dog", "-w", "tree", "--weights", "miniature")
    result = train(*command)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'seeds' / 'masks'}\n"
    assert words_of(tmp_path / "seeds") == ("background", "dog", "tree")
    mask = tmp_path / "seeds" / "masks" / "sub" / "b.png"
    assert read_index_png(mask).shape == (100, 90)
    before = mask.stat().st_mtime_ns
    again = train(*command)
    assert again.exit_code == 0, again.output
    assert "2 of 2 were done." in again.stderr
    assert mask.stat().st_mtime_ns == before
    other = train(*command, "--method", "sclip")
    assert other.exit_code == 2
    assert "holds a run with other settings" in other.stderr
    assert "settings.method was cls-seg, is sclip" in other.stderr


def test_bad_image_is_reported_and_the_others_succeed(photos: Path, tmp_path: Path) -> None:
    (photos / "c.jpg").write_text("no image")
    result = train("seeds", photos, "-o", tmp_path / "seeds", "-w", "dog", "--weights", "miniature")
    assert result.exit_code == 1
    assert "c.jpg" in result.stderr
    assert ", 1 failed." in result.stderr


def test_seeds_stop_at_a_signal_and_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("a", (96, 120)), ("b", (100, 90))):
        (tmp_path / "old").mkdir(exist_ok=True)
        (tmp_path / "old" / f"{name}.png").write_bytes(index_png(np.ones(size, np.uint8)))
    command = ("seeds", photos, "-o", tmp_path / "seeds", "-w", "cat", "--masks", tmp_path / "old")
    real = weak_seeds.read_mask

    def stopping(file: Path, classes: int) -> np.ndarray:
        if file.name == "b.png":
            wait_until_done(tmp_path / "seeds", 1)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
        return real(file, classes)

    monkeypatch.setattr(weak_seeds, "read_mask", stopping)
    stopped = train(*command)
    assert stopped.exit_code == 143, stopped.output
    assert "run the same command to go on" in stopped.stderr
    monkeypatch.undo()
    again = train(*command)
    assert again.exit_code == 0, again.output
    assert "1 of 2 were done." in again.stderr


def test_seeds_from_activation_maps_choose_a_threshold(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "cams").mkdir()
    (tmp_path / "truth").mkdir()
    for name, size in (("a", (96, 120)), ("b", (100, 90))):
        ramp = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
        np.save(tmp_path / "cams" / f"{name}.npy", np.array({0: ramp}, object))
        (tmp_path / "truth" / f"{name}.png").write_bytes(index_png((ramp > 0.302).astype(np.uint8)))
    command = ("seeds", photos, "-o", tmp_path / "seeds", "-w", "cat", "--cams", tmp_path / "cams")
    result = train(*command, "--truth", tmp_path / "truth")
    assert result.exit_code == 0, result.output
    assert "Threshold 0.30 has the best mIoU of 60 thresholds, 99" in result.stderr
    assert read_index_png(tmp_path / "seeds" / "masks" / "a.png").mean() == pytest.approx(0.7, abs=0.01)
    without = train(*command)
    assert without.exit_code == 2
    assert "Give --threshold T, or --truth DIR" in without.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cams", "x", "--masks", "y"], "--cams and --masks exclude each other"),
        (["--threshold", "0.3"], "Give --cams DIR too"),
        (["--recipe", "cls-seg/voc2012", "--masks", "y"], "have no class names"),
    ],
)
def test_options_that_exclude_each_other(photos: Path, options: list[str], message: str) -> None:
    words = [] if "--recipe" in options else ["-w", "cat"]
    result = train("seeds", photos, "-o", photos.parent / "seeds", *words, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_mistyped_settings_are_refused_at_once(photos: Path, tmp_path: Path) -> None:
    result = train("weakclip", "-o", tmp_path / "run", "--set", "optimiser.lrr=1")
    assert result.exit_code == 2
    assert "Did you mean optimiser.lr?" in result.stderr
    result = train("student", "-o", tmp_path / "run", "--config", "student/smal")
    assert "Did you mean student/small?" in result.stderr
    out = tmp_path / "out"
    result = train("all", photos, "-w", "dog", "--weights", "miniature", "-o", out, "--set-student", "stps=1")
    assert result.exit_code == 2
    assert "Did you mean steps?" in result.stderr
    assert not out.exists()


def test_all_steps_run_once_and_resume(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("all", photos, "-w", "dog", "-w", "tree", "--weights", "miniature", "-o", out, *QUICK)
    result = train(*command)
    assert result.exit_code == 0, result.output
    assert "WeakCLIP: step 2 of 2, " in result.stderr
    assert "images/s, 00:00:00 left" in result.stderr
    assert (out / "weakclip" / "pictures" / "step-000001.jpg").exists()
    page = (out / "report.html").read_text()
    assert page.count("<article") == 2
    assert "WeakCLIP: loss" in page
    assert all(f'value="{by}"' in page for by in ("student", "pseudo-masks", "seeds"))
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    times |= {file: file.stat().st_mtime_ns for file in out.rglob("masks/*.png")}
    (out / "pseudo" / "masks" / "a.png").unlink()  # as if interrupted
    del times[out / "pseudo" / "masks" / "a.png"]
    again = train(*command)
    assert again.exit_code == 0, again.output
    assert (out / "pseudo" / "masks" / "a.png").exists()
    assert {file: file.stat().st_mtime_ns for file in times} == times


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "loss.size=256"], "loss.size is 256. Give a whole number, from 1 to 128"),
        (["--set", "loss.field=nope"], "Unknown loss.field 'nope'. Give one of cls-seg, deeplab"),
        (["--set", "loss.kernel=nope"], "Unknown loss.kernel 'nope'. Give one of exact, lattice"),
        (["--set", "run.device=nope"], "Unknown device 'nope'"),
        (["--set", "crop=8"], "WeakCLIP cannot be trained on 8 crops of 8 x 8 pixels"),
        (["--set", "contexts=64", "-w", "a " * 30], "The names with their contexts need"),
        (["--set", 'words=["background", "dog"]'], "model.words has 2 words, but "),
        (["--set", 'lists=["none.txt"]'], "The list none.txt cannot be read"),
        (["--set", "model.kind=small"], "Unknown model.kind 'small'. Give one of weakclip."),
        (["--set-student", "model.kind=nope"], "Unknown model.kind 'nope'. Give one of weakclip, small"),
        (["--set-student", "model.kind=weakclip"], "Unknown model.kind 'weakclip'. Did you mean clip? Give"),
        (["--set-student", "run.device=nope"], "Unknown device 'nope'"),
        (["--set-student", "crop=1", "--set-student", "batch=1", "--student", "student/small"],
         "The student 'small' cannot be trained on 1 crops of 1 x 1 pixels"),
        (["--set-student", 'words=["background", "dog"]'], "model.words has 2 words, but "),
        (["--student", "student/deeplab", "--set-student", "weights=none.pth"], "none.pth"),
        (["--set-student", "model.kind=small"], "starts from random weights, not from miniature"),
        (["--set-student", "weights=none.safetensors"], "none.safetensors"),
        (["--tags-file", "none.txt"], "Tag file none.txt cannot be read"),
        (["--crf", "nope"], "Unknown crf 'nope'. Give one of cls-seg, deeplab"),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused_before_the_first_step(
    photos: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    out = tmp_path / "out"
    result = train("all", photos, "-w", "dog", "-w", "tree", "--weights", "miniature", "-o", out, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "1 of 6" not in result.stderr
    assert not out.exists()


def test_student_without_its_package_is_refused_before_the_first_step(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None)
    command = ("all", photos, "-w", "dog", "--weights", "miniature", "-o", tmp_path / "out")
    result = train(*command, "--student", "student/segformer-b0")
    assert result.exit_code == 2
    assert "pip install 'tagmask[students]'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_skipped_export_is_announced_before_the_first_step(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_all, "missing_packages", lambda extra: ("onnx", "onnxscript"))
    out = tmp_path / "out"
    result = train("all", photos, "-w", "dog", "-w", "tree", "--weights", "miniature", "-o", out, *QUICK)
    assert result.exit_code == 0, result.output
    before, _, after = result.stderr.partition("1 of 6")
    assert "The student will not be exported: onnx, onnxscript is not installed" in before
    assert "pip install 'tagmask[export]'" in before
    assert "exported" not in after
    assert not (out / "export").exists()
    assert (out / "report.html").exists()


def test_clip_fixed_masks_untrained(photos: Path, tmp_path: Path) -> None:
    """The paper's ablation row "CLIP fixed"; "CLIP unfixed" does train."""
    seeds, ablation = tmp_path / "seeds", ("co_attention=false", 'decoder="none"', "contexts=0")
    words = ("-w", "dog", "-w", "tree", "--weights", "miniature")
    assert train("seeds", photos, "-o", seeds, *words).exit_code == 0
    small = [*ablation, "steps=2", "batch=2", "crop=64", "base_short=64", "loss.size=16"]
    command = ["weakclip", "--config", "weakclip/miniature", "--images", photos, "--seeds", seeds]
    command += [argument for change in small for argument in ("--set", change)]
    fixed = train(*command, "-o", tmp_path / "fixed", "--weights", "miniature")
    assert fixed.exit_code == 0, fixed.output
    assert fixed.stderr.count("Nothing to train: ") == 1
    assert read_metadata(tmp_path / "fixed", "weakclip")["steps"] == 0
    unfixed = train(*command, "-o", tmp_path / "unfixed", "--weights", "miniature", "--set", "freeze=none")
    assert unfixed.exit_code == 0, unfixed.output
    assert read_metadata(tmp_path / "unfixed", "weakclip")["steps"] == 2
    assert "Nothing to train" not in unfixed.stderr
    for name in ("fixed", "unfixed"):
        masks = tmp_path / f"masks-{name}"
        command = ("pseudo", photos, "--model", tmp_path / name, "-o", masks, "--scales", "0.5", "--no-flip")
        result = train(*command, "--crf", "none")
        assert result.exit_code == 0, result.output
        assert read_index_png(masks / "masks" / "a.png").shape == (96, 120)


def test_training_is_validated_and_the_best_model_kept(photos: Path, tmp_path: Path) -> None:
    val, masks = tmp_path / "val", tmp_path / "masks"
    masks.mkdir()
    (val / "images").mkdir(parents=True)
    (val / "masks").mkdir()
    (val / "classes.txt").write_text("background\ncat\n")
    for name, size in (("a", (96, 120)), ("b", (100, 90))):
        (masks / f"{name}.png").write_bytes(index_png(np.ones(size, np.uint8)))
        (val / "masks" / f"{name}.png").write_bytes(index_png(np.ones(size, np.uint8)))
    for photo in photos.rglob("*.png"):
        (val / "images" / photo.name).write_bytes(photo.read_bytes())
    quick = ["steps=3", "batch=2", "crop=64", "log_every=1", "workers=0", 'words=["background", "cat"]']
    command = ["student", "--images", photos, "--masks", masks, "--val-every", 2, "-o", tmp_path / "student"]
    command += [argument for change in quick for argument in ("--set", change)]
    wrong = train(*command, "--val", "miniature/test")
    assert wrong.exit_code == 2
    assert "The model has 2 classes, miniature test has 25" in wrong.stderr
    assert not (tmp_path / "student").exists()
    result = train(*command, "--val", val)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Validation after step")]
    assert [line.split(":")[0] for line in lines] == ["Validation after step 2", "Validation after step 3"]
    assert f"on {val}, the first" in lines[0]
    assert (tmp_path / "student" / "best.safetensors").exists()
    assert (tmp_path / "student" / "validation.csv").read_text().startswith("step,miou\n2,")
    alone = train(*command, "--val-data", val)
    assert "--val-data needs --val" in alone.stderr


def test_describe_prints_costs_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["steps=7", "batch=2", "crop=64", "base_short=64", "loss.size=16", 'words=["background", "dog"]']
    command = ["weakclip", "--config", "weakclip/miniature", "--weights", "miniature"]
    command += [argument for change in quick for argument in ("--set", change)]
    result = train(*command, "--describe")
    assert result.exit_code == 0, result.output
    assert "trainable of" in result.stdout
    assert "steps       7 of 2 crops" in result.stdout
    assert "GFLOPs" in result.stdout
    assert not list(tmp_path.iterdir())
    without = train(*command)
    assert without.exit_code == 2
    assert "No output folder is given. Give -o DIR." in without.stderr
    unnamed = train("weakclip", "--config", "weakclip/miniature", "--describe")
    assert unnamed.exit_code == 2
    assert "Give model.words, the background first" in unnamed.stderr


def test_output_folder_inside_the_images_is_refused(photos: Path) -> None:
    (photos / "out").mkdir()
    PILImage.new("RGB", (9, 9)).save(photos / "out" / "x.png")
    result = train("all", photos, "-w", "dog", "--weights", "miniature", "-o", photos / "out")
    assert result.exit_code == 2
    assert "contains some of the images" in result.stderr


def test_seeds_with_a_head(photos: Path, tmp_path: Path) -> None:
    """The head reaches the segmenter and the identity of the run; sources without a CLIP refuse it."""
    clip = load("miniature", precision="float32")
    recipe = mask_recipe(None, ["dog"], None, None, {"method": "sclip"}, clip.background)
    assert isinstance(recipe, MaskRecipe)
    matrix = torch.zeros(clip.geometry.embed, 2)
    matrix[:, 1] = torch.linspace(-30, 30, len(matrix))
    write_head(Head.of(matrix, clip, recipe, penalty=1.0, images=1), tmp_path / "head.safetensors")
    common = (photos, "-w", "dog", "--weights", "miniature", "--method", "sclip", "--precision", "float32")
    for name, more in (("plain", ()), ("head", ("--head", tmp_path / "head.safetensors"))):
        done = train("seeds", *common, "-o", tmp_path / name, *more)
        assert done.exit_code == 0, done.output
    plain, head = (read_index_png(tmp_path / name / "masks" / "a.png") for name in ("plain", "head"))
    assert not np.array_equal(plain, head)
    with Run(tmp_path / "head") as read:
        assert "head" in read.identity.fields
    refused = train("seeds", photos, "-o", tmp_path / "m", "-w", "dog", "--masks", photos, "--head", "h.st")
    assert "--head corrects the scores of a CLIP" in refused.stderr
