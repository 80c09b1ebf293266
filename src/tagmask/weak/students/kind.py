"""What a student is, said once: its contract, and the groups its parameters are trained in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["InheritedPreprocessing", "Logits", "ParameterGroup", "Statistics", "StudentKind", "split_groups"]

Logits: TypeAlias = Float[Tensor, "b k gh gw"]
"""One plane a class, on the student's own grid: k classes, gh x gw places."""


Statistics: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and std of pixels in 0..1."""


@dataclass(frozen=True)
class InheritedPreprocessing:
    """What a new network has from the CLIP that it starts from."""

    settings: Mapping[str, int | float]
    """That build the same network without it."""
    statistics: Statistics
    """Of the pixels that it has known."""


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that share a rate."""

    name: str
    parameters: tuple[nn.Parameter, ...] = field(repr=False)
    factor: float = 1.0
    """Times the learning rate of the recipe."""
    decays: bool = True
    """The recipe's weight decay applies."""


@dataclass(frozen=True)
class StudentKind:
    """A student architecture: how it is built, and what those who call it must know.

    Its network takes normalised pixels (b, 3, h, w), h and w multiples of `multiple`, and gives logits
    (b, k, ceil(h / stride), ceil(w / stride)).
    """

    summary: str
    source: str
    build: Callable[..., nn.Module] = field(repr=False)
    """(classes, weights, **settings) -> network."""
    groups: Callable[[nn.Module], tuple[ParameterGroup, ...]] = field(repr=False)
    stride: int
    multiple: int
    """Of the sides of what the network is given; pictures are padded to it with the mean colour."""
    aligned: bool = False
    """Logits are enlarged with aligned corners: first and last place lie on first and last pixel."""
    settings: tuple[str, ...] = ()
    """What `build` can be told by name."""
    inherited_preprocessing: Callable[[nn.Module], InheritedPreprocessing] | None = field(
        default=None, repr=False
    )
    """Of a network that was built from a CLIP's weights, which are then named as `tagmask.load` takes them;
    None: it starts from a file or a folder, or from nothing."""


def split_groups(
    net: nn.Module, heads: Iterable[nn.Module], head_factor: float
) -> tuple[ParameterGroup, ...]:
    """Trunk and heads, each with and without weight decay.

    Norms, biases, and what is no matrix or kernel (position tables, class tokens) do not decay.

    Args:
        net: the whole.
        heads: parts of it that learn faster.
        head_factor: how much faster.

    Returns:
        Every parameter that asks for a gradient, once; empty groups are left out.
    """
    new = {id(parameter) for head in heads for parameter in head.parameters()}
    matrices = {
        id(module.weight)
        for module in net.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and isinstance(module.weight, nn.Parameter)
    }
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = []
    for name, in_head, factor in (("trunk", False, 1.0), ("head", True, head_factor)):
        for ending, decays in (("weights", True), ("norms and biases", False)):
            members = tuple(p for p in trained if (id(p) in new) is in_head and (id(p) in matrices) is decays)
            groups.append(ParameterGroup(f"{name} {ending}", members, factor, decays))
    return tuple(group for group in groups if group.parameters)
