"""MCTformer: localisation maps of classes from a classifier trained on tags alone.

    L. Xu, W. Ouyang, M. Bennamoun, F. Boussaid, D. Xu. "Multi-class Token Transformer for Weakly Supervised
    Semantic Segmentation", CVPR 2022 (V1, V2). "MCTformer+", 2023 (Plus).

    y_c  class score: mean of class token c          A_l  attention of block l, averaged over heads
    M_c  patch map: 3x3 convolution of the patches   p_c  patch score: M_c pooled

    Q_c = sum over the last K blocks of A_l[c, patches]       (Plus: mean)      class-to-patch attention
    R_c = max(M_c, 0)                                                           patch CAM
    S   = Q (V1), Q R (V2), sqrt(Q R) (Plus)                                    fusion
    S'  = A S, A = sum over all blocks of A_l[patches, patches]                 patch affinity
    map = S', upsampled to the image, summed over scales and mirror images, then min-max normalised

`MctFormer` is the network (`mctformer_network`), `network_from` builds it from a state dict, `initialise`
starts it from DeiT, `training_losses` gives its losses, `localise` one pass's maps, and `localisation_maps`
those of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError, WeightsError
from tagmask.papers.mctformer_network import (
    PATCH,
    VERSIONS,
    ClassScores,
    Maps,
    MctFormer,
    MctOutput,
    MctShape,
    grid_of,
    patch_positions,
    pooled_scores,
)
from tagmask.types import Image, Pixels, Tokens

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PATCH",
    "PUBLISHED_MAPS",
    "VERSIONS",
    "ClassScores",
    "Localisation",
    "MapSettings",
    "Maps",
    "MctFormer",
    "MctOutput",
    "MctShape",
    "class_token_contrast",
    "initialise",
    "localisation_maps",
    "localise",
    "network_from",
    "normalised",
    "patch_positions",
    "pooled_scores",
    "training_losses",
]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_HEAD_WIDTH: Final = 64
_EPS: Final = 1e-8


# -- Weights -------------------------------------------------------------------------------------------------


def network_from(
    tensors: Mapping[str, Tensor], *, heads: int | None = None, activation: str = "gelu"
) -> MctFormer:
    """Build a network from a state dict in the published names, in evaluation mode.

    The names tell the version, the shapes all sizes but the number of heads.

    Args:
        tensors: state dict of V1, V2 or Plus, of any size.
        heads: attention heads; None: width / 64, as in DeiT.
        activation: "gelu", or "quickgelu" for a network that started from a CLIP with it.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors.
    """
    try:
        plus, patch_head = "pos_embed_pat" in tensors, tensors["head.weight"].ndim == 4
        _, c, d = tensors["cls_token"].shape
        table = tensors["pos_embed_pat"].shape[1] if plus else tensors["pos_embed"].shape[1] - c
        shape = MctShape(
            version="plus" if plus else "v2" if patch_head else "v1",
            classes=c,
            width=d,
            depth=len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
            heads=heads or max(d // _HEAD_WIDTH, 1),
            grid=round(table**0.5),
            unused_grid=round((tensors["pos_embed"].shape[1] - 1) ** 0.5) if plus else 1,
            norm_pre="norm_pre.weight" in tensors,
            activation=activation,
        )
        with torch.random.fork_rng([]):
            net = MctFormer(shape)
        net.load_state_dict(dict(tensors))
    except (KeyError, ValueError, RuntimeError, InputError) as error:
        lines = str(error).splitlines()
        raise WeightsError(
            f"These are not MCTformer's weights ({lines[min(1, len(lines) - 1)].strip()[:200]}). Give the "
            "state dict of V1, V2 or Plus."
        ) from error
    return net.eval()


def initialise(net: MctFormer, deit: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Start a network from DeiT's weights, in place.

    The class token and its position are copied to every class. Patch positions are copied if the grid is the
    same; otherwise V1 and V2 resize them bicubically, Plus by nearest neighbours (at twice the side, each row
    and column twice). DeiT's classifier is left out, and the network's head stays fresh.

    Args:
        net: a fresh network.
        deit: state dict of a DeiT of the same width and depth, in timm's names; of a CLIP's image tower, in
            the same names, for a network with `norm_pre`.

    Returns:
        Names of the tensors that stay fresh.

    Raises:
        WeightsError: a tensor is missing or has another shape; the network is then unchanged.
    """
    target = net.state_dict()
    made = _positions_from(net, deit)
    loaded, fresh = {}, []
    for name, own in target.items():
        value = made.get(name, deit.get(name))
        unused = name == "pos_embed" and net.shape.version == "plus"
        if name.startswith("head.") or (unused and (value is None or value.shape != own.shape)):
            fresh.append(name)
        elif value is None or value.shape != own.shape:
            found = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise WeightsError(
                f"The initial weights do not fit: {name} is {found}, expected {tuple(own.shape)}. "
                "Give a DeiT (patch 16, one class token) of the same width and depth, in timm's names."
            )
        else:
            loaded[name] = value
    net.load_state_dict(loaded, strict=False)
    return tuple(fresh)


def _positions_from(net: MctFormer, deit: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Class tokens and position tables, from DeiT's class token and table."""
    try:
        token, table = deit["cls_token"].float(), deit["pos_embed"].float()
        side = round((table.shape[1] - 1) ** 0.5)
        square = table[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    except (KeyError, RuntimeError, IndexError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else "its position table is not square"
        raise WeightsError(
            f"The initial weights are not a DeiT: {reason}. Give one with a class token and no "
            "distillation token, in timm's names."
        ) from error
    c, grid, plus = net.shape.classes, net.shape.grid, net.shape.version == "plus"
    if side == grid:
        patches = table[:, 1:]
    elif plus:
        patches = F.interpolate(square, size=(grid, grid), mode="nearest").flatten(2).transpose(1, 2)
    else:
        patches = patch_positions(table[0, 1:], (grid, grid), nudged=True)[None]
    tokens, classes = token.expand(-1, c, -1), table[:, :1].expand(-1, c, -1)
    if plus:
        return {"cls_token": tokens, "pos_embed_cls": classes, "pos_embed_pat": patches}
    return {"cls_token": tokens, "pos_embed": torch.cat([classes, patches], dim=1)}


# -- Losses --------------------------------------------------------------------------------------------------


def training_losses(output: MctOutput, targets: ClassScores, *, contrast: bool) -> dict[str, Tensor]:
    """Loss terms of a batch, and "total", their sum.

    Args:
        output: of a forward pass.
        targets: 1 for each class of the image's tags, else 0.
        contrast: add Plus's contrast of class tokens.
    """
    terms = {"class": F.multilabel_soft_margin_loss(output.class_scores, targets)}
    if output.patch_scores is not None:
        terms["patch"] = F.multilabel_soft_margin_loss(output.patch_scores, targets)
    if contrast:
        terms["contrast"] = class_token_contrast(output.class_tokens, targets)
    return {**terms, "total": torch.stack(list(terms.values())).sum()}


def class_token_contrast(tokens: Float[Tensor, "l b c d"], targets: ClassScores) -> Float[Tensor, ""]:
    """Cross-entropy by which each class token recognises itself among the cosines with all class tokens.

    Only tokens of present classes count: averaged over blocks, over an image's present classes, over images
    (0 for an image without tags).
    """
    unit = F.normalize(tokens, dim=-1)
    own = torch.log_softmax(unit @ unit.transpose(-2, -1), dim=-1).diagonal(dim1=-2, dim2=-1)
    per_class = -own.mean(dim=0)
    return ((per_class * targets).sum(dim=1) / (targets.sum(dim=1) + _EPS)).mean()


# -- Localisation maps ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MapSettings:
    """How localisation maps are computed.

    Raises:
        InputError: a value out of range.
    """

    last: int = 3
    """K: number of last blocks whose class-to-patch attention is used; more than there are: all."""
    fusion: str = "both"
    """"both": fuse attention and patch CAM (V1: attention alone); "attention" or "patch": only one."""
    affinity: bool = True
    """Refine by the patch affinity."""
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    """Also process each scale mirrored."""
    longest: int | None = None
    """A longer side is reduced to this many pixels at scale 1, to bound memory; None: as published."""

    def __post_init__(self) -> None:
        check_number("last", self.last, 1, whole=True)
        check_choice("fusion", self.fusion, ("both", "attention", "patch"))
        if not self.scales:
            raise InputError("scales is empty. Give at least one scale, as in (1.0,).")
        for scale in self.scales:
            check_number("scales", scale, 0.01, 100)
        if self.longest is not None:
            check_number("longest", self.longest, PATCH, whole=True)


PUBLISHED_MAPS: Mapping[str, MapSettings] = MappingProxyType(
    {
        "v1": MapSettings(),
        "v2": MapSettings(),
        "plus": MapSettings(last=12, scales=(1.0, 0.75, 1.25)),
    }
)
"""The authors' settings by version."""


@dataclass(frozen=True, eq=False)
class Localisation:
    """Maps of all classes from one pass, on the patch grid, and what they are made of."""

    class_attention: Maps
    """Q."""
    patch_cam: Maps | None
    """R; None for V1."""
    fused: Maps
    """S."""
    affinity: Float[Tensor, "b p p"]
    """A; rows are queries. Not normalised: rows sum to less than the number of blocks."""
    refined: Maps
    """S' = A S, or S without affinity."""


def localise(net: MctFormer, pixels: Pixels, settings: MapSettings | None = None) -> Localisation:
    """Compute localisation maps of all classes in one pass, without gradients.

    Args:
        net: in evaluation mode.
        pixels: normalised.
        settings: scales and mirroring are ignored here; None: the published ones of the network's version.

    Raises:
        InputError: only the patch CAM is asked for, and the network has none.
        ShapeError: images smaller than a patch.
    """
    settings = settings or PUBLISHED_MAPS[net.shape.version]
    c, depth, plus = net.shape.classes, net.shape.depth, net.shape.version == "plus"
    if settings.fusion == "patch" and net.shape.version == "v1":
        raise InputError("fusion is 'patch', but V1 has no patch head. Give 'both' or 'attention'.")
    grid, last = grid_of(pixels), min(settings.last, depth)
    patches = grid[0] * grid[1]
    with torch.no_grad():
        # Summed block by block: the attention of all blocks would take `depth` times the memory.
        attention, affinity = (pixels.new_zeros(len(pixels), rows, patches) for rows in (c, patches))
        final: Tokens = attention  # of the last block, after the loop
        for number, (tokens, mean) in enumerate(net.run_blocks(pixels, attention=True)):
            final, mean = tokens, cast(Tensor, mean)  # there is one, since it is asked for
            affinity += mean[:, c:, c:]
            if number >= depth - last:
                attention += mean[:, :c, c:]
        q = (attention / last if plus else attention).unflatten(2, grid)
        maps = net.patch_maps(final[:, c:], grid)
        r = None if maps is None else maps.clamp(min=0)
        fused = _fused(q, r, settings.fusion, root=plus)
        refined = (fused.flatten(2) @ affinity.transpose(1, 2)).unflatten(2, grid)
    return Localisation(q, r, fused, affinity, refined if settings.affinity else fused)


def _fused(q: Maps, r: Maps | None, fusion: str, *, root: bool) -> Maps:
    if r is None or fusion == "attention":
        return q
    if fusion == "patch":
        return r
    return (q * r).sqrt() if root else q * r


def localisation_maps(
    net: MctFormer, image: Image, classes: Sequence[int], settings: MapSettings | None = None
) -> dict[int, Float32[np.ndarray, "h w"]]:
    """Compute an image's localisation maps of the classes of its tags.

    Args:
        net: in evaluation mode, on any device.
        image: upright RGB.
        classes: indices of the classes of the tags.
        settings: None: the published ones of the network's version.

    Returns:
        By class, in ascending order: a map in 0..1 at the image's size, whose minimum is 0. Empty without
        tags.

    Raises:
        InputError: a class out of range.
        ShapeError: an image smaller than a patch at one of the scales.
    """
    settings = settings or PUBLISHED_MAPS[net.shape.version]
    present = sorted(set(classes))
    if present and not 0 <= present[0] <= present[-1] < net.shape.classes:
        raise InputError(f"The tags are {present}. Expected classes from 0 to {net.shape.classes - 1}.")
    if not present:
        return {}
    h, w = image.shape[:2]
    reduced = min(1.0, (settings.longest or max(h, w)) / max(h, w))
    summed = torch.zeros(len(present), h, w, device=net.cls_token.device)
    for scale in settings.scales:
        pixels = normalised(image, scale * reduced).to(net.cls_token.device)
        for mirrored in (False, True) if settings.flip else (False,):
            passed = localise(net, pixels.flip(3) if mirrored else pixels, settings).refined[:, present]
            full = F.interpolate(passed.float(), size=(h, w), mode="bilinear", align_corners=False)
            summed += (full.flip(3) if mirrored else full)[0]
    low, high = summed.amin(dim=(1, 2), keepdim=True), summed.amax(dim=(1, 2), keepdim=True)
    scaled = ((summed - low) / (high - low + _EPS)).cpu().numpy()
    return dict(zip(present, scaled, strict=True))


def normalised(image: Image, scale: float = 1.0) -> Float[Tensor, "1 3 h1 w1"]:
    """Resize an image and normalise it with ImageNet's statistics.

    As coded, the resize is Pillow's bicubic on 8-bit values, before normalising; sides are rounded, halves to
    even; at scale 1 the image is not touched.
    """
    h, w = image.shape[:2]
    if scale != 1:
        size = (max(round(w * scale), 1), max(round(h * scale), 1))
        image = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BICUBIC))
    values = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
    mean, std = (torch.tensor(triple)[:, None, None] for triple in (IMAGENET_MEAN, IMAGENET_STD))
    return ((values - mean) / std)[None]
