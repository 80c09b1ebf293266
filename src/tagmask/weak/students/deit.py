"""DeiT-S: a plain vision transformer with a linear head, from the `transformers` package.

Twelve blocks of width 384 with 6 heads on patches of 16; a linear layer classifies the final patch tokens.
The position table is resized bicubically to the patch grid.

Source:
    Touvron et al., "DeiT" (ICML 2021); the linear head as in Strudel et al., "Segmenter" (ICCV 2021).
    WeakCLIP's paper uses DeiT-S without giving its settings; those here are this project's choice.
"""

from pathlib import Path
from typing import cast

from torch import nn

from tagmask.types import Pixels
from tagmask.weak.students.hf_folders import from_folder, need_transformers
from tagmask.weak.students.kind import Logits

__all__ = ["PATCH", "DeitSmall"]

PATCH = 16
_WIDTH, _BLOCKS, _HEADS, _STORED = 384, 12, 6, 224


class DeitSmall(nn.Module):
    """DeiT-S with a linear head.

    Args:
        classes: number of classes.
        weights: folder of a network without distillation (such as `facebook/deit-small-patch16-224`); None:
            random weights.

    Raises:
        InputError: transformers is not installed.
        WeightsError: the folder cannot be used.
    """

    def __init__(self, classes: int, weights: Path | None = None) -> None:
        super().__init__()
        transformers = need_transformers("deit-s")
        config = transformers.ViTConfig(
            hidden_size=_WIDTH,
            num_hidden_layers=_BLOCKS,
            num_attention_heads=_HEADS,
            intermediate_size=4 * _WIDTH,
            patch_size=PATCH,
            image_size=_STORED,
        )
        if weights is None:
            self.trunk: nn.Module = transformers.ViTModel(config, add_pooling_layer=False)
        else:
            self.trunk = from_folder(
                "deit-s", transformers.ViTModel, weights, ("pooler.",), config=config, add_pooling_layer=False
            )
        self.head = nn.Linear(_WIDTH, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Pixels) -> Logits:
        """Compute logits per patch; sides of `pixels` must be multiples of 16."""
        b, _, h, w = pixels.shape
        tokens = self.trunk(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        planes = self.head(tokens).transpose(1, 2)
        return cast(Logits, planes.reshape(b, -1, h // PATCH, w // PATCH))
