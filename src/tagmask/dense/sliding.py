"""Sliding-window inference for all dense methods, up to the cosines: scale, crop, encode, compare.

Windows pass through the frozen tower in batches, and methods that use the same position table share a forward
pass. As coded by SCLIP's authors:
  * OpenCV's fixed-point bilinear resize scales the image, reproduced bit for bit;
  * pixels are normalised by the weights' mean and standard deviation times 255, rounded to three decimals.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_choice, check_number
from tagmask.clip.load import Clip
from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.features import extract_features
from tagmask.dense.frozen_windows import FrozenBatch, FrozenWindows, StoredBatch
from tagmask.dense.native_size import native_pixels
from tagmask.dense.positions import POSITIONS, Positions
from tagmask.dense.resize import resize_cv2_linear, short_side_size
from tagmask.dense.rule import DenseRule, SecondPassContext, extract_shared_features, patch_cosines
from tagmask.dense.window_joining import join_windows
from tagmask.dense.windows import Windows, plan_windows, single_window, stitch_matrices
from tagmask.errors import InputError
from tagmask.refine.pamr import check_pamr
from tagmask.refine.tlp import TlpSettings, check_tlp
from tagmask.types import Image, Images, Pixels, Size, TextFeatures

__all__ = [
    "SlidingSettings",
    "check_windows",
    "freeze_windows",
    "pad_windows",
    "plan_image",
    "position_rule",
    "preprocess",
    "preprocess_cv2",
    "sliding_cosines",
    "stitching",
    "window_batches",
    "window_cosines",
]

_LONG_SIDE = 2048
_BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class SlidingSettings(TlpSettings):
    """Settings of the sliding-window inference; the defaults are those of SCLIP's authors."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("positions_by_count",)
    """Settings that are True as published and False as corrected."""
    OF_FEATURES: ClassVar[tuple[str, ...]] = (
        "short_side",
        "crop",
        "stride",
        "join",
        "two_resizes",
        "pad_windows",
        "positions",
        "positions_by_count",
    )
    """Settings that decide the patch features; the others only decide what is made of them."""

    short_side: int | None = 336
    """The image's short side after scaling, in pixels; the long side is at most 2048. None: the image's own
    size, each side rounded up to whole patches, as TagCLIP scales it."""
    crop: int | None = 224
    """Side of a window in pixels; None processes the whole image at once."""
    stride: int = 112
    """Pixels from one window to the next."""
    join: str = "maps"
    """Where windows are averaged. "maps": their score maps, as published; "tokens": their tokens before the
    last block, whose attention then spans the whole image (this project's extension)."""
    two_resizes: bool = False
    """Resize the map of a whole image to the scaled image's size first, as for windows (NACLIP)."""
    pad_windows: bool = False
    """Zero-pad windows on all sides to whole patches (ClearCLIP); otherwise crop partial patches."""
    positions: str | None = None
    """Interpolation of the position table; None: that of the method's authors."""
    positions_by_count: bool = True
    """As coded: a grid with as many patches as the stored table uses the table unchanged, whatever its
    shape."""
    logit_scale: float = 40.0
    """Factor on the cosines before the softmax over names."""
    prob_thd: float = 0.0
    """Pixels whose best class scores below it become background (`ignore_index` without a background)."""
    area_thd: float | None = None
    """Classes with at most this share of the foreground area are dropped."""
    pamr_steps: int = 0
    """Iterations of pixel-adaptive refinement (PAMR); 0 turns it off."""
    pamr_dilations: tuple[int, ...] = (8, 16)
    """Dilations of PAMR: distances to the neighbours, in pixels."""

    def __post_init__(self) -> None:
        check_choice("join", self.join, ("maps", "tokens"))
        if self.positions is not None:
            check_choice("positions", self.positions, tuple(POSITIONS))
        if self.short_side is not None:
            check_number("short_side", self.short_side, 1, _LONG_SIDE, whole=True)
        check_number("stride", self.stride, 1, whole=True)
        if self.crop is not None:
            check_number("crop", self.crop, 1, whole=True)
            if self.stride > self.crop:
                raise InputError(
                    f"Stride {self.stride} leaves gaps between windows of {self.crop} pixels (crop). "
                    f"Use a stride of at most {self.crop}."
                )
        check_number("logit_scale", self.logit_scale, 0)
        check_number("prob_thd", self.prob_thd, 0, 1)
        if self.area_thd is not None:
            check_number("area_thd", self.area_thd, 0, 1)
        check_pamr(self.pamr_steps, self.pamr_dilations)
        check_tlp(self)


def check_windows(clip: Clip, settings: SlidingSettings) -> None:
    """Reject windows smaller than a patch of these weights.

    Raises:
        InputError: the crop is smaller than a patch.
    """
    if settings.crop is not None and settings.crop < clip.vision.patch:
        raise InputError(
            f"Crop is {settings.crop} pixels, but a patch of these weights has {clip.vision.patch}. "
            f"Use a crop of at least {clip.vision.patch}."
        )


def sliding_cosines(
    clip: Clip,
    images: Images,
    texts: TextFeatures,
    settings: SlidingSettings,
    rules: Sequence[DenseRule],
    head: Float[Tensor, "e c"] | None = None,
) -> Iterator[tuple[CosineMaps, ...]]:
    """Compute the cosines of every text with every patch, under one or several methods.

    Windows of the same size share batches across images, and the methods share all blocks but the last.

    Args:
        clip: the frozen model.
        images: upright RGB of any sizes.
        texts: unit features.
        settings: of the sliding-window inference.
        rules: the methods.
        head: of a `tagmask.pipelines.head.Head`, applied to the patches of every window and averaged as the
            cosines are: both are linear in the unit patches.

    Yields:
        For each image its maps, one per method.
    """
    if settings.join == "tokens":
        for image in images:
            frozen = (freeze_windows(clip, image, settings, rule) for rule in rules)
            yield tuple(each.maps(texts, settings.logit_scale, head) for each in frozen)
        return
    scaled = [preprocess(clip, image, settings.short_side) for image in images]
    plans = [plan_image(pixels, settings) for pixels in scaled]
    window_maps: list[list[list[Tensor]]] = [[[] for _ in rules] for _ in images]
    for owners, windows in window_batches(scaled, plans):
        for m, cosines in enumerate(window_cosines(clip, windows, texts, settings, rules, head)):
            for i, maps in zip(owners, cosines, strict=True):
                window_maps[i][m].append(maps)
    for image, pixels, plan, by_method in zip(images, scaled, plans, window_maps, strict=True):
        grid = (by_method[0][0].shape[-2], by_method[0][0].shape[-1])
        size = (image.shape[0], image.shape[1])
        down, across = stitching(plan, grid, pixels, size, settings, clip.vision.patch)
        stitched = [stitch(torch.stack(maps), plan, down, across, pixels) for maps in by_method]
        yield tuple(maps if head is None else maps.with_corrections(len(texts)) for maps in stitched)


def window_batches(
    scaled: Sequence[Float[Tensor, "3 _ _"]], plans: Sequence[Windows]
) -> Iterator[tuple[list[int], Pixels]]:
    """Yield batches of windows of one size, each with the index of every window's image.

    The windows of an image come in the order of its plan.
    """
    for size in dict.fromkeys((plan.height, plan.width) for plan in plans):
        group = [i for i, plan in enumerate(plans) if (plan.height, plan.width) == size]
        crops = [(i, box) for i in group for box in plans[i].boxes]
        for start in range(0, len(crops), _BATCH_SIZE):
            batch = crops[start : start + _BATCH_SIZE]
            windows = torch.stack([scaled[i][:, y0:y1, x0:x1] for i, (x0, y0, x1, y1) in batch])
            yield [i for i, _ in batch], windows


def stitching(
    plan: Windows,
    grid: Size,
    pixels: Float[Tensor, "3 hs ws"],
    size: Size,
    settings: SlidingSettings,
    patch: int,
) -> tuple[Float[Tensor, "h rows"], Float[Tensor, "w cols"]]:
    """The matrices that stitch the maps of an image's windows, on the device of the scaled image.

    Args:
        plan: the windows.
        grid: (gh, gw) of one window's map.
        pixels: the scaled image.
        size: (h, w) of the image itself.
        settings: of the sliding-window inference.
        patch: side of a patch.
    """
    padded = _padded_size((plan.height, plan.width), patch) if settings.pad_windows else None
    down, across = stitch_matrices(
        plan,
        grid,
        (pixels.shape[-2], pixels.shape[-1]),
        size,
        through_canvas=settings.crop is not None or settings.two_resizes,
        padded=padded,
    )
    return down.to(pixels.device), across.to(pixels.device)


def freeze_windows(
    clip: Clip,
    image: Image,
    settings: SlidingSettings,
    rule: DenseRule,
    stored: Sequence[StoredBatch] | None = None,
) -> FrozenWindows:
    """Run the tower on an image's windows, and keep what a method compares with texts.

    Args:
        clip: the frozen model.
        image: upright RGB.
        settings: of the sliding-window inference; only what decides the features is used.
        rule: the method.
        stored: what the tower gave for these windows earlier; it does not run then.

    Raises:
        ValueError: what was stored does not fit.
    """
    pixels = preprocess(clip, image, settings.short_side)
    plan, table = plan_image(pixels, settings), position_rule(settings, rule)
    boxes = [plan.boxes[start : start + _BATCH_SIZE] for start in range(0, len(plan), _BATCH_SIZE)]
    batches = (torch.stack([pixels[:, y0:y1, x0:x1] for x0, y0, x1, y1 in batch]) for batch in boxes)
    joined = settings.join == "tokens"
    if stored is not None:
        padded = [pixels[None]] if joined else [pad_windows(b, settings, clip.vision.patch) for b in batches]
        pairs = zip(stored, padded, strict=True)
        frozen = [FrozenBatch.restored(batch, clip.vision, rule, windows) for batch, windows in pairs]
    elif joined:
        towers = [extract_features(clip.vision, batch, table, capture=rule.capture) for batch in batches]
        frozen = [FrozenBatch.of(join_windows(towers, plan), rule, pixels[None])]
    else:
        frozen = []
        for batch in batches:
            windows = pad_windows(batch, settings, clip.vision.patch)
            tower = extract_features(clip.vision, windows, table, capture=rule.capture)
            frozen.append(FrozenBatch.of(tower, rule, windows))
    size, grid = (image.shape[0], image.shape[1]), frozen[0].grid
    if joined:
        plan = single_window((pixels.shape[-2], pixels.shape[-1]))
        down, across = stitch_matrices(plan, grid, plan.canvas, size)
        down, across = down.to(clip.device), across.to(clip.device)
    else:
        down, across = stitching(plan, grid, pixels, size, settings, clip.vision.patch)
    return FrozenWindows(tuple(frozen), plan, down, across, pixels)


def _padded_size(size: Size, patch: int) -> Size:
    h, w = (-(-side // patch) * patch for side in size)
    return h, w


def preprocess(clip: Clip, image: Image, short_side: int | None) -> Float[Tensor, "3 hs ws"]:
    """Scale to the short side, or to whole patches if it is None, and normalise."""
    return native_pixels(clip, image) if short_side is None else preprocess_cv2(clip, image, short_side)


def preprocess_cv2(clip: Clip, image: Image, short_side: int) -> Float[Tensor, "3 hs ws"]:
    """Scale to the short side, keeping the aspect ratio, and normalise with the authors' rounded statistics.

    Each side is at least one patch (the authors' program fails on smaller images).
    """
    height, width = short_side_size((image.shape[0], image.shape[1]), short_side, _LONG_SIDE)
    patch = clip.vision.patch
    scaled = resize_cv2_linear(image, (max(height, patch), max(width, patch)))
    mean = torch.tensor([round(255 * part, 3) for part in clip.mean], device=clip.device)
    std = torch.tensor([round(255 * part, 3) for part in clip.std], device=clip.device)
    pixels = torch.from_numpy(scaled).to(clip.device).permute(2, 0, 1).float()
    return (pixels - mean[:, None, None]) / std[:, None, None]


def window_cosines(
    clip: Clip,
    windows: Pixels,
    texts: TextFeatures,
    settings: SlidingSettings,
    rules: Sequence[DenseRule],
    head: Float[Tensor, "e c"] | None = None,
) -> list[Float[Tensor, "b planes gh gw"]]:
    """Cosines of every text with every patch of a batch of windows, under each method (`patch_cosines`)."""
    windows = pad_windows(windows, settings, clip.vision.patch)
    tables = [position_rule(settings, rule) for rule in rules]
    by_rule: dict[int, Tensor] = {}
    for i, tower in extract_shared_features(clip.vision, windows, rules, tables):
        context = SecondPassContext(windows, texts, settings.logit_scale)
        cosines = patch_cosines(tower, rules[i], context, head)
        by_rule[i] = cosines.reshape(*cosines.shape[:2], *tower.grid)
    return [by_rule[i] for i in range(len(rules))]


def position_rule(settings: SlidingSettings, rule: DenseRule) -> Positions:
    """The interpolation of the position table for a rule, under these settings."""
    name = settings.positions or rule.positions
    if name == "bicubic-nudged" and not settings.positions_by_count:
        name = "bicubic-nudged-by-shape"
    return POSITIONS[name]


def pad_windows(windows: Pixels, settings: SlidingSettings, patch: int) -> Float[Tensor, "b 3 _ _"]:
    """Zero-pad on all sides to whole patches, if set; an odd pixel goes below or on the right."""
    if not settings.pad_windows:
        return windows
    h, w = windows.shape[-2:]
    high, wide = _padded_size((h, w), patch)
    top, left = (high - h) // 2, (wide - w) // 2
    return F.pad(windows, (left, wide - w - left, top, high - h - top))


def plan_image(pixels: Float[Tensor, "3 h w"], settings: SlidingSettings) -> Windows:
    """Return the windows of a scaled image."""
    size = (pixels.shape[-2], pixels.shape[-1])
    return (
        single_window(size) if settings.crop is None else plan_windows(size, settings.crop, settings.stride)
    )
