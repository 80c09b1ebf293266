"""Refuse NaN and infinity: in weights files, and in what a network computes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["check_computed", "check_finite", "non_finite"]


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that all values of a file stay finite numbers in float32.

    Args:
        tensors: floating point; other dtypes are skipped.
        path: their file, for messages.

    Raises:
        WeightsError: naming the tensors with a value that does not.
    """
    wrong = non_finite(tensors)
    if wrong:
        raise WeightsError(
            f"{path} holds NaN or infinite values, in {_few(wrong)}. "
            "Its training diverged, or the file is damaged: get other weights."
        )


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the floating point tensors that are not finite in float32."""
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all())
    ]


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
