"""ImageNet weights of the trunk, under all known naming schemes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tagmask.errors import WeightsError
from tagmask.weak.students.imagenet import load_imagenet
from tagmask.weak.students.resnet38 import ResNet38


def random_weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    tensors = ResNet38(base=1).state_dict()
    return {n: torch.rand_like(t) for n, t in tensors.items() if not n.endswith("num_batches_tracked")}


def mxnet(name: str) -> str:
    """b3_1.bn_branch2a.running_mean -> aux:bn3b1_branch2a_moving_mean, the reverse of the loader."""
    *block, part = name.split(".")
    kind = "aux" if part.startswith("running") else "arg"
    if part.startswith("running"):
        part = part.replace("running", "moving")
    elif "bn" in name:
        part = {"weight": "gamma", "bias": "beta"}[part]
    if len(block) == 1:
        return f"{kind}:{block[0]}_{part}"
    stage, _, unit = block[0][1:].partition("_")
    layer, branch = block[1].split("_")
    return f"{kind}:{'res' if layer == 'conv' else 'bn'}{stage}{'b' + unit if unit else 'a'}_{branch}_{part}"


NAMINGS = {
    "torch": lambda name: name,
    "data parallel": lambda name: f"module.{name}",
    "inside another": lambda name: f"model.encoder.{name}",
    "underscores": lambda name: name.replace(".", "_"),
    "mxnet": mxnet,
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_loads(tmp_path: Path, naming: str) -> None:
    tensors = random_weights()
    given = {NAMINGS[naming](name): tensor for name, tensor in tensors.items()}
    torch.save(
        {**given, "arg:linear1000_weight": torch.ones(2), "fc8.weight": torch.ones(2)}, tmp_path / "a.pth"
    )
    trunk = ResNet38(base=1)
    load_imagenet(trunk, tmp_path / "a.pth")
    loaded = trunk.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert not trunk.conv1a.weight.requires_grad


def test_mxnet_names_match_the_published_ones() -> None:
    assert mxnet("b2.conv_branch2a.weight") == "arg:res2a_branch2a_weight"
    assert mxnet("b4_5.bn_branch2b1.running_var") == "aux:bn4b5_branch2b1_moving_var"
    assert mxnet("bn7.weight") == "arg:bn7_gamma"
    assert mxnet("conv1a.weight") == "arg:conv1a_weight"


def test_half_precision_is_converted_to_float32(tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in random_weights().items()}, tmp_path / "a.safetensors")
    trunk = ResNet38(base=1)
    load_imagenet(trunk, tmp_path / "a.safetensors")
    assert {p.dtype for p in trunk.parameters()} == {torch.float32}


def faulty(kind: str) -> dict[str, Tensor]:
    tensors = random_weights()
    name = "b5_1.conv_branch2a.weight"
    if kind == "missing":
        del tensors[name]
    elif kind == "shape":
        tensors[name] = tensors[name][:-1]
    elif kind == "nan":
        tensors[name][0] = torch.nan
    elif kind == "twice":
        tensors["arg:res5b1_branch2a_weight"] = tensors[name]
    elif kind == "other":
        tensors = {"layer1.0.conv1.weight": torch.ones(3)}
    return tensors


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"lacks 1 of the \d+ weights of WideResNet-38, such as b5_1\.conv_branch2a\.weight"),
        ("shape", r"b5_1\.conv_branch2a\.weight has the shape \(7, 16, 3, 3\), not \(8, 16, 3, 3\)"),
        ("nan", r"holds NaN or infinite values, in b5_1\.conv_branch2a\.weight"),
        ("twice", r"has b5_1\.conv_branch2a\.weight twice, the second time as arg:res5b1_branch2a_weight"),
        ("other", r"is not a WideResNet-38: none of its 1 names .* begins with layer1\.0\.conv1\.weight"),
    ],
)
def test_faults_are_named_and_change_nothing(tmp_path: Path, kind: str, message: str) -> None:
    torch.save(faulty(kind), tmp_path / "a.pth")
    trunk = ResNet38(base=1)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_imagenet(trunk, tmp_path / "a.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.state_dict().items())
