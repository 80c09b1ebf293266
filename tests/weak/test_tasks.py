"""WeakCLIP and students as tasks of the training loop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tagmask
from tagmask.weak import losses
from tagmask.weak.config import LossSettings, TrainConfig
from tagmask.weak.config_files import load_config, with_settings
from tagmask.weak.feature_cache import FeatureCache
from tagmask.weak.loop import Task
from tagmask.weak.model import WeakClip
from tagmask.weak.samples import Batch
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, load_student
from tagmask.weak.tasks import StudentTask, WeakClipTask, to_rgb

WORDS = ("background", "dog", "tree")


@pytest.fixture(scope="module")
def clip() -> tagmask.Tagger:
    return tagmask.load("miniature")  # type: ignore[return-value]


@pytest.fixture
def model(clip: tagmask.Tagger) -> WeakClip:
    return WeakClip.of(clip, WORDS)  # type: ignore[arg-type]


@pytest.fixture
def config(model: WeakClip) -> TrainConfig:
    base = load_config("weakclip/miniature", ["loss.size=16"])
    return replace(base, augment=replace(base.augment, mean=model.mean, std=model.std))


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((2, 3, 64, 64)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 64, 64))
    labels[:, :5] = 255
    return Batch(("a", "b"), torch.from_numpy(pixels), torch.from_numpy(labels))


def test_weakclip_task_losses_match_the_models(model: WeakClip, config: TrainConfig, batch: Batch) -> None:
    task = WeakClipTask(model, with_settings(config, ["contrast=0.3"]))
    assert isinstance(task, Task)
    model.eval()  # no dropout
    found = task.losses(batch)
    images = batch.pixels * torch.tensor(model.std)[:, None, None] + torch.tensor(model.mean)[:, None, None]
    rgb = images.round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(to_rgb(batch, config.augment), rgb)
    wanted = losses.total(model(batch.pixels), batch.labels, rgb, LossSettings(contrast=0.3, size=16))
    assert found.keys() == {"seed", "crf", "contrast", "total"}
    assert all(torch.allclose(found[name], wanted[name]) for name in found)


def test_only_grouped_weights_are_trained(model: WeakClip, config: TrainConfig) -> None:
    fixed = WeakClipTask(model, config).groups()
    grouped = {id(parameter) for group in fixed for parameter in group.parameters}
    assert grouped == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    trainable = WeakClipTask(model, with_settings(config, ["freeze=repo"])).groups()
    assert [group.factor for group in trainable] == [1.0, 0.0]


def test_cached_features_give_the_same_losses(
    model: WeakClip, config: TrainConfig, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = WeakClipTask(model, config)
    model.eval()
    wanted = plain.losses(batch)["total"]
    kept = WeakClipTask(model, config, FeatureCache(tmp_path, "miniature", 10**8))
    model.eval()
    first = kept.losses(batch)["total"]
    monkeypatch.setattr(model, "features", None)  # from here on all features must come from the cache
    again = kept.losses(batch)
    assert torch.allclose(first, wanted, rtol=1e-5)
    assert torch.equal(first, again["total"])
    again["total"].backward()
    assert model.gamma.grad is not None


def test_features_of_a_trained_clip_are_not_cached(
    model: WeakClip, config: TrainConfig, batch: Batch, tmp_path: Path
) -> None:
    task = WeakClipTask(model, with_settings(config, ["freeze=repo"]), FeatureCache(tmp_path, "x", 10**8))
    task.losses(batch)["total"].backward()
    assert not list(tmp_path.iterdir())
    assert model.vision.proj.grad is not None


def student(name: str = "small", **settings: int) -> TrainedStudent:
    torch.manual_seed(0)
    card = StudentCard(name, WORDS, True, settings)
    return TrainedStudent(card, build_student(name, 3, **settings))


def test_a_students_loss_is_cross_entropy_over_labelled_pixels(config: TrainConfig, batch: Batch) -> None:
    trained = student(width=8)
    task = StudentTask(trained, config)
    assert isinstance(task, Task)
    trained.net.eval()
    logits = torch.nn.functional.interpolate(trained.net(batch.pixels), size=(64, 64), mode="bilinear")
    summed, count = 0.0, 0
    for image, labels in zip(logits.log_softmax(dim=1).detach(), batch.labels, strict=True):
        for c in range(3):
            summed -= float(image[c][labels == c].sum())
            count += int((labels == c).sum())
    assert task.losses(batch)["total"].item() == pytest.approx(summed / count, rel=1e-5)


def test_a_batch_without_any_label_gives_zero_and_no_nan(config: TrainConfig, batch: Batch) -> None:
    unlabelled = Batch(batch.names, batch.pixels, torch.full_like(batch.labels, 255))
    task = StudentTask(student(width=8), config)
    loss = task.losses(unlabelled)["total"]
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in task.model.parameters() if p.grad is not None)


def test_sample_pictures_show_three_columns_and_change_nothing(
    model: WeakClip, config: TrainConfig, batch: Batch
) -> None:
    trained = student(width=8)
    before = {name: value.clone() for name, value in trained.net.state_dict().items()}
    for task in (WeakClipTask(model, config), StudentTask(trained, config)):
        task.model.train()
        picture = task.picture(batch)
        assert picture is not None
        assert picture.size == (3 * 64, 2 * 64)
        assert task.model.training
    assert all(torch.equal(value, before[name]) for name, value in trained.net.state_dict().items())


def test_a_saved_student_matches_the_trained_one(config: TrainConfig, tmp_path: Path) -> None:
    trained = student(width=8)
    StudentTask(trained, config).save(tmp_path / "model.safetensors")
    back = load_student(tmp_path / "model.safetensors")
    assert back.card.words == WORDS
    assert all(
        torch.equal(value, back.net.state_dict()[name]) for name, value in trained.net.state_dict().items()
    )
