"""Names of tensors in checkpoints of wrapped models."""

from pathlib import Path

import pytest
import torch

from tagmask.clip.wrappers import only_clip, without_wrappers
from tagmask.errors import WeightsError

PATH = Path("file.pt")


def named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(float(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("module.a", "module.b"), ("a", "b")),
        (("_orig_mod.a", "_orig_mod.b"), ("a", "b")),
        (("module._orig_mod.a", "module._orig_mod.b"), ("a", "b")),
        (("_orig_mod.module.a", "_orig_mod.module.b"), ("a", "b")),
        (("module.module.a", "module.module.b"), ("a", "b")),
        (("visual._orig_mod.a", "visual.blocks.0._orig_mod.b", "c"), ("visual.a", "visual.blocks.0.b", "c")),
        (("n_averaged", "module.a", "module.b"), ("n_averaged", "a", "b")),
        (("module.a", "module.b", "epoch"), ("a", "b", "epoch")),
        (("module.a", "b"), ("module.a", "b")),  # a part of the model that has this name
        (("modules.a", "my_orig_mod.b"), ("modules.a", "my_orig_mod.b")),
        ((), ()),
    ],
)
def test_wrappers_are_removed(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    found = without_wrappers(named(*names), PATH)
    assert tuple(found) == expected
    assert [float(tensor) for tensor in found.values()] == list(range(len(names)))


@pytest.mark.parametrize("names", [("a", "_orig_mod.a"), ("module.a", "module.b", "a")])
def test_two_tensors_of_one_name_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(WeightsError, match=r"file\.pt holds a twice, the second time as"):
        without_wrappers(named(*names), PATH)


@pytest.mark.parametrize("sign", ["visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"])
def test_a_clip_inside_a_larger_model_is_found(sign: str) -> None:
    inside = named(f"model.clip.{sign}", "model.clip.logit_scale", "model.head.weight", "loss")
    assert tuple(only_clip(inside, PATH)) == (sign, "logit_scale")
    alone = named(sign, "logit_scale", f"teacher.{sign}")
    assert only_clip(alone, PATH) == alone
    other = named("a", f"un{sign}")
    assert only_clip(other, PATH) == other


def test_several_clips_are_refused() -> None:
    both = named("student.visual.conv1.weight", "teacher.visual.conv1.weight")
    with pytest.raises(WeightsError, match=r"holds 2 CLIPs, under student\., teacher\."):
        only_clip(both, PATH)
