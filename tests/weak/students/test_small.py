"""The light student: shapes, parameter count, and that it learns."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from tagmask.errors import InputError
from tagmask.weak.students.small import Small


def by_formula(classes: int, width: int) -> int:
    """Parameters, counted from the description, not from the modules."""
    wide = [3 * width // 2, 3 * width, 5 * width, 6 * width]
    inner = wide[1]
    total = 3 * 9 * width + 2 * width + width * 9 * wide[0] + 2 * wide[0]  # stem
    total += 2 * (9 * wide[0] ** 2 + 2 * wide[0])  # the first stage, at the stem's width and grid
    for before, after in pairwise(wide):
        total += (
            9 * before * after + 9 * after**2 + before * after + 6 * after
        )  # its skip connection is a 1x1
        total += 2 * (9 * after**2 + 2 * after)
    total += sum(each * inner + 2 * inner for each in wide)  # sideways
    total += wide[-1] * inner + inner  # global mean
    total += 3 * (9 * inner + 2 * inner + inner * inner + 2 * inner)  # mixes
    return total + inner * classes + classes


@pytest.mark.parametrize(("classes", "width"), [(21, 32), (2, 8), (171, 16)])
def test_parameters(classes: int, width: int) -> None:
    with torch.device("meta"):
        net = Small(classes, width)
    assert sum(p.numel() for p in net.parameters()) == by_formula(classes, width)


def test_default_has_the_documented_size() -> None:
    assert 2.55e6 < by_formula(21, 32) < 2.65e6


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 200)])
def test_logits_are_at_one_quarter(size: tuple[int, int]) -> None:
    logits = Small(4, width=8).eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 4, -(-size[0] // 4), -(-size[1] // 4))


def test_every_part_gets_a_gradient() -> None:
    net = Small(4, width=8).train()
    net(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())


def test_it_learns_to_find_red() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(4, 16, 16, dtype=torch.long)
    for i, (y, x) in enumerate(((0, 0), (8, 0), (0, 8), (8, 8))):
        labels[i, y : y + 8, x : x + 8] = 1
    pixels = (
        functional.interpolate(labels[:, None].float(), scale_factor=4)
        * torch.tensor([2.0, -1, -1])[:, None, None]
    )
    net = Small(2, width=8, dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(net(pixels + 0.1 * torch.randn_like(pixels)), labels).backward()
        optimizer.step()
    right = (net(pixels).argmax(1) == labels).float().mean()
    assert float(right) > 0.97


@pytest.mark.parametrize(("name", "value"), [("width", 4), ("dropout", 1.0)])
def test_settings_out_of_range(name: str, value: int | float) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}"):
        Small(3, **{name: value})
