"""Rates of the students' recipes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tagmask.errors import InputError
from tagmask.weak.students.catalogue import STUDENTS
from tagmask.weak.students.kinds import split_groups
from tagmask.weak.students.recipes import RECIPES, make_optimizer, rate_at


def test_every_student_has_a_recipe() -> None:
    assert {name.split("/")[0] for name in RECIPES} == set(STUDENTS)


def test_the_papers_numbers() -> None:
    voc, coco = RECIPES["deeplab-resnet38"], RECIPES["deeplab-resnet38/coco"]
    assert (voc.rate, voc.decay, voc.momentum, voc.power, voc.steps) == (1e-3, 5e-4, 0.9, 0.9, 40000)
    assert (voc.batch, voc.crop, voc.scales, voc.jitter, voc.flip) == (16, 448, (0.5, 1.5), 10, 0.5)
    assert (coco.rate, coco.steps) == (1.5e-3, 160000)
    assert RECIPES["deeplab-resnet38/arguments"].rate == 5e-3


def test_poly_is_the_formula_of_the_program() -> None:
    recipe = replace(RECIPES["deeplab-resnet38"], steps=7)
    for it in range(7):
        assert rate_at(recipe, it) == pytest.approx(1e-3 * (1 - it / (7 + 1)) ** 0.9, rel=1e-12)
    assert rate_at(recipe, 100) == rate_at(recipe, 6) > 0


def test_warm_up_rises_to_the_schedule() -> None:
    recipe = replace(RECIPES["deit-s"], steps=100, warmup=10)
    for it in range(100):
        wanted = 1e-4 * 0.5 * (1 + math.cos(math.pi * it / 100)) * min(1, (it + 1) / 10)
        assert rate_at(recipe, it) == pytest.approx(wanted, rel=1e-12)


def test_groups_are_split_by_part_and_kind() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net.register_parameter("table", nn.Parameter(torch.zeros(1, 4)))
    net[0].weight.requires_grad_(False)
    groups = split_groups(net, [net[2]], 10.0)
    assert [(g.name, len(g.parameters), g.factor, g.decays) for g in groups] == [
        ("trunk norms and biases", 4, 1.0, False),
        ("head weights", 1, 10.0, True),
        ("head norms and biases", 1, 10.0, False),
    ]
    optimizer = make_optimizer(groups, RECIPES["segformer-b0"])
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 0.01, 0.0]
    assert [g["lr"] / g["factor"] for g in optimizer.param_groups] == pytest.approx([6e-5 / 1500] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "lion"}, "optimizer 'lion' is unknown; give one of sgd, adamw"),
        ({"steps": 0}, "steps is 0"),
        ({"scales": (2.0, 1.0)}, "lowest of scales is 2.0"),
        ({"flip": 1.5}, "flip is 1.5"),
    ],
)
def test_recipes_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(RECIPES["small"], **change)  # type: ignore[arg-type]
