"""The student that starts from CLIP: inherited weights, output grid, saving and loading."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

import tagmask
from tagmask.errors import InputError
from tagmask.weak.students.clip_tower import ClipTower
from tagmask.weak.students.kind import split_groups
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, load_student, save_student

NARROW = {"width": 64, "layers": 4, "grid": 3, "inner": 8}


def test_the_tower_matches_the_clips() -> None:
    torch.manual_seed(0)
    net = ClipTower(5, "miniature").eval()
    clip = tagmask.load("miniature", precision="float32")
    pixels = torch.randn(2, 3, 224, 224)
    inputs: list[torch.Tensor] = []
    net.decoder.seen.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    with torch.no_grad():
        net(pixels)
        x = clip.vision.embed(pixels, clip.vision.positional_embedding)
        wanted = []
        for number, block in enumerate(clip.vision.blocks, 1):
            x = block(x)
            if number in (4, 6, 8):
                wanted.append(x[:, 1:])
        wanted.append(clip.vision.ln_post(x)[:, 1:])
    tokens = torch.cat(wanted, dim=2)
    torch.testing.assert_close(inputs[0].flatten(2).transpose(1, 2), tokens, atol=1e-4, rtol=1e-4)
    assert net.statistics == (clip.mean, clip.std)
    assert net.settings["width"] == clip.geometry.vision_width
    assert clip.vision.proj is not None
    assert "tower.proj" not in net.state_dict()


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 50), (14, 14)])
@pytest.mark.parametrize("patch", [14, 16, 32])
def test_logits_are_at_one_quarter(size: tuple[int, int], patch: int) -> None:
    logits = ClipTower(4, **NARROW, patch=patch).eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 4, -(-size[0] // 4), -(-size[1] // 4))


def test_padding_is_the_mean_colour() -> None:
    net = ClipTower(3, **NARROW).eval()
    pixels = torch.randn(1, 3, 40, 50)
    padded = functional.pad(pixels, (0, 14, 0, 8))
    torch.testing.assert_close(net(pixels), net(padded)[..., :10, :13])


def test_every_part_is_trained() -> None:
    torch.manual_seed(0)
    net = ClipTower(4, **NARROW)
    net(torch.randn(2, 3, 64, 64)).square().sum().backward()
    without_gradient = [
        name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without_gradient == []
    groups = split_groups(net, [net.decoder], 10.0)
    assert {group.name.split()[0]: group.factor for group in groups} == {"trunk": 1.0, "head": 10.0}


def test_a_file_loads_without_the_clip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ClipTower(3, "miniature", inner=16).eval()
    card = StudentCard("clip", ("background", "cat", "dog"), True, net.settings)
    save_student(tmp_path / "student.safetensors", TrainedStudent(card, net))
    back = load_student(tmp_path / "student.safetensors")
    pixels = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        assert torch.equal(back.net(pixels), net(pixels))


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 65), ("layers", 2), ("grid", 0), ("quick", 2), ("inner", 4), ("dropout", 1.0)],
)
def test_settings_out_of_range(name: str, value: int | float) -> None:
    with pytest.raises(InputError, match=name):
        ClipTower(3, **(NARROW | {name: value}))
