"""From images with seeds to a student, in a few training steps each, on synthetic scenes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file

from tagmask.clip.load import load
from tagmask.errors import InputError
from tagmask.masks import index_png, read_index_png
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.runtime.folders import find_images
from tagmask.weak import steps
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config, with_settings
from tagmask.weak.loop import Report
from tagmask.weak.mask_folder import mask_files, words_of, write_masks
from tagmask.weak.seeds import from_masks
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.student_file import load_student
from tagmask.weak.tasks import WeakClipTask

WORDS = ("background", *CLASS_NAMES)
QUICK = ["steps=2", "batch=2", "crop=64", "base_short=64", "base_long=128", "warmup=0", "device=cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes in images/, and their ground-truth masks, used as seeds, in seeds/."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "truth").mkdir()
    for seed in (1, 2, 3):
        scene = unseen_scene(seed)
        PILImage.fromarray(scene.image).save(folder / "images" / f"{seed}.png")
        labels = np.where(scene.labels < len(WORDS), scene.labels, 0).astype(np.uint8)
        (folder / "truth" / f"{seed}.png").write_bytes(index_png(labels))
    images = find_images([folder / "images"])
    assert all(
        not o.error
        for o in write_masks(images, from_masks(images, folder / "truth", WORDS), folder / "seeds")
    )
    return folder


def config(data: Path, name: str, masks: str, *changes: str) -> TrainConfig:
    places = [f"images={data / 'images'}", f"data.seeds={data / masks}"]
    return with_settings(load_config(name), [*QUICK, *places, *changes])


def test_from_seeds_to_a_student(data: Path) -> None:
    reports: list[Report] = []
    weak = config(
        data, "weakclip/miniature", "seeds", "log_every=1", "views=1", "cache_gb=1", "picture_every=2"
    )
    train_weakclip(weak, data / "weakclip", reports.append)
    assert [report.step for report in reports] == [1, 2]
    assert set(reports[0].losses) == {"seed", "crf", "contrast", "total"}
    assert list((data / "weakclip" / "features").rglob("*.safetensors"))
    assert list((data / "weakclip" / "pictures").iterdir())

    images = find_images([data / "images"])
    source = pseudo_source(data / "weakclip", PseudoSettings(scales=(1.0,), crf=None), device="cpu")
    assert all(outcome.error is None for outcome in write_masks(images, source, data / "pseudo"))
    assert words_of(data / "pseudo") == WORDS
    mask = read_index_png(data / "pseudo" / "masks" / "1.png")
    assert mask.shape == read_index_png(data / "truth" / "1.png").shape

    train_student(config(data, "student/small", "pseudo"), data / "student")
    trained = load_student(data / "student" / "model.safetensors")
    assert trained.card.words == WORDS
    assert trained.card.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(data: Path, tmp_path: Path, precision: str) -> None:
    changes = [f"precision={precision}", "steps=3", "checkpoint_every=1"]

    def stop(report: Report) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    weak = config(data, "weakclip/miniature", "seeds", *changes, "log_every=1")
    with pytest.raises(KeyboardInterrupt):
        train_weakclip(weak, tmp_path / "stopped", stop)
    resumed, whole = (load_file(train_weakclip(weak, tmp_path / name)) for name in ("stopped", "whole"))
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("freeze", "precision", "expected"),
    [
        ("paper", "bfloat16", torch.bfloat16),
        ("paper", "float32", torch.float32),
        ("repo", "bfloat16", torch.float32),
    ],
)
def test_a_frozen_clip_is_loaded_in_the_precision_of_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freeze: str, precision: str, expected: object
) -> None:
    """A trained one keeps float32 weights."""
    tasks: list[WeakClipTask] = []

    def fit(task: WeakClipTask, *_: object, **__: object) -> Path:
        tasks.append(task)
        return tmp_path

    monkeypatch.setattr(steps, "fit", fit)
    changes = (f"precision={precision}", f"freeze={freeze}")
    train_weakclip(config(data, "weakclip/miniature", "seeds", *changes), tmp_path)
    assert tasks[0].model.vision.proj.dtype == expected
    assert tasks[0].model.contexts.dtype == torch.float32


def test_the_clip_student_starts_from_clips_tower(data: Path, tmp_path: Path) -> None:
    train_student(config(data, "student/miniature", "seeds"), tmp_path / "run")
    trained = load_student(tmp_path / "run" / "model.safetensors")
    clip = load("miniature", precision="float32")
    assert trained.card.mean == pytest.approx(clip.mean, abs=1e-6)
    table = trained.net.get_parameter("tower.positional_embedding")
    assert float((table - clip.vision.positional_embedding).abs().max()) < 1e-3  # two steps from it
    with pytest.raises(InputError, match="needs CLIP weights"):
        train_student(config(data, "student/clip", "seeds"), tmp_path / "other")


def test_pseudo_masks_of_given_tags_have_no_other_classes(data: Path, tmp_path: Path) -> None:
    if not (data / "weakclip" / "model.safetensors").exists():
        train_weakclip(config(data, "weakclip/miniature", "seeds"), data / "weakclip")
    tags = {"1": (3,), "2": (0, 5)}
    settings = PseudoSettings(scales=(1.0,), flip=False, crf="weakclip/voc")
    source = pseudo_source(data / "weakclip", settings, device="cpu", tags=tags)
    images = find_images([data / "images"])
    outcomes = list(write_masks(images, source, tmp_path))
    assert set(np.unique(read_index_png(tmp_path / "masks" / "1.png"))) <= {0, 4}
    assert set(np.unique(read_index_png(tmp_path / "masks" / "2.png"))) <= {0, 1, 6}
    assert "No tags given for the image '3'" in str(outcomes[2].error)
    assert [file is None for file in mask_files(tmp_path, images)] == [False, False, True]


@pytest.mark.parametrize(
    ("masks", "changes", "message"),
    [
        ("truth", [], "class names of the masks in .* are unknown"),
        ("seeds", ['words=["background", "dog"]'], "model.words has 2 words, but .* was made with"),
        ("truth", ['words=["background", "dog"]'], "3 of 3 seeds cannot be used: .*has label"),
        ("seeds", ["weights="], "model.weights is empty"),
        ("seeds", ["images="], r"data.images is empty\. Give a folder"),
    ],
)
def test_invalid_inputs_are_refused_before_training(
    data: Path, tmp_path: Path, masks: str, changes: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train_weakclip(config(data, "weakclip/miniature", masks, *changes), tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_an_unfinished_run_gives_no_pseudo_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contains no run\. Give the folder of a weakclip run"):
        pseudo_source(tmp_path, PseudoSettings())
