"""How students are trained: the numbers as data, and the rate at each step.

`RECIPES` is looked up by a student's name, or NAME/VARIANT. What the sources leave open is this project's
choice, and said so beside the number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from tagmask.checks import check_choice, check_number
from tagmask.weak.students.kinds import ParameterGroup

__all__ = ["RECIPES", "StudentRecipe", "make_optimizer", "rate_at"]

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("poly", "cosine")


@dataclass(frozen=True)
class StudentRecipe:
    """A student's training in numbers.

    Raises:
        InputError: a value out of range.
    """

    optimizer: str
    """"sgd" or "adamw"."""
    rate: float
    """Base learning rate; `ParameterGroup.factor` multiplies it."""
    decay: float
    """Weight decay of the groups that decay."""
    schedule: str
    """"poly" or "cosine"."""
    steps: int
    """Updates in all."""
    batch: int
    crop: int
    """Side in pixels of the squares trained on; smaller pictures are padded, labels with 255."""
    power: float = 0.9
    """Of the polynomial schedule."""
    warmup: int = 0
    """Steps over which the rate rises linearly from nearly nothing."""
    momentum: float = 0.9
    """Of SGD."""
    scales: tuple[float, float] = (0.5, 1.5)
    """Pictures are resized by a factor drawn from this range (labels by nearest)."""
    jitter: int = 10
    """Hue (in halves of a degree, modulo 180), saturation and value shift by up to this."""
    flip: float = 0.5
    """How often a picture is mirrored."""

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        for name in ("rate", "decay", "power"):
            check_number(name, getattr(self, name), 0)
        for name in ("steps", "batch", "crop"):
            check_number(name, getattr(self, name), 1, whole=True)
        for name in ("warmup", "jitter"):
            check_number(name, getattr(self, name), 0, whole=True)
        for name in ("momentum", "flip"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("lowest of scales", self.scales[0], 0.01, self.scales[1])


_RESNET38 = StudentRecipe(
    optimizer="sgd", rate=1e-3, decay=5e-4, schedule="poly", steps=40000, batch=16, crop=448
)
_SEGFORMER = StudentRecipe(
    optimizer="adamw",
    rate=6e-5,
    decay=0.01,
    schedule="poly",
    steps=40000,
    batch=16,
    crop=512,
    power=1.0,
    warmup=1500,
    scales=(0.5, 2.0),
)

RECIPES: Mapping[str, StudentRecipe] = MappingProxyType(
    {
        # The retraining's configuration file; its batch is 10, its program's default is 16.
        "deeplab-resnet38": _RESNET38,
        "deeplab-resnet38/coco": replace(_RESNET38, rate=1.5e-3, steps=160000),
        # The program's argument defaults, which override that file whatever it says.
        "deeplab-resnet38/arguments": replace(_RESNET38, rate=5e-3),
        # No program or configuration is published for those below.
        "segformer-b0": _SEGFORMER,
        "segformer-b1": _SEGFORMER,
        "segformer-b2": _SEGFORMER,
        "deit-s": replace(_SEGFORMER, rate=1e-4, schedule="cosine"),
        "small": StudentRecipe(
            optimizer="adamw",
            rate=2e-3,
            decay=0.01,
            schedule="poly",
            steps=4000,
            batch=16,
            crop=256,
            warmup=100,
        ),
    }
)


def rate_at(recipe: StudentRecipe, step: int) -> float:
    """The base rate of one update.

    Args:
        recipe: "poly" gives rate (1 - step / (steps + 1))^power; "cosine" falls to 0 over the steps.
        step: counted from 0; those beyond the recipe's last are the last.

    Source:
        The polynomial as coded for WeakCLIP's retraining (steps + 1, so that the last update still moves).

    Example:
        >>> round(rate_at(RECIPES["deeplab-resnet38"], 20000), 7)
        0.0005359
    """
    check_number("step", step, 0, whole=True)
    at = min(step, recipe.steps - 1)
    if recipe.schedule == "poly":
        share = (1 - at / (recipe.steps + 1)) ** recipe.power
    else:
        share = (1 + math.cos(math.pi * at / recipe.steps)) / 2
    rising = min(1.0, (at + 1) / recipe.warmup) if recipe.warmup else 1.0
    return float(recipe.rate * share * rising)


def make_optimizer(groups: Sequence[ParameterGroup], recipe: StudentRecipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe; each of its groups also carries its `factor`.

    Before an update, set every group's `lr` to `rate_at(recipe, step) * group["factor"]`.
    """
    told = [
        {
            "params": list(group.parameters),
            "lr": rate_at(recipe, 0) * group.factor,
            "weight_decay": recipe.decay if group.decays else 0.0,
            "factor": group.factor,
        }
        for group in groups
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(told, momentum=recipe.momentum)
    return torch.optim.AdamW(told)
