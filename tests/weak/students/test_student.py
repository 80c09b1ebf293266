"""A trained student has the interface of a Segmenter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from tagmask.confidence import WinningScores
from tagmask.errors import ImageError, InputError
from tagmask.masks import read_index_png
from tagmask.results import Segmentation
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.evaluate import EVALUATIONS, predict
from tagmask.weak.students.student import Student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, save_student

WORDS = ("background", "cat", "dog")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    card = StudentCard("small", WORDS, True, {"width": 8})
    save_student(tmp_path / "s.safetensors", TrainedStudent(card, build_student("small", 3, width=8)))
    return tmp_path / "s.safetensors"


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (45, 70, 3), dtype=np.uint8)


def test_a_file_and_an_image_give_a_segmentation(file: Path, image: np.ndarray, tmp_path: Path) -> None:
    student = Student(file, device="cpu")
    found = student(image)
    assert isinstance(found, Segmentation)
    assert (found.words, found.background, found.precision) == (WORDS, True, "float32")
    assert student.words == WORDS
    assert student.background
    assert found.scores is None
    assert np.array_equal(found.labels, predict(student.trained, image, EVALUATIONS["plain"]).labels)
    found.save(tmp_path / "mask.png")
    assert np.array_equal(read_index_png(tmp_path / "mask.png"), found.labels)
    assert found.overlay(image).size == (70, 45)
    assert sum(found.shares().values()) == pytest.approx(1)


def test_lists_paths_and_scores(file: Path, image: np.ndarray, tmp_path: Path) -> None:
    PILImage.fromarray(image).save(tmp_path / "photo.png")
    student = Student(file, device="cpu", flip=True)
    one, other = student([tmp_path / "photo.png", str(tmp_path / "photo.png")], scores=True)
    alone = student(PILImage.fromarray(image), scores=True)
    for each in (one, other):
        assert each.scores is not None
        assert each.scores.shape == (3, 45, 70)
        np.testing.assert_array_equal(each.scores, alone.scores)
    plain = Student(file, device="cpu")(image, scores=True)
    assert plain.scores is not None
    assert np.abs(plain.scores - one.scores).max() > 0


def test_settings_are_fields_by_name(file: Path) -> None:
    assert Student(file, device="cpu", scales=(0.5, 1.0)).settings.scales == (0.5, 1.0)
    with pytest.raises(
        InputError,
        match=r"Unknown setting 'scale'\. Did you mean scales\? Give one of scales, flip",
    ):
        Student(file, device="cpu", scale=2)


@pytest.mark.parametrize("crf", [None, "weakclip/student-voc"])
def test_confidence_and_threshold_are_of_the_winning_scores(
    file: Path, image: np.ndarray, crf: str | None
) -> None:
    found = Student(file, device="cpu", crf=crf)(image, scores=True, confidence=True)
    assert found.scores is not None
    expected = WinningScores.of(found.scores, 1).summarise(found.labels, WORDS, background=True)
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-6)
    assert found.class_confidence == pytest.approx(expected.class_confidence, abs=1e-6)
    assert Student(file, device="cpu", crf=crf)(image).confidence is None
    best = found.scores.max(0)
    threshold = float(np.sort(best.ravel())[best.size // 2 :][:2].mean())
    low = best < threshold
    strict = Student(file, device="cpu", crf=crf, threshold=threshold)(image)
    assert found.labels[low].any()
    np.testing.assert_array_equal(strict.labels, np.where(low, 0, found.labels))


def test_missing_images_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="There is no file"):
        Student(file, device="cpu")(tmp_path / "none.png")
