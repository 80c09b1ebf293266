"""`run_all` as a library function: it prints nothing and returns all outputs."""

from pathlib import Path

import pytest
from PIL import Image as PILImage

import tagmask
from tagmask.errors import InputError
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.weak import run_all as module
from tagmask.weak.config_files import load_config
from tagmask.weak.run_all import RunFolders, RunOptions, run_all
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.steps import PseudoSettings

QUICK = ["steps=2", "batch=2", "crop=64", "base_short=64", "warmup=0", "device=cpu"]


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    images, folders = tmp_path / "images", RunFolders(tmp_path / "out")
    images.mkdir()
    for seed in (1, 2):
        PILImage.fromarray(unseen_scene(seed).image).resize((96, 80)).save(images / f"{seed}.png")
    first = [*QUICK, "loss.size=16", "weights=miniature", f"images={images}", f"data.seeds={folders.seeds}"]
    second = [*QUICK, f"images={images}", f"data.seeds={folders.pseudo}"]
    return RunOptions(
        images=images,
        out=folders.out,
        seeds=SeedOptions(("tree", "dog"), settings={"method": "cls-seg"}),
        weakclip=load_config("weakclip/miniature", first),
        student=load_config("student/small", second),
        pseudo=PseudoSettings((0.5,), flip=False, crf=None),
        device="cpu",
        precision="float32",
    )


def test_the_result_lists_all_outputs(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "missing_packages", lambda extra: ("onnx",))
    result = run_all(options, lambda: tagmask.load("miniature", device="cpu", precision="float32"))
    assert (result.images, result.failed, result.onnx) == (2, 0, None)
    assert result.student == options.out / "student" / "model.safetensors"
    assert result.student.exists()
    assert result.report.exists()
    assert list(result.seconds) == list(module.STEPS)
    assert capfd.readouterr().out == ""


def test_the_clip_is_loaded_once_and_before_the_first_step(options: RunOptions) -> None:
    def fail() -> tagmask.Clip:
        raise InputError("no weights here")

    with pytest.raises(InputError, match="no weights here"):
        run_all(options, fail)
    assert not options.out.exists()
