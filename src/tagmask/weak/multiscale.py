"""Test-time augmentation: average predictions over several scales, flips and sliding windows.

Windows of equal size are batched together, also across scales. Their maps are stitched by two matrix products
(`tagmask.dense.windows`), so only the average is kept at the image's size.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tagmask.checks import check_choice, check_number
from tagmask.dense.resize import resize_cv2_linear, short_side_size
from tagmask.dense.windows import Windows, plan_windows, single_window, stitch_matrices, tile_windows
from tagmask.errors import InputError
from tagmask.types import Image, Size

__all__ = ["ForwardFunction", "TTAConfig", "multiscale", "view_sizes", "views_of"]

ForwardFunction = Callable[[UInt8[np.ndarray, "b h w 3"]], Float[Tensor, "b k _ _"]]
"""Forward pass from RGB windows of one size to logits of any size."""

RESIZES = ("linear", "cubic")


@dataclass(frozen=True, slots=True)
class TTAConfig:
    """Test-time augmentation (TTA) settings. The defaults are WeakCLIP's for pseudo-masks.

    Raises:
        InputError: a value out of range.
    """

    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip: bool = True
    """Also process every scale mirrored."""
    window: int | None = 512
    """Window side in pixels; shorter sides of the image are used whole. None: no windows."""
    stride: int = 341
    """Step between windows, in pixels."""
    short: int | None = 512
    """Short side at scale 1; None: the image's size."""
    long: int = 2048
    """Maximum long side at scale 1; ignored if `short` is None."""
    resize: str = "linear"
    """Interpolation of the image: "linear" as in OpenCV, or "cubic" as in Pillow."""
    multiple: int = 1
    """Sides of the resized image are rounded up to a multiple of this."""
    batch_size: int = 8
    """Windows per forward pass."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales is empty. Give at least one scale, as in (1.0,).")
        for scale in self.scales:
            check_number("scales", scale, 0.01, 100)
        for name in ("window", "short"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, whole=True)
        for name in ("stride", "long", "multiple", "batch_size"):
            check_number(name, getattr(self, name), 1, whole=True)
        if self.window is not None and self.stride > self.window:
            raise InputError(
                f"stride {self.stride} leaves gaps between windows of {self.window}. "
                f"Give at most {self.window}."
            )
        check_choice("resize", self.resize, RESIZES)


def views_of(crop: int, short: int, long: int, scales: tuple[float, ...], *, flip: bool) -> TTAConfig:
    """Views for a WeakCLIP that was trained on crops of this size: windows of the crop's size.

    Args:
        crop: side of the crops.
        short: short side of the image at scale 1; 0: the image's size.
        long: maximum long side at scale 1.
        scales: of the image.
        flip: also process every scale mirrored.

    Source:
        WeakCLIP as coded by the authors: windows of 512 with a stride of two thirds, 341.
    """
    return TTAConfig(
        scales=scales, flip=flip, window=crop, stride=max(crop * 2 // 3, 1), short=short or None, long=long
    )


def view_sizes(size: Size, views: TTAConfig) -> list[Size]:
    """Size (h, w) of the image at each scale.

    Example:
        >>> view_sizes((375, 500), TTAConfig(scales=(0.5, 1.0)))
        [(256, 341), (512, 683)]
    """
    sizes = []
    for scale in views.scales:
        if views.short is None:
            h, w = (max(int(side * scale + 0.5), 1) for side in size)
        else:
            h, w = short_side_size(size, int(views.short * scale), int(views.long * scale))
        sizes.append((_round_up(h, views.multiple), _round_up(w, views.multiple)))
    return sizes


def multiscale(
    forward: ForwardFunction, image: Image, views: TTAConfig | None = None
) -> Float[Tensor, "k h w"]:
    """Compute class probabilities of every pixel, averaged over scale and flip passes.

    For each view: the image is resized, mirrored if needed and split into windows; each window's logits are
    resized to its pixels (bilinear), averaged where windows overlap and resized to the image (bilinear);
    softmax; mirrored back.

    Args:
        forward: the network's forward pass; it should reuse what does not depend on the image, such as text
            embeddings.
        image: RGB.
        views: default: WeakCLIP's, 6 scales with flips and windows of 512.

    Returns:
        Probabilities, float32, of sum 1 over the classes, on the device of the logits.

    Source:
        WeakCLIP as coded by the authors: their library's test-time augmentation. Values differ by rounding.

    Example:
        >>> def grey(windows):
        ...     return torch.from_numpy(windows).float().mean(-1)[:, None, ::4, ::4].repeat(1, 3, 1, 1)
        >>> multiscale(grey, np.zeros((20, 30, 3), np.uint8), TTAConfig(scales=(1.0,), short=None)).shape
        torch.Size([3, 20, 30])
    """
    views = views or TTAConfig()
    target = (image.shape[0], image.shape[1])
    plans = [_plan(size, views) for size in view_sizes(target, views)]
    windows = _windows(image, plans, views)
    total: Tensor | None = None
    for plan, mirrored, maps in _forward(forward, windows, plans, views):
        y, x = stitch_matrices(plan, (maps.shape[-2], maps.shape[-1]), plan.canvas, target)
        logits = y.to(maps) @ tile_windows(maps, plan) @ x.to(maps).T
        logits = logits.flip(-1) if mirrored else logits
        probabilities = logits.softmax(0)
        total = probabilities if total is None else total.add_(probabilities)
    if total is None:
        raise InputError("scales is empty. Give at least one scale, as in (1.0,).")
    total /= len(plans) * (2 if views.flip else 1)
    return total


_Window = tuple[int, bool, Image]
"""Index of the scale, whether mirrored, pixels."""


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _plan(size: Size, views: TTAConfig) -> Windows:
    return single_window(size) if views.window is None else plan_windows(size, views.window, views.stride)


def _windows(image: Image, plans: Sequence[Windows], views: TTAConfig) -> Iterator[_Window]:
    """Yield all windows, grouped by size."""
    sizes = defaultdict(list)
    for index, plan in enumerate(plans):
        sizes[plan.height, plan.width].append(index)
    for indices in sizes.values():
        for index in indices:
            scaled = _resized(image, plans[index].canvas, views.resize)
            for mirrored in (False, True)[: 2 if views.flip else 1]:
                flipped = scaled[:, ::-1] if mirrored else scaled
                for x0, y0, x1, y1 in plans[index]:
                    yield index, mirrored, flipped[y0:y1, x0:x1]


def _forward(
    forward: ForwardFunction, windows: Iterator[_Window], plans: Sequence[Windows], views: TTAConfig
) -> Iterator[tuple[Windows, bool, Float[Tensor, "windows k _ _"]]]:
    """Yield the logits of each view as soon as all its windows are done."""
    pending: dict[tuple[int, bool], list[Tensor]] = defaultdict(list)
    for batch in _batches(windows, views.batch_size):
        logits = forward(np.stack([pixels for _, _, pixels in batch])).float()
        for (index, mirrored, _), window_logits in zip(batch, logits, strict=True):
            done = pending[index, mirrored]
            done.append(window_logits)
            if len(done) == len(plans[index]):
                yield plans[index], mirrored, torch.stack(pending.pop((index, mirrored)))


def _batches(windows: Iterator[_Window], batch_size: int) -> Iterator[list[_Window]]:
    batch: list[_Window] = []
    for window in windows:
        if batch and (len(batch) == batch_size or batch[0][-1].shape != window[-1].shape):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _resized(image: Image, size: Size, interpolation: str) -> UInt8[np.ndarray, "h1 w1 3"]:
    if image.shape[:2] == size:
        return image
    if interpolation == "linear":
        return resize_cv2_linear(image, size)
    resized = PIL.Image.fromarray(image).resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC)
    return np.asarray(resized)
