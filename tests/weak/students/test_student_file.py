"""A student's file: round trip, and errors for invalid files."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from tagmask.errors import InputError, OutputError, WeightsError
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, load_student, save_student

WORDS = ("background", "cat", 'a "dog", puppy', "chien à poils\nlongs")
CARD = StudentCard("small", WORDS, True, {"width": 8}, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


@pytest.fixture
def trained() -> TrainedStudent:
    torch.manual_seed(5)
    return TrainedStudent(CARD, build_student("small", 4, width=8))


@pytest.fixture
def file(tmp_path: Path, trained: TrainedStudent) -> Path:
    save_student(tmp_path / "new" / "s.safetensors", trained)
    return tmp_path / "new" / "s.safetensors"


def test_everything_comes_back(trained: TrainedStudent, file: Path) -> None:
    found = load_student(file)
    assert found.card == CARD
    assert not found.net.training
    assert not any(p.requires_grad for p in found.net.parameters())
    pixels = torch.randn(1, 3, 64, 32)
    assert torch.equal(found.net(pixels), trained.net.eval()(pixels))


def test_loading_leaves_the_callers_seed_alone(file: Path) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    load_student(file)
    assert torch.equal(torch.rand(3), wanted)


def test_the_file_may_be_replaced_while_it_is_in_use(trained: TrainedStudent, file: Path) -> None:
    found = load_student(file)
    before = found.net(torch.ones(1, 3, 32, 32))
    file.write_bytes(b"\0" * file.stat().st_size)
    assert torch.equal(found.net(torch.ones(1, 3, 32, 32)), before)


def test_other_programs_can_read_the_header(file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
    assert header["format"] == "tagmask-student/1"
    assert json.loads(header["words"]) == list(WORDS)
    assert (json.loads(header["background"]), json.loads(header["multiple"])) == (True, 32)
    assert json.loads(header["made_with"])["torch"] == torch.__version__


def rewritten(file: Path, change: dict[str, str | None]) -> Path:
    with safe_open(file, framework="pt") as opened:
        header = {**opened.metadata(), **change}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    kept = {key: value for key, value in header.items() if value is not None}
    file.write_bytes(safetensors.torch.save(tensors, kept))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, "is not a student file of this version: its format is None"),
        ({"format": "tagmask-student/2"}, "format is 'tagmask-student/2', not 'tagmask-student/1'"),
        ({"student": "unet"}, "header cannot be read .Unknown student 'unet'. Give one of small, clip"),
        ({"words": None}, "header cannot be read .'words'"),
        ({"words": '{"a": 1}'}, "header cannot be read"),
        ({"mean": "[1, 2]"}, "header cannot be read"),
        ({"background": "yes"}, "header cannot be read"),
        ({"multiple": "16"}, "needs sides that are multiples of 16, but 'small' takes multiples of 32"),
        ({"words": '["a", "b"]'}, "does not fit the student 'small' .* classifier.* It was made with"),
        ({"settings": '{"width": 16}'}, "does not fit the student 'small'"),
        ({"settings": '{"width": 8000}'}, "does not fit the student 'small'"),
        ({"settings": '{"width": 100000}'}, "width is 100000"),
        ({"settings": '{"width": "8"}'}, "width is '8'"),
        ({"settings": '{"width": [8]}'}, "width is .8"),
        ({"settings": '{"depth": 8}'}, "has no setting 'depth'"),
        ({"student": "clip", "multiple": "1", "settings": '{"layers": 1000000000}'}, "layers is 1000000000"),
        ({"student": "clip", "multiple": "1", "settings": '{"width": 8192, "layers": 64}'}, "does not fit"),
        ({"student": "clip", "multiple": "1", "settings": '{"grid": 1000000}'}, "grid is 1000000"),
        ({"student": "deeplab-resnet38", "multiple": "1", "settings": '{"hidden": 1000000000}'}, "hidden is"),
        ({"student": "deeplab-resnet38", "multiple": "1", "settings": '{"base": 64}'}, "does not fit"),
        ({"words": "[" * 5000 + "]" * 5000}, "header cannot be read"),
        ({"mean": "[NaN, 0, 0]"}, "header cannot be read .*Give finite numbers"),
        ({"std": "[Infinity, 1, 1]"}, "header cannot be read .*Give finite numbers"),
        ({"mean": f"[1{'0' * 400}, 0, 0]"}, "header cannot be read"),
        ({"format": "x" * 5000}, "is not a student file of this version"),
        ({"multiple": "9" * 4000}, "needs sides that are multiples"),
    ],
)
def test_invalid_headers_are_refused(file: Path, change: dict[str, str | None], message: str) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=message) as error:
        load_student(rewritten(file, change))
    assert file.name in str(error.value)
    assert len(str(error.value).replace(str(file), "")) < 600
    # the largest of them would need 50 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # in KiB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t * torch.nan, "holds NaN or infinite values, in classifier.bias"),
        (lambda t: torch.full_like(t, torch.inf), "holds NaN or infinite values, in classifier.bias"),
        (lambda t: t.int(), "classifier.bias is torch.int32 instead of torch.float32"),
        (lambda t: t.to(torch.complex64), "classifier.bias is torch.complex64 instead of torch.float32"),
        (lambda t: t[:0], r"classifier.bias is \(0,\) instead of \(4,\)"),
    ],
)
def test_invalid_tensors_are_refused(file: Path, change: object, message: str) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    tensors["classifier.bias"] = change(tensors["classifier.bias"])  # type: ignore[operator]
    file.write_bytes(safetensors.torch.save(tensors, header))
    with pytest.raises(WeightsError, match=message):
        load_student(file)


def test_half_precision_is_converted(trained: TrainedStudent, file: Path) -> None:
    half = trained.net.half().state_dict()
    save_student(file, TrainedStudent(CARD, trained.net))
    found = load_student(file).net
    assert all(p.dtype == torch.float32 for p in found.parameters())
    assert torch.equal(found.classifier.weight, half["classifier.weight"].float())


def test_cut_off_files_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="is damaged or incomplete"):
        load_student(file)


def test_a_folder_in_the_way_is_named(tmp_path: Path, trained: TrainedStudent) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_student(tmp_path / "s", trained)
    assert list(tmp_path.iterdir()) == [tmp_path / "s"]


@pytest.mark.parametrize(
    ("words", "std", "message"),
    [
        (("cat",), (1.0, 1.0, 1.0), "Give at least two, all different"),
        (("cat", "cat"), (1.0, 1.0, 1.0), "Give at least two, all different"),
        (("cat", ""), (1.0, 1.0, 1.0), "Give at least two, all different"),
        (("cat", "dog"), (1.0, 0.0, 1.0), "Give positive numbers"),
    ],
)
def test_invalid_cards_are_refused(
    words: tuple[str, ...], std: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        StudentCard("small", words, False, std=std)
