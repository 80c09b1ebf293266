"""SCLIP: masks from words, by changing who listens to whom in CLIP's last block.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024.

In the paper's order: the image is scaled by its short side and cut into overlapping windows; each window goes
through the frozen tower, whose last block attends by (query-query + key-key); each patch is compared with the
words; the windows' maps are stretched and averaged, refined if asked for (PAMR), and become labels.

The attention itself is one function of `variants.sclip`; everything here is the harness around it, which the
other dense methods share. As coded by the authors:
  * the softmax runs over *names*, not classes; a class then takes its best name;
  * images are scaled by OpenCV's fixed-point bilinear resize, to the bit;
  * pixels are normalised by the weights' statistics times 255, rounded to three decimals.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_choice, check_number
from tagmask.clip.load import Clip
from tagmask.dense.positions import POSITIONS, Positions
from tagmask.dense.prompts import Names, merge_names
from tagmask.dense.resize import resize_cv2_linear, short_side_size
from tagmask.dense.windows import Windows, arrange, plan_windows, resize_matrix, stitch_matrices, whole
from tagmask.errors import InputError
from tagmask.refine.pamr import check_pamr, halo, pamr
from tagmask.types import Image, Images, Pixels, Size, TextFeatures
from tagmask.variants.catalogue import METHODS, dense_rule
from tagmask.variants.rule import DenseRule, Question, RuleSettings, patch_cosines, shared_passes

__all__ = [
    "SclipSettings",
    "check_windows",
    "cosine_maps",
    "label",
    "position_rule",
    "scale_and_normalise",
    "segment",
    "shared_cosine_maps",
]

_LONG_SIDE = 2048
_WINDOWS_A_BATCH = 16
_STRIP = 2**25
"""Numbers in one strip of full-resolution maps: 128 MiB in float32."""


Strip = tuple[int, int, Float[Tensor, "c strip w"]]
"""First row, last row (not included), scores of the classes in between."""


@dataclass(frozen=True, kw_only=True)
class SclipSettings(RuleSettings):
    """Every number of the harness; the defaults are the authors' defaults."""

    method: str = "sclip"
    """Name of the attention in the last block, see `tagmask.methods()`."""
    short_side: int = 336
    """The image's short side after scaling, in pixels; the long one is held under 2048."""
    crop: int | None = 224
    """Side of a window in pixels; None looks at the whole image at once."""
    stride: int = 112
    """Pixels between windows."""
    two_resizes: bool = False
    """A whole image's map goes to the scaled image's size first, as windows' maps do (NACLIP)."""
    pad_windows: bool = False
    """Windows are filled up to whole patches with zeros on all sides (ClearCLIP); else the rest is cut."""
    positions: str | None = None
    """How the position table follows the grid; None: as the method's authors do."""
    positions_by_count: bool = True
    """As coded: a grid with as many patches as the stored one reads it unchanged, whatever its shape."""
    logit_scale: float = 40.0
    """Multiplies cosines before the softmax over names."""
    prob_thd: float = 0.0
    """Pixels whose best class stays under it become background (or nothing, without a background)."""
    area_thd: float | None = None
    """Classes with no more than this share of the foreground area are dropped."""
    pamr_steps: int = 0
    """Rounds of pixel-adaptive refinement; 0 leaves it out."""
    pamr_dilations: tuple[int, ...] = (8, 16)
    """Pixels between neighbours of the refinement."""

    def __post_init__(self) -> None:
        RuleSettings.__post_init__(self)
        check_choice("method", self.method, tuple(METHODS))
        if self.positions is not None:
            check_choice("positions", self.positions, tuple(POSITIONS))
        check_number("short_side", self.short_side, 1, _LONG_SIDE, whole=True)
        check_number("stride", self.stride, 1, whole=True)
        if self.crop is not None:
            check_number("crop", self.crop, 1, whole=True)
            if self.stride > self.crop:
                raise InputError(
                    f"stride {self.stride} leaves gaps between windows of {self.crop} pixels (crop); "
                    f"give a stride of {self.crop} or less"
                )
        check_number("logit_scale", self.logit_scale, 0)
        check_number("prob_thd", self.prob_thd, 0, 1)
        if self.area_thd is not None:
            check_number("area_thd", self.area_thd, 0, 1)
        check_pamr(self.pamr_steps, self.pamr_dilations)


@dataclass(frozen=True, eq=False)
class CosineMaps:
    """The cosines of one image's windows, and the separable map that stitches them to full size."""

    cosines: Float[Tensor, "q rows cols"]
    """All windows' patches, window beside window."""
    down: Float[Tensor, "h rows"]
    across: Float[Tensor, "w cols"]
    pixels: Float[Tensor, "3 hs ws"]
    """The scaled, normalised image the windows were cut from."""
    hidden: Bool[Tensor, "h w"] | None = None
    """Pixels that look into a window whose cosines are not numbers; None where there is no such window."""

    @property
    def size(self) -> Size:
        """(h, w) of the original image."""
        return len(self.down), len(self.across)

    def rows(self, top: int, bottom: int) -> Float[Tensor, "q strip w"]:
        """Rows top..bottom of the full-size averaged cosines."""
        down = self.down[top:bottom]
        if len(down) < self.cosines.shape[1]:  # a thin strip: the short side first
            maps = (down @ self.cosines) @ self.across.T
        else:
            maps = down @ (self.cosines @ self.across.T)
        return maps if self.hidden is None else maps.masked_fill(self.hidden[top:bottom], torch.nan)


def check_windows(clip: Clip, settings: SclipSettings) -> None:
    """Refuse windows that hold no patch of these weights.

    Raises:
        InputError: naming both sizes.
    """
    if settings.crop is not None and settings.crop < clip.vision.patch:
        raise InputError(
            f"crop is {settings.crop} pixels and a patch of these weights has {clip.vision.patch}; "
            "give at least that"
        )


@torch.inference_mode()
def segment(
    clip: Clip,
    images: Images,
    names: Names,
    texts: TextFeatures,
    settings: SclipSettings,
    *,
    background: bool,
    nothing: int,
    keep_scores: bool = False,
) -> list[tuple[Integer[np.ndarray, "_ _"], Float[np.ndarray, "c _ _"] | None]]:
    """Label every pixel of every image with a class.

    Args:
        clip: the frozen model.
        images: upright RGB of any sizes; their windows go through the tower together.
        names: classes and their names.
        texts: unit features of `names.texts`.
        settings: the harness.
        background: the first class is the background: it takes the pixels under `settings.prob_thd`, and
            `settings.area_thd` leaves it alone.
        nothing: the label of pixels under `settings.prob_thd` where there is no background.
        keep_scores: also return the score of every class at every pixel.

    Returns:
        For each image its labels (int32, at the image's own size) and its scores or None.
    """
    return [
        label(maps, names, settings, background=background, nothing=nothing, keep_scores=keep_scores)
        for maps in cosine_maps(clip, images, texts, settings)
    ]


def cosine_maps(
    clip: Clip, images: Images, texts: TextFeatures, settings: SclipSettings
) -> Iterator[CosineMaps]:
    """Scale, cut, look, compare: windows of one size of all images share batches."""
    return (maps for (maps,) in shared_cosine_maps(clip, images, texts, [settings]))


def shared_cosine_maps(
    clip: Clip, images: Images, texts: TextFeatures, methods: Sequence[SclipSettings]
) -> Iterator[tuple[CosineMaps, ...]]:
    """`cosine_maps` of several methods, which share all blocks but the last.

    Args:
        clip: the frozen model.
        images: upright RGB of any sizes.
        texts: unit features.
        methods: settings that cut images alike; all but the first's sizes and windows are ignored.

    Yields:
        For each image its maps, one a method.
    """
    settings = methods[0]
    scaled = [scale_and_normalise(clip, image, settings.short_side) for image in images]
    plans = [_plan(pixels, settings) for pixels in scaled]
    found: list[list[list[Tensor]]] = [[[] for _ in methods] for _ in images]
    for size in dict.fromkeys((plan.height, plan.width) for plan in plans):
        group = [i for i, plan in enumerate(plans) if (plan.height, plan.width) == size]
        cuts = [(i, box) for i in group for box in plans[i].boxes]
        for start in range(0, len(cuts), _WINDOWS_A_BATCH):
            batch = cuts[start : start + _WINDOWS_A_BATCH]
            windows = torch.stack([scaled[i][:, y0:y1, x0:x1] for i, (x0, y0, x1, y1) in batch])
            for m, cosines in enumerate(window_cosines(clip, windows, texts, methods)):
                for (i, _), maps in zip(batch, cosines, strict=True):
                    found[i][m].append(maps)
    for image, pixels, plan, each in zip(images, scaled, plans, found, strict=True):
        padded = _padded((plan.height, plan.width), clip.vision.patch) if settings.pad_windows else None
        down, across = stitch_matrices(
            plan,
            (each[0][0].shape[-2], each[0][0].shape[-1]),
            (pixels.shape[-2], pixels.shape[-1]),
            (image.shape[0], image.shape[1]),
            through_canvas=settings.crop is not None or settings.two_resizes,
            padded=padded,
        )
        down, across = down.to(texts.device), across.to(texts.device)
        yield tuple(_stitched(torch.stack(maps), plan, down, across, pixels) for maps in each)


def _stitched(
    maps: Float[Tensor, "windows q gh gw"],
    plan: Windows,
    down: Float[Tensor, "h rows"],
    across: Float[Tensor, "w cols"],
    pixels: Float[Tensor, "3 hs ws"],
) -> CosineMaps:
    blind = maps.isnan().any(dim=(1, 2, 3)) if maps.isnan().any() else None
    if blind is None:
        return CosineMaps(arrange(maps, plan), down, across, pixels)
    # Products would carry a NaN everywhere; only pixels that look into the window may be NaN.
    unseen = arrange(blind[:, None, None, None].expand(-1, 1, *maps.shape[2:]).float(), plan)
    hidden = (down @ unseen[0] @ across.T) > 0
    return CosineMaps(arrange(maps.nan_to_num(0.0), plan), down, across, pixels, hidden)


def _padded(size: Size, patch: int) -> Size:
    h, w = (-(-side // patch) * patch for side in size)
    return h, w


def scale_and_normalise(clip: Clip, image: Image, short_side: int) -> Float[Tensor, "3 hs ws"]:
    """Scale by the short side, keeping the ratio, and normalise with the harness's rounded statistics.

    A side is never under one patch (the authors' program stops there).
    """
    height, width = short_side_size((image.shape[0], image.shape[1]), short_side, _LONG_SIDE)
    patch = clip.vision.patch
    scaled = resize_cv2_linear(image, (max(height, patch), max(width, patch)))
    mean = torch.tensor([round(255 * part, 3) for part in clip.mean], device=clip.device)
    std = torch.tensor([round(255 * part, 3) for part in clip.std], device=clip.device)
    pixels = torch.from_numpy(scaled).to(clip.device).permute(2, 0, 1).float()
    return (pixels - mean[:, None, None]) / std[:, None, None]


def window_cosines(
    clip: Clip, windows: Pixels, texts: TextFeatures, methods: Sequence[SclipSettings]
) -> list[Float[Tensor, "b q gh gw"]]:
    """Cosine of every patch with every text, under each settings' method."""
    if methods[0].pad_windows:
        windows = _fill_up(windows, clip.vision.patch)
    vision = clip.vision
    rules = [dense_rule(each.method, each, len(vision.blocks)) for each in methods]
    tables = [position_rule(each, rule) for each, rule in zip(methods, rules, strict=True)]
    found: dict[int, Tensor] = {}
    for i, state in shared_passes(vision, windows, rules, tables):
        cosines = patch_cosines(state, rules[i], Question(windows, texts, methods[i].logit_scale))
        found[i] = cosines.reshape(*cosines.shape[:2], *state.grid)
    return [found[i] for i in range(len(methods))]


def position_rule(settings: SclipSettings, rule: DenseRule) -> Positions:
    """How a rule's position table follows the grid, under these settings."""
    name = settings.positions or rule.positions
    if name == "bicubic-nudged" and not settings.positions_by_count:
        name = "bicubic-nudged-by-shape"
    return POSITIONS[name]


def _fill_up(windows: Pixels, patch: int) -> Pixels:
    """Zeros on all sides up to whole patches, the odd one below and on the right."""
    h, w = windows.shape[-2:]
    high, wide = _padded((h, w), patch)
    top, left = (high - h) // 2, (wide - w) // 2
    return F.pad(windows, (left, wide - w - left, top, high - h - top))


def label(
    maps: CosineMaps,
    names: Names,
    settings: SclipSettings,
    *,
    background: bool,
    nothing: int,
    keep_scores: bool = False,
) -> tuple[Integer[np.ndarray, "h w"], Float[np.ndarray, "c h w"] | None]:
    """Cosines to labels, in strips of rows so that memory does not follow the image's size.

    The first label wins ties. With `area_thd`, classes that hold too little of the foreground get score 0 and
    the labels are taken again. Arguments and results as `segment`'s.
    """
    height, width = maps.size
    labels = np.empty((height, width), np.int32)
    scores = np.empty((len(names.classes), height, width), np.float32) if keep_scores else None
    # The softmax keeps the order of the cosines, so where only the best class is asked for it is left out.
    needed = (
        keep_scores or settings.prob_thd > 0 or settings.area_thd is not None or settings.logit_scale <= 0
    )
    strips: Iterable[Strip] = class_scores(maps, names, settings, softmax=needed)
    dropped = torch.zeros(len(names.classes), dtype=torch.bool, device=maps.cosines.device)
    if settings.area_thd is not None:
        # Both readings can share the scores of an image that is one strip; larger ones are made twice.
        one_strip = _strip_height(maps, names, settings) >= height
        strips = list(strips) if one_strip else strips
        dropped = small_classes(strips, len(names.classes), settings.area_thd, background=background)
        strips = strips if one_strip else class_scores(maps, names, settings)
    unsure = 0 if background else nothing
    for top, bottom, strip in strips:
        if settings.area_thd is not None:
            strip[dropped] = 0
        best, index = strip.max(dim=0)
        if settings.prob_thd > 0:
            index = torch.where(best < settings.prob_thd, unsure, index)
        labels[top:bottom] = index.cpu().numpy()
        if scores is not None:
            scores[:, top:bottom] = strip.cpu().numpy()
    return labels, scores


def small_classes(
    strips: Iterable[Strip], classes: int, share: float, *, background: bool
) -> Bool[Tensor, " c"]:
    """Foreground classes that are the best at no more than `share` of all pixels where any of them is."""
    # max(...).indices and not argmax: the same indices, at a fraction of argmax's time over this dimension.
    best = (strip.max(dim=0).indices.flatten() for _, _, strip in strips)
    areas = sum(torch.bincount(labels, minlength=classes) for labels in best)
    assert isinstance(areas, Tensor)  # an image has at least one strip
    foreground = areas[1:] if background else areas
    small = areas <= share * foreground.sum()
    if background:
        small[0] = False
    return small


def class_scores(
    maps: CosineMaps, names: Names, settings: SclipSettings, *, softmax: bool = True
) -> Iterator[Strip]:
    """Strips (top, bottom, scores): refined if asked for, softmax over names, best name of each class.

    Without the softmax they are cosines, in the same order.
    """
    height, _ = maps.size
    strip = _strip_height(maps, names, settings)
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        scores = refined_rows(maps, settings, top, bottom)
        if softmax:
            scores = torch.softmax(scores * settings.logit_scale, dim=0)
        yield top, bottom, merge_names(scores, names)


def refined_rows(
    maps: CosineMaps, settings: SclipSettings, top: int, bottom: int
) -> Float[Tensor, "q strip w"]:
    """Rows top..bottom of the full-size cosines after PAMR, equal to the same rows of the whole image."""
    if not settings.pamr_steps:
        return maps.rows(top, bottom)
    margin = _margin(settings)
    first, last = max(top - margin, 0), min(bottom + margin, maps.size[0])
    refined = pamr(
        maps.rows(first, last),
        _guide_rows(maps, first, last),
        steps=settings.pamr_steps,
        dilations=settings.pamr_dilations,
    )
    return refined[:, top - first : bottom - first]


def _margin(settings: SclipSettings) -> int:
    return halo(settings.pamr_steps, settings.pamr_dilations) if settings.pamr_steps else 0


def _strip_height(maps: CosineMaps, names: Names, settings: SclipSettings) -> int:
    # Never under the margin, else most of the work would be margins made again and again.
    margin = _margin(settings)
    return max(16, margin, _STRIP // (len(names.texts) * maps.size[1]) - 2 * margin)


def _guide_rows(maps: CosineMaps, top: int, bottom: int) -> Float[Tensor, "3 strip w"]:
    """Rows of the normalised image, bilinearly at its original size."""
    height, width = maps.size
    down = resize_matrix(maps.pixels.shape[-2], height)[top:bottom].to(maps.pixels.device)
    across = resize_matrix(maps.pixels.shape[-1], width).to(maps.pixels.device)
    return down @ maps.pixels @ across.T


def _plan(pixels: Float[Tensor, "3 h w"], settings: SclipSettings) -> Windows:
    size = (pixels.shape[-2], pixels.shape[-1])
    return whole(size) if settings.crop is None else plan_windows(size, settings.crop, settings.stride)
