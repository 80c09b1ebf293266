"""SegFormer on MiT-B0, B1 or B2, from the `transformers` package.

Four stages of efficient self-attention at 1/4, 1/8, 1/16 and 1/32, and an all-MLP head that upsamples all of
them to 1/4 and fuses them.

Source:
    Xie et al., "SegFormer" (NeurIPS 2021). WeakCLIP's paper uses MiT-B2 without giving its settings; those
    here are this project's choice (`configs/student/segformer-b2.toml`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import cast

from torch import nn

from tagmask.types import Pixels
from tagmask.weak.students.hf_folders import from_folder, need_transformers
from tagmask.weak.students.kind import Logits

__all__ = ["SIZES", "SegFormer"]


@dataclass(frozen=True)
class _Size:
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    head: int


SIZES: Mapping[str, _Size] = MappingProxyType(
    {
        "segformer-b0": _Size((2, 2, 2, 2), (32, 64, 160, 256), 256),
        "segformer-b1": _Size((2, 2, 2, 2), (64, 128, 320, 512), 256),
        "segformer-b2": _Size((3, 4, 6, 3), (64, 128, 320, 512), 768),
    }
)
"""Blocks and channels of the four stages, and channels of the head, as in the paper's table."""


class SegFormer(nn.Module):
    """SegFormer of one size.

    Args:
        name: one of `SIZES`.
        classes: number of classes.
        weights: folder of a network of this size (such as `nvidia/mit-b2`); None: random weights.

    Raises:
        InputError: transformers is not installed.
        WeightsError: the folder cannot be used.
    """

    def __init__(self, name: str, classes: int, weights: Path | None = None) -> None:
        super().__init__()
        transformers = need_transformers(name)
        size = SIZES[name]
        config = transformers.SegformerConfig(
            depths=list(size.depths),
            hidden_sizes=list(size.widths),
            decoder_hidden_size=size.head,
            num_labels=classes,
        )
        kind = transformers.SegformerForSemanticSegmentation
        if weights is None:
            self.net: nn.Module = kind(config)
        else:
            self.net = from_folder(name, kind, weights, ("decode_head.",), config=config)

    def forward(self, pixels: Pixels) -> Logits:
        """Compute logits at one quarter of the image's size; sides of `pixels` must be multiples of 32."""
        return cast(Logits, self.net(pixels).logits)
