"""Catalogue of the students by name, and their construction."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

from torch import nn

from tagmask.checks import check_choice, check_number, did_you_mean, shown
from tagmask.errors import InputError
from tagmask.weak.students.clip_tower import ClipTower, inherited_preprocessing
from tagmask.weak.students.deeplab import DeepLab, deeplab_groups
from tagmask.weak.students.deit import PATCH, DeitSmall
from tagmask.weak.students.imagenet import load_imagenet
from tagmask.weak.students.kind import ParameterGroup, StudentKind, split_groups
from tagmask.weak.students.segformer import SIZES, SegFormer
from tagmask.weak.students.small import Small

__all__ = ["STUDENTS", "build_student", "parameter_groups", "students"]

MAX_CLASSES = 65535
"""Labels are at most 16 bits wide."""


def build_student(
    name: str, classes: int, *, weights: str | Path | None = None, **settings: int | float
) -> nn.Module:
    """Build a student for training.

    Args:
        name: one of `STUDENTS`.
        classes: number of classes, including the background if there is one.
        weights: initial weights; None: random, from torch's global generator. "clip": CLIP weights, as
            `tagmask.load` takes them; "deeplab-resnet38": a file of ImageNet weights for its trunk;
            "segformer-b0" to "segformer-b2" and "deit-s": a folder in Hugging Face format; "small" has none.
        settings: of this student by name, see its class.

    Returns:
        A network in training mode; see `StudentKind` for its input and output.

    Raises:
        InputError: an unknown name or setting, a number of classes out of range, or transformers is missing.
        WeightsError: weights that cannot be used.

    Example:
        >>> import torch
        >>> student = build_student("small", 3, width=8).eval()
        >>> student(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 3, 16, 24])
    """
    check_choice("student", name, tuple(STUDENTS))
    check_number("classes", classes, 2, MAX_CLASSES, whole=True)
    kind = STUDENTS[name]
    for setting in settings:
        if setting not in kind.settings:
            known = f"Give one of {', '.join(kind.settings)}." if kind.settings else "It has no settings."
            hint = did_you_mean(setting, kind.settings, 1)
            raise InputError(f"The student {name!r} has no setting {shown(setting)}.{hint} {known}")
    if kind.inherited_preprocessing is None and weights is not None:
        weights = Path(weights)
    return kind.build(classes, weights, **settings)


def parameter_groups(name: str, net: nn.Module) -> tuple[ParameterGroup, ...]:
    """Parameter groups of a student, with their learning rate factors and weight decay.

    Raises:
        InputError: an unknown name.
    """
    check_choice("student", name, tuple(STUDENTS))
    return STUDENTS[name].groups(net)


def students() -> dict[str, str]:
    """Every student by name, with a one-line description and its source."""
    return {name: f"{kind.summary} ({kind.source})" for name, kind in STUDENTS.items()}


def _small(classes: int, weights: Path | None, **settings: int | float) -> nn.Module:
    if weights is not None:
        raise InputError(
            f"The student 'small' starts from random weights, not from {weights}. Leave model.weights empty."
        )
    return Small(classes, **settings)  # type: ignore[arg-type]


def _clip(classes: int, weights: str | Path | None, **settings: int | float) -> nn.Module:
    return ClipTower(classes, None if weights is None else str(weights), **settings)  # type: ignore[arg-type]


def _deeplab(classes: int, weights: Path | None, **settings: int | float) -> nn.Module:
    net = DeepLab(classes, **settings)  # type: ignore[arg-type]
    if weights is not None:
        load_imagenet(net.trunk, weights)
    return net


def _segformer(name: str) -> StudentKind:
    def build(classes: int, weights: Path | None) -> nn.Module:
        return SegFormer(name, classes, weights)

    return StudentKind(
        summary=f"SegFormer on MiT-{name[-2:].upper()}; needs the extra `students`",
        source="Xie et al., NeurIPS 2021",
        build=build,
        groups=lambda net: split_groups(net, [cast(SegFormer, net).net.decode_head], 10.0),  # type: ignore[list-item]
        stride=4,
        multiple=32,
    )


STUDENTS: Mapping[str, StudentKind] = MappingProxyType(
    {
        "small": StudentKind(
            summary="light convolutional encoder-decoder for CPUs, 2.6 million parameters",
            source="this project",
            build=_small,
            groups=lambda net: split_groups(net, [], 1.0),
            stride=4,
            multiple=32,
            settings=("width", "dropout"),
        ),
        "clip": StudentKind(
            summary="CLIP's image tower, fine-tuned, with a light decoder; starts from CLIP weights",
            source="this project",
            build=_clip,
            groups=lambda net: split_groups(net, [cast(ClipTower, net).decoder], 100.0),
            stride=4,
            multiple=1,
            settings=("width", "layers", "patch", "grid", "quick", "inner", "dropout"),
            inherited_preprocessing=inherited_preprocessing,
        ),
        "deeplab-resnet38": StudentKind(
            summary="DeepLab v1 on WideResNet-38, as WeakCLIP's paper retrains it, 124 million parameters",
            source="Wu et al., 2016; Zhu et al., IJCV 2024",
            build=_deeplab,
            groups=lambda net: deeplab_groups(cast(DeepLab, net)),
            stride=8,
            multiple=1,
            aligned=True,
            settings=("base", "hidden", "dropout"),
        ),
        **{name: _segformer(name) for name in SIZES},
        "deit-s": StudentKind(
            summary="plain vision transformer with a linear head; needs the extra `students`",
            source="Touvron et al., ICML 2021",
            build=DeitSmall,
            groups=lambda net: split_groups(net, [cast(DeitSmall, net).head], 10.0),
            stride=PATCH,
            multiple=PATCH,
        ),
    }
)
"""Every student, by its name in files and commands."""
