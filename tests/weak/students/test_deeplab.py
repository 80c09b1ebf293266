"""DeepLab on WideResNet-38: its head and its parameter groups."""

import pytest
import torch
from torch import nn

from tagmask.weak.students.deeplab import DeepLab, deeplab_groups


@pytest.fixture
def narrow() -> DeepLab:
    torch.manual_seed(0)
    return DeepLab(5, base=1, hidden=6)


def test_head_of_the_published_width() -> None:
    with torch.device("meta"):
        net = DeepLab(21)
    kernels = [(*m.weight.shape[:3], m.dilation[0]) for m in net.head if isinstance(m, nn.Conv2d)]
    assert kernels == [(512, 4096, 3, 12), (512, 512, 1, 1), (21, 512, 1, 1)]
    head = 4096 * 9 * 512 + 512 + 2 * 512 + 512 * 512 + 512 + 2 * 512 + 512 * 21 + 21
    assert sum(p.numel() for p in net.head.parameters()) == head
    assert [m.p for m in net.head if isinstance(m, nn.Dropout)] == [0.5]
    assert {m.momentum for m in net.head if isinstance(m, nn.BatchNorm2d)} == {3e-4}


@pytest.mark.parametrize("size", [(64, 48), (33, 65), (9, 9)])
def test_logits_are_at_one_eighth(narrow: DeepLab, size: tuple[int, int]) -> None:
    logits = narrow.eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5, -(-size[0] // 8), -(-size[1] // 8))


def test_head_reads_cells_at_distance_twelve(narrow: DeepLab) -> None:
    features = torch.zeros(1, 64, 1, 41)
    features[..., 20] = 1.0
    plain = narrow.eval().head(torch.zeros(1, 64, 1, 41))
    changed = (narrow.head(features) - plain).abs().amax((0, 1, 2))
    assert changed.nonzero()[:, 0].tolist() == [8, 20, 32]


def test_groups_have_the_published_factors(narrow: DeepLab) -> None:
    groups = deeplab_groups(narrow)
    assert [(g.name, g.factor, g.decays) for g in groups] == [
        ("trunk weights", 1.0, True),
        ("head weights", 10.0, True),
        ("head biases", 20.0, False),
    ]
    names = {id(p): name for name, p in narrow.named_parameters()}
    grouped = [names[id(p)] for group in groups for p in group.parameters]
    norms = {
        f"{name}.{part}"
        for name, module in narrow.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == set(names.values()) - norms - {"trunk.conv1a.weight"}


def test_a_step_changes_exactly_the_grouped_parameters(narrow: DeepLab) -> None:
    before = {name: p.detach().clone() for name, p in narrow.named_parameters()}
    groups = deeplab_groups(narrow)
    optimizer = torch.optim.SGD(
        [
            {"params": group.parameters, "lr": 1e-3 * group.factor, "weight_decay": 5e-4 * group.decays}
            for group in groups
        ],
        lr=1e-3,
    )
    narrow.train()(torch.randn(2, 3, 64, 64)).square().sum().backward()
    optimizer.step()
    moved = {name for name, p in narrow.named_parameters() if not torch.equal(p, before[name])}
    names = {id(p): name for name, p in narrow.named_parameters()}
    assert moved == {names[id(p)] for group in groups for p in group.parameters}
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-2, 2e-2])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 5e-4, 0.0]
