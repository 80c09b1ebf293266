"""`tagmask mask --student`: a trained student masks a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

import tagmask
from tagmask.confidence import WinningScores
from tagmask.masks import read_index_png
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.evaluate import EVALUATIONS, predict
from tagmask.weak.students.student_file import (
    StudentCard,
    TrainedStudent,
    load_student,
    save_student,
)
from tests.cli.running import run

WORDS = ("background", "cat", "dog", "fish")
NAMES = ("a", "b", "sub/c")


def save(path: Path, *, seed: int = 0, background: bool = True) -> Path:
    torch.manual_seed(seed)
    net = build_student("small", len(WORDS), width=8)
    for parameter in net.parameters():  # so that the labels of noise differ
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_student(path, TrainedStudent(StudentCard("small", WORDS, background, {"width": 8}), net))
    return path


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return save(tmp_path / "student.safetensors")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in NAMES:
        pixels = random.integers(0, 256, (37, 50, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def masked(*arguments: object, code: int = 0) -> str:
    result = run("mask", *arguments, "--device", "cpu")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def labels_in(out: Path) -> dict[str, np.ndarray]:
    return {name: read_index_png(out / "masks" / f"{name}.png") for name in NAMES}


def probabilities(student: Path, photos: Path, name: str) -> np.ndarray:
    image = np.array(PILImage.open(photos / f"{name}.png"))
    scores = predict(load_student(student), image, EVALUATIONS["plain"], keep_scores=True).scores
    assert scores is not None
    return scores


def test_masks_and_confidences_are_the_students_own(photos: Path, student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stderr = masked(photos, "--student", student, "-o", out, "--format", "png,csv")
    assert "student.safetensors: student small, 4 classes, cpu, float32" in stderr
    assert "3 of 3 images done" in stderr
    found = labels_in(out)
    assert len(np.unique(np.stack(list(found.values())))) > 1
    with tagmask.Run(out) as written:
        assert written.words == WORDS
        rows = {row.name: row for row in written}
    for name, labels in found.items():
        scores = probabilities(student, photos, name)
        np.testing.assert_array_equal(labels, scores.argmax(0))
        expected = WinningScores.of(scores, 1).summarise(labels, WORDS, background=True)
        row = rows[name]
        assert row.shares == expected.shares
        assert tuple(row.absent or ()) == expected.absent
        assert row.confidence == pytest.approx(expected.confidence, abs=1e-5)
        assert row.class_confidence == pytest.approx(expected.class_confidence, abs=1e-5)
        assert (out / "overlays" / f"{name}.jpg").is_file()
    assert (out / "images.csv").is_file()


def test_it_goes_on_where_it_stopped(photos: Path, student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    masked(photos, "--student", student, "-o", out, "--shard", "1/2")
    first = {path: path.stat().st_mtime_ns for path in (out / "masks").rglob("*.png")}
    assert 0 < len(first) < 3
    moved = student.rename(student.with_name("moved.safetensors"))
    stderr = masked(photos, "--student", moved, "-o", out)
    assert f"{3 - len(first)} of 3 images done" in stderr
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert set(labels_in(out)) == set(NAMES)
    described = json.loads((out / "run.json").read_text())
    assert described["recorded"]["student file"] == "student.safetensors"
    assert str(tmp_path) not in json.dumps(described["fields"])


def test_other_students_and_thresholds_need_another_folder(
    photos: Path, student: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    masked(photos, "--student", student, "-o", out)
    before = labels_in(out)
    other = save(tmp_path / "other.safetensors", seed=1)
    assert "student was" in masked(photos, "--student", other, "-o", out, code=2)
    stderr = masked(photos, "--student", student, "-o", out, "--threshold", "0.9", code=2)
    assert "settings.threshold was 0.0, is 0.9" in stderr
    for name, labels in labels_in(out).items():
        np.testing.assert_array_equal(labels, before[name])


@pytest.mark.parametrize(("background", "low"), [(True, 0), (False, 255)])
def test_threshold_leaves_out_doubtful_pixels(
    photos: Path, tmp_path: Path, background: bool, low: int
) -> None:
    student = save(tmp_path / "s.safetensors", background=background)
    everything = np.concatenate([probabilities(student, photos, name).max(0).ravel() for name in NAMES])
    threshold = float(np.median(everything))
    masked(photos, "--student", student, "-o", tmp_path / "out", "--threshold", threshold)
    for name, labels in labels_in(tmp_path / "out").items():
        scores = probabilities(student, photos, name)
        expected = np.where(scores.max(0) < threshold, low, scores.argmax(0))
        clear = abs(scores.max(0) - threshold) > 1e-6
        np.testing.assert_array_equal(labels[clear], expected[clear])
        assert (labels != scores.argmax(0)).any()


@pytest.mark.parametrize(
    "option",
    [
        ("-w", "cat"),
        ("--recipe", "sclip/voc21"),
        ("--method", "sclip"),
        ("--weights", "miniature"),
        ("--activation", "gelu"),
        ("--background", "sky"),
        ("--no-background",),
        ("--only-tags",),
        ("--tags-file", "tags.txt"),
        ("--refine", "crf"),
        ("--as", "corrected"),
        ("--precision", "float16"),
    ],
    ids=lambda option: option[0],
)
def test_options_of_a_clip_are_refused(
    photos: Path, student: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    stderr = masked(photos, "--student", student, "-o", tmp_path / "out", *option, code=2)
    assert (
        f"{option[0]}{' float16' * (option[0] == '--precision')} and --student exclude each other" in stderr
    )
    assert len(stderr) < 150
    assert not (tmp_path / "out").exists()


def test_weights_of_the_environment_are_no_option(
    photos: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMASK_WEIGHTS", "none.pt")
    masked(photos, "--student", student, "-o", tmp_path / "out", "--precision", "float32")


@pytest.mark.parametrize("command", ["mask", "tag"])
def test_a_student_given_as_weights_is_recognised(
    photos: Path, student: Path, tmp_path: Path, command: str
) -> None:
    result = run(command, photos, "-w", "cat", "--weights", student, "-o", tmp_path / "out")
    assert result.exit_code == 2
    message = f"tagmask: {student} is a trained student, not a CLIP."
    assert message in result.stderr
    assert f"`tagmask mask PHOTOS --student {student} -o RUN`" in result.stderr
    assert result.stderr.count("tagmask:") == 1


def test_weights_given_as_a_student_are_refused(photos: Path, tmp_path: Path, sclip_weights: Path) -> None:
    stderr = masked(photos, "--student", sclip_weights, "-o", tmp_path / "out", code=2)
    assert "is not a student file of this version" in stderr
