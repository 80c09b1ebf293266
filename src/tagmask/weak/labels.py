"""Label maps: the ignore index, and nearest-neighbour resizing."""

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from tagmask.types import Size

__all__ = ["IGNORE_INDEX", "resized_nearest"]

IGNORE_INDEX = 255
"""Label of pixels without a class: padding, or pixels that a seed leaves unlabelled. Defined only here."""

LabelMap = TypeVar("LabelMap", UInt8[np.ndarray, "_ _"], Integer[Tensor, "b _ _"])


def resized_nearest(labels: LabelMap, size: Size) -> LabelMap:
    """Resize labels: output pixel i takes input pixel floor(i * old / new), as in OpenCV and PyTorch.

    Args:
        labels: one map as an array (h, w), or a batch of them as a tensor (b, h, w).
        size: (h, w) of the result.

    Example:
        >>> resized_nearest(np.array([[1, 2, 3, 4]], np.uint8), (1, 2)).tolist()
        [[1, 3]]
    """
    # In integers: the product in floats can fall just below a whole number.
    rows, columns = (np.arange(new) * old // new for old, new in zip(labels.shape[-2:], size, strict=True))
    if isinstance(labels, Tensor):
        at_rows, at_columns = (torch.from_numpy(each).to(labels.device) for each in (rows, columns))
        return labels[:, at_rows[:, None], at_columns]
    picked: UInt8[np.ndarray, "_ _"] = labels[np.ix_(rows, columns)]
    return picked
