"""Validation during training: it keeps the best model, resumes, and changes nothing else."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tagmask
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.validation import open_validation
from tagmask.data.sample import Dataset
from tagmask.errors import ImageError, InputError
from tagmask.weak.config_files import load_config
from tagmask.weak.loop import Task, fit
from tagmask.weak.model import WeakClip
from tagmask.weak.model_settings import WeakSettings
from tagmask.weak.multiscale import TTAConfig
from tagmask.weak.pseudo import pseudo_mask
from tagmask.weak.samples import Batch
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.student import Student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent
from tagmask.weak.summary import run_curves
from tagmask.weak.tasks import StudentTask, WeakClipTask
from tagmask.weak.train_log import read_log
from tagmask.weak.training_state import read_training_state
from tagmask.weak.validation import BestModel, Validation
from tests.weak.tiny import TinySamples, TinyTask, config, tiny_validation


class Stopped(TinyTask):
    """Stops in the given step, as a signal or a kill would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt
        return super().losses(batch)


def train(folder: Path, task: TinyTask | None = None, every: int = 15, images: int = 5) -> Path:
    fit(task or TinyTask(), TinySamples(), config(), folder, validation=tiny_validation(every, images))
    return folder


def rows(folder: Path) -> list[dict[str, float]]:
    return read_log(folder, "validation.csv")


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("validated"))


def test_every_n_steps_and_after_the_last(validated: Path) -> None:
    assert [row["step"] for row in rows(validated)] == [15, 30, 40]
    assert all(0 < row["miou"] <= 100 for row in rows(validated))
    assert isinstance(tiny_validation(), Validation)


def test_training_is_the_same_without_it(validated: Path, tmp_path: Path) -> None:
    fit(TinyTask(), TinySamples(), config(), tmp_path)
    assert read_log(tmp_path) == read_log(validated)
    one, other = load_file(tmp_path / "model.safetensors"), load_file(validated / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "validation.csv").exists()
    assert not (tmp_path / "best.safetensors").exists()


@pytest.mark.parametrize("at", [12, 18, 30, 31, 35])
def test_a_run_that_resumes_has_the_same_rows_and_the_same_best_model(
    validated: Path, tmp_path: Path, at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Stopped(at))
    state = read_training_state(tmp_path / "checkpoint.pt")
    assert state is not None
    assert state.step >= max((row["step"] for row in rows(tmp_path)), default=0)
    train(tmp_path)
    assert rows(tmp_path) == rows(validated)
    one, other = load_file(tmp_path / "best.safetensors"), load_file(validated / "best.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_score_is_that_of_the_model_at_that_step(tmp_path: Path) -> None:
    class Remembering(TinyTask):
        def segment(self, image: np.ndarray) -> np.ndarray:
            labels = super().segment(image)
            matrix.update(labels, image.argmax(axis=2))
            return labels

    matrix = ConfusionMatrix(3)
    fit(Remembering(), TinySamples(), config(), tmp_path, validation=tiny_validation(1000))
    assert rows(tmp_path) == [{"step": 40.0, "miou": pytest.approx(100 * matrix.miou())}]


def test_the_best_model_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved = []
    best = BestModel(tmp_path, 0, "voc val")
    with caplog.at_level(logging.INFO, "tagmask"):
        for step, miou in ((10, 50.0), (20, 61.5), (30, 61.5), (40, float("nan")), (50, 70.0)):
            best.add(step, miou, lambda path, step=step: saved.append((step, path.name)))
    assert saved == [(10, "best.safetensors"), (20, "best.safetensors"), (50, "best.safetensors")]
    assert [record.getMessage() for record in caplog.records[:3]] == [
        "Validation after step 10: mIoU 50.00 on voc val, the first",
        "Validation after step 20: mIoU 61.50 on voc val, the best so far",
        "Validation after step 30: mIoU 61.50 on voc val, the best is 61.50, after step 20",
    ]
    saved.clear()
    again = BestModel(tmp_path, 30, "voc val")
    assert [row["step"] for row in rows(tmp_path)] == [10, 20, 30]
    again.add(40, 61.4, lambda path: saved.append(path))
    assert not saved


def test_a_kill_between_validation_and_checkpoint_is_made_good(validated: Path, tmp_path: Path) -> None:
    class Killed(TinyTask):
        def save(self, path: Path) -> None:
            super().save(path)
            if path.name == "best.safetensors":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Killed())
    assert (tmp_path / "best.safetensors").exists()
    train(tmp_path)
    assert rows(tmp_path) == rows(validated)


def test_other_images_are_refused_and_none_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Stopped(20))
    with pytest.raises(
        InputError, match=r"was validated on bright all, 5 images .*, not on bright all, 4 im"
    ):
        train(tmp_path, images=4)
    fit(TinyTask(), TinySamples(), config(), tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [15]


def test_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match="The model has 2 classes, bright all has 3"):
        tiny_validation().check(["a", "b"])
    with pytest.raises(InputError, match="in another order: a, b, c"):
        tiny_validation().check(["a", "c", "b"])
    tiny_validation().check(["x", "y", "z"])


def test_images_that_cannot_be_read_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def damaged() -> np.ndarray:
        raise ImageError("it is damaged")

    whole = tiny_validation()
    broken = replace(whole.samples[1], read_image=damaged)
    part = replace(whole, samples=[whole.samples[0], broken, *whole.samples[2:]])

    def segment(image: np.ndarray) -> np.ndarray:
        return np.zeros((8, 8), np.uint8)

    counts = part.counts(segment, 0, 1)
    assert counts.sum() == 4 * 64
    assert "Not validated: image-1: it is damaged" in caplog.text
    shared = part.counts(segment, 0, 2) + part.counts(segment, 1, 2)
    np.testing.assert_array_equal(shared, counts)
    assert np.isnan(part.miou(np.zeros((3, 4), np.int64)))


def test_data_sets_and_folders_can_be_given(tmp_path: Path) -> None:
    scenes = open_validation("miniature/test", None, 500, 7)
    assert (scenes.name, len(scenes.samples), scenes.every) == ("miniature test", 7, 500)
    assert [sample.id for sample in scenes.samples] == [
        scenes.dataset.samples[i * 300 // 7].id for i in range(7)
    ]
    assert open_validation("miniature", None, 500).name == "miniature test"
    with pytest.raises(InputError, match="Unknown data set 'miniatur'"):
        open_validation("miniatur/test", None, 500)
    with pytest.raises(InputError, match="No folder of images"):
        open_validation(str(tmp_path), None, 500)


def test_unlabelled_splits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = Dataset("voc2012", ("background", "a"), (), [], labelled=False)
    monkeypatch.setattr("tagmask.bench.validation.open_dataset", lambda *_: hidden)
    with pytest.raises(InputError, match="voc2012 test has no masks to validate on"):
        open_validation("voc2012/test", None, 500)


def test_weakclip_is_validated_at_one_scale_without_crf(shapes: list[np.ndarray]) -> None:
    clip = tagmask.load("miniature", device="cpu")
    base = load_config("weakclip/miniature", ["loss.size=16", "crop=64", "base_short=80", "base_long=300"])
    model = WeakClip.of(clip, ("background", "dog", "tree"), WeakSettings(contexts=0))
    task = WeakClipTask(model, replace(base, augment=replace(base.augment, mean=model.mean, std=model.std)))
    assert isinstance(task, Task)
    model.eval()
    views = TTAConfig(scales=(1.0,), flip=False, window=64, stride=42, short=80, long=300)
    np.testing.assert_array_equal(task.segment(shapes[1]), pseudo_mask(model, shapes[1], None, views))
    # The texts that validation encoded can be used by the next step.
    model.train()
    batch = Batch(("a",), torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.int64))
    task.losses(batch)["total"].backward()


def test_students_are_validated_in_one_forward_pass(shapes: list[np.ndarray]) -> None:
    net = build_student("small", 3, width=8).eval()
    student = TrainedStudent(StudentCard("small", ("background", "dog", "tree"), True, {"width": 8}), net)
    task = StudentTask(student, load_config("student/small"))
    np.testing.assert_array_equal(task.segment(shapes[1]), Student(student)(shapes[1]).labels)


def test_report_shows_validations(validated: Path) -> None:
    *_, last = run_curves("WeakCLIP", validated)
    assert last.title == "WeakCLIP: mIoU of validations"
    assert last.lines[0].x == (15.0, 30.0, 40.0)
