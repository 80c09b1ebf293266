"""Refuse NaN and infinity: in weights files, and in what a network computes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["check_computed", "check_finite", "is_finite", "non_finite_error"]


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that all values of a file stay finite numbers in float32.

    Args:
        tensors: floating point; other dtypes are skipped.
        path: their file, for messages.

    Raises:
        WeightsError: naming the tensors with a value that does not.
    """
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not is_finite(tensor.float())
    ]
    if wrong:
        raise non_finite_error(wrong, path)


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite; much faster than `torch.isfinite` if they are."""
    # NaN or infinity stays one in a sum. A sum of finite numbers may become infinite too.
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def non_finite_error(names: Sequence[str], path: Path) -> WeightsError:
    """Return the error that names the tensors of a file that have a value that is not finite."""
    return WeightsError(
        f"{path} holds NaN or infinite values, in {_few(names)}. "
        "Its training diverged, or the file is damaged: get other weights."
    )


def check_computed(values: Tensor | np.ndarray, what: str) -> None:
    """Check that computed features or scores are finite numbers.

    Args:
        values: of any shape.
        what: in messages: "The image features".

    Raises:
        WeightsError: one of them is not.
    """
    # A sum needs no memory, and is NaN or infinite if one of its terms is.
    if not bool(torch.isfinite(torch.as_tensor(values).sum(dtype=torch.float32))):
        raise WeightsError(
            f"{what} are NaN or infinite. Check the weights (`tagmask weights check`), "
            "and use precision float32 if they were trained in bfloat16."
        )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(shortened, names[:3]))
    return f"{shown} ({len(names)} tensors in all)" if len(names) > 3 else shown
