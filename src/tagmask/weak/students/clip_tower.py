"""`clip`: CLIP's image tower, fine-tuned, with light convolutions for details finer than a patch.

    image -> tower, captured at a third, a half, two thirds and the end of its depth -> 1x1 -+- classifier
          -> stem 1/2 -> 1/4 -> 1/8 --1x1--------------------------------- (+) <- up --------+      |
                          |                                                3x3                      up
                          +-----------1x1--------------------------------- (+) <- up                |
                                                                           3x3 -- classifier ----- (+)  1/4

The logits of the two classifiers are summed: the tower's classifier finds the classes within a few hundred
steps, the other one refines their outlines.

It starts from CLIP weights, so it needs no other download, and no text tower at run time. The position table
is resized bilinearly to the patch grid; the projection to the joint embedding space is dropped.

Source:
    This project. Depths as in WeakCLIP (Zhu et al., IJCV 2024), 4, 6, 8 and 12 of 12 blocks.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tagmask.checks import check_number
from tagmask.clip.load import Clip, load
from tagmask.clip.model import ACTIVATIONS, Vision
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.errors import InputError
from tagmask.types import Pixels
from tagmask.weak.students.kind import InheritedPreprocessing, Logits, Statistics
from tagmask.weak.students.layers import MOST_CHANNELS, convolution, initialise, resized_like

__all__ = ["ClipTower", "inherited_preprocessing"]

_MOST_LAYERS = 64
_MOST_SIDE = 512


class ClipTower(nn.Module):
    """CLIP's vision transformer with a decoder.

    Args:
        classes: number of classes.
        weights: CLIP weights, as `tagmask.load` takes them; None: a tower of the sizes below with random
            weights.
        width: width of the tower, a multiple of 64.
        layers: blocks of the tower.
        patch: side of a patch in pixels.
        grid: side of the stored position table in patches.
        quick: 1 for QuickGELU, 0 for GELU.
        inner: channels of the decoder.
        dropout: probability of dropping a whole channel before the classifier.

    Raises:
        InputError: a setting out of range.
        WeightsError: weights that cannot be used.
    """

    def __init__(
        self,
        classes: int,
        weights: str | None = None,
        *,
        width: int = 768,
        layers: int = 12,
        patch: int = 16,
        grid: int = 14,
        quick: int = 1,
        inner: int = 96,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_number("inner", inner, 8, MOST_CHANNELS, whole=True)
        check_number("dropout", dropout, 0, 0.9)
        self.statistics: Statistics | None = None
        if weights is None:
            self.tower = _random_tower(width, layers, patch, grid, quick)
        else:
            clip = load(weights, device="cpu", precision="float32")
            quick = int(clip.activation == "quickgelu")
            self.tower = _copy_tower(clip, quick)
            self.statistics = (clip.mean, clip.std)
        self.settings: dict[str, int | float] = {
            "width": len(self.tower.class_embedding),
            "layers": len(self.tower.blocks),
            "patch": self.tower.patch,
            "grid": self.tower.grid,
            "quick": quick,
            "inner": inner,
            "dropout": dropout,
        }
        depth = len(self.tower.blocks)
        self.taps = tuple(max(round(depth * part), 1) for part in (1 / 3, 1 / 2, 2 / 3, 1))
        self.decoder = _Decoder(classes, 4 * len(self.tower.class_embedding), inner, dropout)

    def forward(self, pixels: Pixels) -> Logits:
        """Compute logits at one quarter of the image's size, which may be any."""
        h, w = pixels.shape[-2:]
        patch = self.tower.patch
        padded = functional.pad(pixels, (0, -w % patch, 0, -h % patch))  # with the mean colour
        logits: Tensor = self.decoder(padded, self._maps(padded))
        return logits[..., : (h + 3) // 4, : (w + 3) // 4]  # not -(-h // 4): ONNX rounds towards zero

    def _maps(self, pixels: Pixels) -> Float[Tensor, "b c gh gw"]:
        gh, gw = pixels.shape[-2] // self.tower.patch, pixels.shape[-1] // self.tower.patch
        table, side = self.tower.positional_embedding, self.tower.grid
        square = table[1:].T.reshape(1, -1, side, side)
        # Resized even if the grid is the stored one: an exported graph has no branches.
        patches = functional.interpolate(square, size=(gh, gw), mode="bilinear", align_corners=False)
        x = self.tower.embed(pixels, torch.cat([table[:1], patches[0].flatten(1).T]))
        captured = []
        for number, block in enumerate(self.tower.blocks, 1):
            x = block(x)
            captured += [x[:, 1:]] * self.taps.count(number)
        captured[-1] = self.tower.ln_post(captured[-1])
        return torch.cat(captured, dim=2).transpose(1, 2).reshape(x.shape[0], -1, gh, gw)


def inherited_preprocessing(net: nn.Module) -> InheritedPreprocessing:
    """Settings and preprocessing that a network inherits from its CLIP.

    Raises:
        InputError: the network was built without CLIP weights.
    """
    if not isinstance(net, ClipTower) or net.statistics is None:
        raise InputError(
            "The student 'clip' needs CLIP weights. Set model.weights, as in --set weights=miniature."
        )
    return InheritedPreprocessing(net.settings, net.statistics)


class _Decoder(nn.Module):
    def __init__(self, classes: int, tower_channels: int, inner: int, dropout: float) -> None:
        super().__init__()
        fine, middle = inner // 2, inner
        self.stem = nn.Sequential(convolution(3, fine, 3, 2), convolution(fine, fine, 3, 2))
        self.down = convolution(fine, middle, 3, 2)
        self.seen = convolution(tower_channels, inner, 1)
        self.sideways = nn.ModuleList(convolution(wide, inner, 1, active=False) for wide in (middle, fine))
        self.mixes = nn.ModuleList(convolution(inner, inner, 3) for _ in range(2))
        self.dropout = nn.Dropout2d(dropout)
        self.coarse, self.fine = (nn.Conv2d(inner, classes, 1) for _ in range(2))
        initialise(self, self.coarse)
        nn.init.normal_(self.fine.weight, std=0.01)

    def forward(self, pixels: Pixels, maps: Float[Tensor, "b c _ _"]) -> Logits:
        fine = self.stem(pixels)
        merged = tower_features = self.seen(maps)
        for level, sideways, mix in zip((self.down(fine), fine), self.sideways, self.mixes, strict=True):
            merged = mix(resized_like(merged, level) + sideways(level))
        coarse = self.coarse(self.dropout(tower_features))
        return cast(Logits, resized_like(coarse, merged) + self.fine(self.dropout(merged)))


def _random_tower(width: int, layers: int, patch: int, grid: int, quick: int) -> Vision:
    check_number("width", width, 64, MOST_CHANNELS, whole=True)
    check_number("layers", layers, 3, _MOST_LAYERS, whole=True)
    check_number("patch", patch, 4, _MOST_SIDE, whole=True)
    check_number("grid", grid, 1, _MOST_SIDE, whole=True)
    if width % HEAD_WIDTH:
        raise InputError(f"width is {width}. Give a multiple of {HEAD_WIDTH}, the width of a head.")
    check_number("quick", quick, 0, 1, whole=True)
    heads = width // HEAD_WIDTH
    geometry = Geometry(width, layers, heads, patch, grid, 1, HEAD_WIDTH, 1, 1, 1, 1)
    tower = _without_projection(Vision(geometry, ACTIVATIONS["quickgelu" if quick else "gelu"]))
    for name, parameter in tower.named_parameters():
        if parameter.ndim > 1 or name == "class_embedding":
            nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith("in_proj_bias"):
            nn.init.zeros_(parameter)
    return tower


def _copy_tower(clip: Clip, quick: int) -> Vision:
    tower = _without_projection(Vision(clip.geometry, ACTIVATIONS["quickgelu" if quick else "gelu"]))
    tensors = clip.vision.state_dict()
    del tensors["proj"]
    tower.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()})
    return tower


def _without_projection(tower: Vision) -> Vision:
    tower.register_parameter("proj", None)
    return tower
