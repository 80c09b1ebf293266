"""The least time that a row's matrix products take on this machine, at the very shapes that they have.

A peak is that of a product of large square matrices. An image tower's products are smaller, so no program
reaches it; this is the sum of their own times, with the fastest form that is at hand, and nothing in between.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.packed import can_pack

__all__ = ["Pass", "floor_seconds"]

_REPEATS = 5
_HEAD = 64
_LAYER = ((1, 3), (1, 1), (1, 4), (4, 1))
"""Input and output of a layer's linear products, in widths of the tower."""
_SECOND_HALF = _LAYER[1:]


@dataclass(frozen=True)
class Pass:
    """Part of a forward or backward pass."""

    width: int
    batch: int
    tokens: int
    layers: float
    attends: bool = True
    """Without: only what follows a layer's attention."""


def floor_seconds(passes: Sequence[Pass], dtype: torch.dtype) -> float:
    """Seconds of the matrix products of all passes."""
    total = 0.0
    with torch.inference_mode():
        for each in passes:
            rows = each.batch * each.tokens
            products = _LAYER if each.attends else _SECOND_HALF
            seconds = sum(_linear_seconds(rows, a * each.width, b * each.width, dtype) for a, b in products)
            if each.attends:
                seconds += _attention_seconds(each, dtype)
            total += each.layers * seconds
    return total


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _linear_seconds(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    bias = torch.randn(outputs).to(dtype)
    forms: list[Callable[[], Tensor]] = [lambda: F.linear(x, weight, bias)]
    if can_pack(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        forms.append(lambda: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], ""))
    return min(_best(form) for form in forms)


def _attention_seconds(each: Pass, dtype: torch.dtype) -> float:
    shape = each.batch, each.width // _HEAD, each.tokens, _HEAD
    q, k, v = (torch.randn(shape).to(dtype) for _ in range(3))
    return _best(lambda: F.scaled_dot_product_attention(q, k, v))
