"""Students by name: construction and errors."""

from pathlib import Path

import pytest
import torch

from tagmask.errors import InputError, WeightsError
from tagmask.weak.students.catalogue import STUDENTS, build_student, parameter_groups, students
from tagmask.weak.students.resnet38 import ResNet38

NARROW: dict[str, dict[str, int]] = {
    "small": {"width": 8},
    "clip": {"width": 64, "layers": 4, "grid": 3, "inner": 8},
    "deeplab-resnet38": {"base": 1, "hidden": 8},
}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_grid_matches_the_kind(name: str, factor: int) -> None:
    kind = STUDENTS[name]
    h, w = factor * max(kind.multiple, 9), 4 * max(kind.multiple, 7)
    logits = build_student(name, 6, **NARROW[name]).eval()(torch.zeros(1, 3, h, w))
    assert logits.shape == (1, 6, -(-h // kind.stride), -(-w // kind.stride))


def test_imagenet_weights_reach_the_trunk(tmp_path: Path) -> None:
    tensors = ResNet38(base=1).state_dict()
    torch.save(tensors, tmp_path / "a.pth")
    net = build_student("deeplab-resnet38", 3, weights=tmp_path / "a.pth", base=1, hidden=4)
    assert torch.equal(net.state_dict()["trunk.b7.conv_branch1.weight"], tensors["b7.conv_branch1.weight"])


def test_small_decays_kernels_only() -> None:
    groups = parameter_groups("small", build_student("small", 3, width=8))
    assert [(g.name, g.factor, g.decays) for g in groups] == [
        ("trunk weights", 1.0, True),
        ("trunk norms and biases", 1.0, False),
    ]
    assert {p.ndim for p in groups[0].parameters} == {4}
    assert {p.ndim for p in groups[1].parameters} == {1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_student("unet", 3),
            r"Unknown student 'unet'\. Give one of small, clip, deeplab-resnet38",
        ),
        (lambda: build_student("small", 1), "classes is 1. Give a whole number, from 2 to 65535"),
        (lambda: build_student("small", 3, base=2), r"'small' has no setting 'base'\. Give one of width"),
        (
            lambda: build_student("deit-s", 3, width=2),
            r"'deit-s' has no setting 'width'\. It has no settings",
        ),
        (lambda: build_student("small", 3, weights=Path("a.pth")), "'small' starts from random weights"),
        (lambda: parameter_groups("unet", torch.nn.Identity()), "Unknown student 'unet'"),
    ],
)
def test_invalid_students_are_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("name", ["segformer-b0", "segformer-b2", "deit-s"])
def test_without_transformers_the_command_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"'{name}' .* pip install 'tagmask\[students\]'"):
        build_student(name, 3)


def test_absent_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no file"):
        build_student("deeplab-resnet38", 3, weights=tmp_path / "none.pth", base=1)


def test_each_student_is_described() -> None:
    descriptions = students()
    assert list(descriptions) == list(STUDENTS)
    assert descriptions["segformer-b2"].startswith("SegFormer on MiT-B2")
