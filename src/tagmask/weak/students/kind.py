"""The interface of student architectures, and their parameter groups."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["InheritedPreprocessing", "Logits", "ParameterGroup", "Statistics", "StudentKind", "split_groups"]

Logits: TypeAlias = Float[Tensor, "b k gh gw"]
"""Logits of k classes on the student's output grid of gh x gw cells."""


Statistics: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and std of pixels in 0..1."""


@dataclass(frozen=True)
class InheritedPreprocessing:
    """Settings and preprocessing that a network inherits from the CLIP that it starts from."""

    settings: Mapping[str, int | float]
    """Settings that build the same architecture without the CLIP."""
    statistics: Statistics
    """Mean and std of the CLIP's preprocessing."""


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters with one learning rate factor and weight decay."""

    name: str
    parameters: tuple[nn.Parameter, ...] = field(repr=False)
    factor: float = 1.0
    """Factor on the base learning rate."""
    decays: bool = True
    """Whether weight decay applies."""


@dataclass(frozen=True)
class StudentKind:
    """A student architecture: how to build, train and call its network.

    The network takes normalised pixels (b, 3, h, w), with h and w multiples of `multiple`, and returns
    logits (b, k, ceil(h / stride), ceil(w / stride)).
    """

    summary: str
    source: str
    build: Callable[..., nn.Module] = field(repr=False)
    """(classes, weights, **settings) -> network."""
    groups: Callable[[nn.Module], tuple[ParameterGroup, ...]] = field(repr=False)
    stride: int
    multiple: int
    """Divisor of the input's sides; images are padded to it with the mean colour."""
    aligned: bool = False
    """Whether logits are resized with aligned corners."""
    settings: tuple[str, ...] = ()
    """Names of the settings that `build` accepts."""
    inherited_preprocessing: Callable[[nn.Module], InheritedPreprocessing] | None = field(
        default=None, repr=False
    )
    """For students that start from CLIP weights, which are then given as `tagmask.load` takes them; None: the
    student starts from a file, a folder or random weights."""


def split_groups(
    net: nn.Module, heads: Iterable[nn.Module], head_factor: float
) -> tuple[ParameterGroup, ...]:
    """Group parameters into trunk and heads, each with and without weight decay.

    Only matrices and kernels decay; norms, biases, position tables and class tokens do not.

    Args:
        net: the whole network.
        heads: its heads.
        head_factor: learning rate factor of the heads.

    Returns:
        Groups that contain every trainable parameter once; empty groups are dropped.
    """
    in_heads = {id(parameter) for head in heads for parameter in head.parameters()}
    matrices = {
        id(module.weight)
        for module in net.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(module.weight, nn.Parameter)
    }
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = []
    for name, in_head, factor in (("trunk", False, 1.0), ("head", True, head_factor)):
        for ending, decays in (("weights", True), ("norms and biases", False)):
            members = tuple(
                p for p in trained if (id(p) in in_heads) is in_head and (id(p) in matrices) is decays
            )
            groups.append(ParameterGroup(f"{name} {ending}", members, factor, decays))
    return tuple(group for group in groups if group.parameters)
