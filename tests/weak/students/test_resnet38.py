"""WideResNet-38: every shape against a hand-written table, and the arithmetic against plain loops."""

import itertools
import re

import pytest
import torch
from torch import Tensor, nn

from tagmask.errors import InputError
from tagmask.weak.students.resnet38 import BasicBlock, Bottleneck, ResNet38

# name, channels out, channels in, side of the kernel, stride, dilation
KERNELS = """
conv1a 64 3 3 1 1
b2.conv_branch2a 128 64 3 2 1
b2.conv_branch2b1 128 128 3 1 1
b2.conv_branch1 128 64 1 2 1
b2_1.conv_branch2a 128 128 3 1 1
b2_1.conv_branch2b1 128 128 3 1 1
b2_2.conv_branch2a 128 128 3 1 1
b2_2.conv_branch2b1 128 128 3 1 1
b3.conv_branch2a 256 128 3 2 1
b3.conv_branch2b1 256 256 3 1 1
b3.conv_branch1 256 128 1 2 1
b3_1.conv_branch2a 256 256 3 1 1
b3_1.conv_branch2b1 256 256 3 1 1
b3_2.conv_branch2a 256 256 3 1 1
b3_2.conv_branch2b1 256 256 3 1 1
b4.conv_branch2a 512 256 3 2 1
b4.conv_branch2b1 512 512 3 1 1
b4.conv_branch1 512 256 1 2 1
b4_1.conv_branch2a 512 512 3 1 1
b4_1.conv_branch2b1 512 512 3 1 1
b4_2.conv_branch2a 512 512 3 1 1
b4_2.conv_branch2b1 512 512 3 1 1
b4_3.conv_branch2a 512 512 3 1 1
b4_3.conv_branch2b1 512 512 3 1 1
b4_4.conv_branch2a 512 512 3 1 1
b4_4.conv_branch2b1 512 512 3 1 1
b4_5.conv_branch2a 512 512 3 1 1
b4_5.conv_branch2b1 512 512 3 1 1
b5.conv_branch2a 512 512 3 1 1
b5.conv_branch2b1 1024 512 3 1 2
b5.conv_branch1 1024 512 1 1 1
b5_1.conv_branch2a 512 1024 3 1 2
b5_1.conv_branch2b1 1024 512 3 1 2
b5_2.conv_branch2a 512 1024 3 1 2
b5_2.conv_branch2b1 1024 512 3 1 2
b6.conv_branch2a 512 1024 1 1 1
b6.conv_branch2b1 1024 512 3 1 4
b6.conv_branch2b2 2048 1024 1 1 1
b6.conv_branch1 2048 1024 1 1 1
b7.conv_branch2a 1024 2048 1 1 1
b7.conv_branch2b1 2048 1024 3 1 4
b7.conv_branch2b2 4096 2048 1 1 1
b7.conv_branch1 4096 2048 1 1 1
"""


@pytest.fixture(scope="module")
def full() -> ResNet38:
    """The published network on the meta device."""
    with torch.device("meta"):
        return ResNet38()


def table() -> dict[str, tuple[int, ...]]:
    rows = (line.split() for line in KERNELS.split("\n") if line)
    return {name: tuple(int(number) for number in numbers) for name, *numbers in rows}


def test_kernels_match_the_table(full: ResNet38) -> None:
    found = {
        name: (*module.weight.shape[:3], module.stride[0], module.dilation[0])
        for name, module in full.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert found == table()
    assert all(m.bias is None for m in full.modules() if isinstance(m, nn.Conv2d))


def test_there_are_38_consecutive_layers(full: ResNet38) -> None:
    # The name counts the kernels on the longest path and the classifier, which is not part of the trunk.
    assert len([name for name in table() if not name.endswith("branch1")]) + 1 == 38


def test_parameter_count_is_kernels_and_two_per_normalised_channel(full: ResNet38) -> None:
    kernels = table()
    products = sum(out * into * side * side for out, into, side, _, _ in kernels.values())
    # A norm precedes every kernel except the first and the skip connections; one more is last.
    normed = sum(row[1] for name, row in kernels.items() if not re.search("conv1a|branch1$", name)) + 4096
    assert sum(p.numel() for p in full.parameters()) == products + 2 * normed == 105_070_912


@pytest.mark.parametrize("size", [(64, 64), (65, 47), (9, 321)])
def test_grid_is_an_eighth_rounded_up(size: tuple[int, int]) -> None:
    features = ResNet38(base=1).eval()(torch.zeros(1, 3, *size))
    assert features.shape == (1, 64, -(-size[0] // 8), -(-size[1] // 8))


def test_one_output_depends_on_exactly_its_receptive_field() -> None:
    net = ResNet38(base=1).eval()
    for parameter in net.parameters():  # no kernel cancels another and every ReLU is active
        parameter.data.uniform_(0.5, 1.0) if parameter.ndim == 4 else parameter.data.fill_(1.0)
    pixels = torch.ones(1, 3, 8, 801, dtype=torch.float64, requires_grad=True)
    net.double()(pixels)[0, :, 0, 50].sum().backward()
    assert pixels.grad is not None
    receptive = (pixels.grad[0, 0, 0] != 0).nonzero()[:, 0]
    # Each 3x3 kernel widens the field by 2 x dilation x the grid it reads.
    grids = {"conv1a": 1, "b2": 1, "b3": 2, "b4": 4, "b5": 8, "b6": 8, "b7": 8}
    width = 1
    for name, (_, _, side, _, dilation) in table().items():
        stage = name.split(".")[0]
        first = stage in grids and name.endswith(("conv1a", "branch2a"))
        grid = grids[stage.split("_")[0]]
        if stage[0] == "b" and not first and stage[1] in "234":
            grid *= 2
        width += (side - 1) * dilation * grid if not name.endswith("branch1") else 0
    assert width == 557
    assert int(receptive[-1] - receptive[0]) + 1 == width
    assert int(receptive[0] + receptive[-1]) // 2 == 400


def convolved(x: Tensor, kernel: nn.Conv2d) -> Tensor:
    """Convolution by its formula."""
    (out, into, side, _), stride, dilation = kernel.weight.shape, kernel.stride[0], kernel.dilation[0]
    h, w = x.shape[1:]
    reach = dilation * (side // 2)
    y = torch.zeros(out, -(-h // stride), -(-w // stride), dtype=x.dtype)
    for o, i, j in itertools.product(range(out), range(y.shape[1]), range(y.shape[2])):
        for c, di, dj in itertools.product(range(into), range(side), range(side)):
            row, column = i * stride - reach + di * dilation, j * stride - reach + dj * dilation
            if 0 <= row < h and 0 <= column < w:
                y[o, i, j] += kernel.weight[o, c, di, dj] * x[c, row, column]
    return y


def activated(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    y = torch.empty_like(x)
    for c in range(len(x)):
        scale = norm.weight[c] / (norm.running_var[c] + 1e-5).sqrt()
        y[c] = ((x[c] - norm.running_mean[c]) * scale + norm.bias[c]).clamp(min=0)
    return y


def with_random_norms(block: nn.Module) -> nn.Module:
    """Set a block to evaluation mode with random norm parameters."""
    torch.manual_seed(3)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.3, 1.5)
    return block.double().eval()


@pytest.mark.parametrize(("after", "stride", "dilations"), [(4, 2, (1, 1)), (3, 1, (2, 2)), (4, 1, (1, 2))])
def test_basic_block_matches_its_formula(after: int, stride: int, dilations: tuple[int, int]) -> None:
    block = BasicBlock(3, 2, after, stride, dilations)
    with_random_norms(block)
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    active = activated(x, block.bn_branch2a)
    branch = convolved(
        activated(convolved(active, block.conv_branch2a), block.bn_branch2b1), block.conv_branch2b1
    )
    skip = x if block.conv_branch1 is None else convolved(active, block.conv_branch1)
    assert (block.conv_branch1 is None) == (after == 3)
    torch.testing.assert_close(block(x[None])[0], skip + branch)


def test_bottleneck_matches_its_formula() -> None:
    block = Bottleneck(3, 8, dilation=4, dropout=0.5)
    with_random_norms(block)
    x = torch.randn(3, 6, 9, dtype=torch.float64)
    active = activated(x, block.bn_branch2a)
    branch = activated(convolved(active, block.conv_branch2a), block.bn_branch2b1)
    branch = activated(convolved(branch, block.conv_branch2b1), block.bn_branch2b2)
    wanted = convolved(active, block.conv_branch1) + convolved(branch, block.conv_branch2b2)
    torch.testing.assert_close(block(x[None])[0], wanted)


def test_dropout_takes_whole_channels_at_the_papers_rates(full: ResNet38) -> None:
    rates = {name: module.p for name, module in full.named_modules() if isinstance(module, nn.Dropout2d)}
    assert rates == {
        "b6.dropout_2b1": 0.3, "b6.dropout_2b2": 0.3, "b7.dropout_2b1": 0.5, "b7.dropout_2b2": 0.5,
    }  # fmt: skip


def test_norms_have_low_momentum_and_the_first_kernel_is_frozen(full: ResNet38) -> None:
    assert {m.momentum for m in full.modules() if isinstance(m, nn.BatchNorm2d)} == {3e-4}
    assert [name for name, p in full.named_parameters() if not p.requires_grad] == ["conv1a.weight"]


@pytest.mark.parametrize("base", [0, 65])
def test_base_is_a_count_of_channels(base: int) -> None:
    with pytest.raises(InputError, match=f"base is {base}. Give a whole number, from 1 to 64"):
        ResNet38(base)
