"""Exported students: the graph, the file, and inference in onnxruntime.

Tests that need onnx and transformers run in a separate environment (make students-test).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tagmask.errors import InputError, OutputError, WeightsError
from tagmask.masks import palette
from tagmask.weak.export import Deployed, check_onnx, export_onnx
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.evaluate import EVALUATIONS, predict
from tagmask.weak.students.student_file import StudentCard, TrainedStudent

WORDS = ("background", "cat", "chien à poils longs", "bird", "dog")
BOUND = 1e-5
SETTINGS: dict[str, dict[str, int]] = {
    "small": {"width": 8},
    "clip": {"width": 64, "layers": 4, "grid": 3, "inner": 8},
    "deeplab-resnet38": {"base": 1, "hidden": 8},
    "segformer-b0": {},
    "deit-s": {},
}
with_extras = [pytest.mark.students, pytest.mark.filterwarnings("ignore")]


def make_student(name: str, words: tuple[str, ...] = WORDS) -> TrainedStudent:
    torch.manual_seed(4)
    net = build_student(name, len(words), **SETTINGS[name]).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.weight.shape[0] == len(words):
            torch.nn.init.normal_(module.weight, std=2 / module.weight[0].numel() ** 0.5)
    return TrainedStudent(StudentCard(name, words, True, SETTINGS[name]), net)


def make_image(h: int, w: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["small", "clip", "deeplab-resnet38"])
@pytest.mark.parametrize("size", [(64, 96), (45, 70)])
def test_the_graph_matches_predict(name: str, size: tuple[int, int]) -> None:
    student, image = make_student(name), make_image(*size)
    prediction = predict(student, image, EVALUATIONS["plain"], keep_scores=True)
    given = Deployed(student, "softmax", "bytes")(torch.from_numpy(image)[None])[0]
    np.testing.assert_allclose(given.detach().numpy(), prediction.scores, atol=1e-5)
    labels = Deployed(student, "labels", "bytes")(torch.from_numpy(image)[None])[0]
    assert labels.dtype == torch.uint8
    assert (labels.numpy() != prediction.labels).mean() < 0.001


def test_normalised_pixels_are_accepted() -> None:
    student, image = make_student("small"), torch.from_numpy(make_image(40, 41))[None]
    mean, std = (torch.tensor(each)[:, None, None] for each in (student.card.mean, student.card.std))
    normalised = (image.permute(0, 3, 1, 2) / 255 - mean) / std
    torch.testing.assert_close(
        Deployed(student, "softmax", "normalised")(normalised), Deployed(student, "softmax", "bytes")(image)
    )


def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        InputError, match=r"Exporting needs onnxscript\. Run: pip install 'tagmask\[export\]'"
    ):
        export_onnx(make_student("small"), tmp_path / "s.onnx")
    monkeypatch.setattr("tagmask.checks.find_spec", lambda _: None)
    with pytest.raises(
        InputError, match=r"Running ONNX needs onnxruntime\. Run: pip install 'tagmask\[export\]'"
    ):
        check_onnx(tmp_path / "s.onnx", make_student("small"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "logits"}, "Unknown output 'logits'. Give one of softmax, labels"),
        ({"pixels": "floats"}, "Unknown pixels 'floats'. Give one of bytes, normalised"),
        ({"size": (0, 5)}, "a side of size is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"opset": 11}, "opset is 11"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        export_onnx(make_student("small"), tmp_path / "s.onnx", **settings)
    assert not list(tmp_path.iterdir())


def session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


class TestFiles:
    pytestmark = with_extras

    @pytest.mark.parametrize("name", SETTINGS)
    def test_runs_at_any_size_as_in_torch(self, name: str, tmp_path: Path) -> None:
        student = make_student(name)
        export_onnx(student, tmp_path / "s.onnx")
        difference = check_onnx(tmp_path / "s.onnx", student)
        print(f"{name}: greatest difference {difference:.1e}")
        assert difference < BOUND
        onnx_session = session(tmp_path / "s.onnx")
        for h, w in ((64, 64), (97, 131), (224, 224)):
            image = make_image(h, w)
            given = onnx_session.run(["probabilities"], {"image": image[None]})[0]
            prediction = predict(student, image, EVALUATIONS["plain"], keep_scores=True)
            assert given.shape == (1, len(WORDS), h, w)
            assert given.dtype == np.float32
            np.testing.assert_allclose(given[0], prediction.scores, atol=2e-5)

    def test_labels_of_a_fixed_size(self, tmp_path: Path) -> None:
        student, image = make_student("small"), make_image(50, 75)
        export_onnx(student, tmp_path / "s.onnx", size=(50, 75), batch=1, output="labels")
        assert check_onnx(tmp_path / "s.onnx", student) < BOUND
        onnx_session = session(tmp_path / "s.onnx")
        assert onnx_session.get_inputs()[0].shape == [1, 50, 75, 3]
        labels = onnx_session.run(["labels"], {"image": image[None]})[0]
        assert (labels.shape, labels.dtype) == ((1, 50, 75), np.uint8)
        assert (labels[0] != predict(student, image, EVALUATIONS["plain"]).labels).mean() < 0.001
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            onnx_session.run(None, {"image": make_image(50, 76)[None]})

    def test_normalised_pixels_and_many_classes(self, tmp_path: Path) -> None:
        student = make_student("small", tuple(f"word {i}" for i in range(300)))
        export_onnx(student, tmp_path / "s.onnx", output="labels", pixels="normalised", opset=20)
        assert check_onnx(tmp_path / "s.onnx", student) < BOUND
        onnx_session = session(tmp_path / "s.onnx")
        labels = onnx_session.run(None, {"image": np.zeros((2, 3, 33, 40), np.float32)})[0]
        assert (labels.shape, labels.dtype) == ((2, 33, 40), np.int32)

    def test_metadata_describes_the_student(self, tmp_path: Path) -> None:
        student = make_student("small")
        export_onnx(student, tmp_path / "s.onnx", size=(64, 32))
        metadata = session(tmp_path / "s.onnx").get_modelmeta().custom_metadata_map
        read = {key: json.loads(value) for key, value in metadata.items()}
        assert read["classes"] == list(WORDS)
        assert read["colours"][1] == "#{:02x}{:02x}{:02x}".format(*palette()[1])
        assert (read["student"], read["background"], read["size"], read["batch"]) == (
            "small",
            True,
            [64, 32],
            None,
        )
        assert (read["mean"], read["pixels"], read["output"]) == ([0.485, 0.456, 0.406], "bytes", "softmax")

    def test_exporting_does_not_change_the_student(self, tmp_path: Path) -> None:
        student = make_student("small")
        student.net.train()
        before = {name: tensor.clone() for name, tensor in student.net.state_dict().items()}
        export_onnx(student, tmp_path / "s.onnx", size=(32, 32), batch=1)
        assert student.net.training
        assert all(torch.equal(before[n], tensor) for n, tensor in student.net.state_dict().items())

    def test_a_wrong_student_is_detected(self, tmp_path: Path) -> None:
        student = make_student("small")
        export_onnx(student, tmp_path / "s.onnx", size=(64, 64), batch=1)
        other = make_student("small")
        with torch.no_grad():
            other.net.get_parameter("classifier.weight").mul_(1.1)
        assert check_onnx(tmp_path / "s.onnx", other) > 1e-4

    def test_a_wrong_label_is_detected(self, tmp_path: Path) -> None:
        student = make_student("small")
        export_onnx(student, tmp_path / "s.onnx", size=(64, 64), batch=1, output="labels")
        with torch.no_grad():
            student.net.get_parameter("classifier.bias")[2] += 0.5
        assert check_onnx(tmp_path / "s.onnx", student) > 1e-3

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path) -> None:
        (tmp_path / "s.onnx").mkdir()
        with pytest.raises(OutputError, match="cannot be written"):
            export_onnx(make_student("small"), tmp_path / "s.onnx", size=(32, 32), batch=1)
        assert [path.name for path in tmp_path.iterdir()] == ["s.onnx"]

    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "s.onnx").write_bytes(b"no graph")
        with pytest.raises(WeightsError, match="cannot be run as an exported student"):
            check_onnx(tmp_path / "s.onnx", make_student("small"))
