"""Looking at an image at several sizes and mirrored, through sliding windows, and averaging what is seen.

Windows of one size go through the network together, from whichever size of the image they come. Their maps
are joined by two matrix products (`tagmask.dense.windows`), so nothing is accumulated at the image's size
but the average itself.
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

__all__ = ["Look", "TTAConfig", "multiscale", "view_sizes"]

Look = Callable[[UInt8[np.ndarray, "b h w 3"]], Float[Tensor, "b k _ _"]]
"""Equal windows, RGB, to logits of any size."""

RESIZES = ("linear", "cubic")


@dataclass(frozen=True, slots=True)
class TTAConfig:
    """How an image is looked at. The defaults are WeakCLIP's for pseudo-masks.

    Raises:
        InputError: a value out of range.
    """

    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip: bool = True
    """Each size a second time, mirrored."""
    window: int | None = 512
    """Side in pixels; a side of the image under it is taken whole. None: the image at once."""
    stride: int = 341
    short: int | None = 512
    """Short side at scale 1; None: the image's own size."""
    long: int = 2048
    """The long side at scale 1 is never more than this, where `short` says something."""
    resize: str = "linear"
    """Of the image: "linear" as OpenCV's, or "cubic" as Pillow's."""
    multiple: int = 1
    """Sides of the resized image are rounded up to a multiple of this."""
    together: int = 8
    """Windows in one batch."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales are empty; give at least one, as in (1.0,)")
        for scale in self.scales:
            check_number("scales", scale, 0.01, 100)
        for name in ("window", "short"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, whole=True)
        for name in ("stride", "long", "multiple", "together"):
            check_number(name, getattr(self, name), 1, whole=True)
        if self.window is not None and self.stride > self.window:
            raise InputError(f"stride {self.stride} leaves gaps between windows of {self.window}; give less")
        check_choice("resize", self.resize, RESIZES)


def view_sizes(size: Size, views: TTAConfig) -> list[Size]:
    """(h, w) of the image at each scale.

    Example:
        >>> view_sizes((375, 500), TTAConfig(scales=(0.5, 1.0)))
        [(256, 341), (512, 683)]
    """
    found = []
    for scale in views.scales:
        if views.short is None:
            h, w = (max(int(side * scale + 0.5), 1) for side in size)
        else:
            h, w = short_side_size(size, int(views.short * scale), int(views.long * scale))
        found.append((_up(h, views.multiple), _up(w, views.multiple)))
    return found


def multiscale(look: Look, image: Image, views: TTAConfig | None = None) -> Float[Tensor, "k h w"]:
    """Class probabilities of every pixel, averaged over sizes and their mirror images.

    For each view: the image is resized, perhaps mirrored, cut to windows; each window's logits are resized
    to its pixels (bilinear), averaged where windows overlap, resized to the image (bilinear); softmax;
    mirrored back.

    Args:
        look: the network; what does not depend on pixels, such as texts, it should know already.
        image: RGB.
        views: left out, WeakCLIP's: 6 sizes and their mirror images, windows of 512.

    Returns:
        float32, of sum 1 over the classes, on the device of what `look` gives.

    Source:
        WeakCLIP as coded by the authors, whose library's test-time augmentation it is. Values differ by
        rounding.

    Example:
        >>> def grey(windows):
        ...     return torch.from_numpy(windows).float().mean(-1)[:, None, ::4, ::4].repeat(1, 3, 1, 1)
        >>> multiscale(grey, np.zeros((20, 30, 3), np.uint8), TTAConfig(scales=(1.0,), short=None)).shape
        torch.Size([3, 20, 30])
    """
    views = views or TTAConfig()
    target = (image.shape[0], image.shape[1])
    plans = [_plan(size, views) for size in view_sizes(target, views)]
    shots = _views(image, plans, views)
    total: Tensor | None = None
    for plan, mirrored, maps in _forward(look, shots, plans, views):
        y, x = stitch_matrices(plan, (maps.shape[-2], maps.shape[-1]), plan.canvas, target)
        seen = y.to(maps) @ tile_windows(maps, plan) @ x.to(maps).T
        seen = seen.flip(-1) if mirrored else seen
        seen = seen.softmax(0)
        total = seen if total is None else total.add_(seen)
    if total is None:
        raise InputError("scales are empty; give at least one, as in (1.0,)")
    total /= len(plans) * (2 if views.flip else 1)
    return total


_Shot = tuple[int, bool, int, Image]
"""Scale, mirrored, window, pixels."""


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _plan(size: Size, views: TTAConfig) -> Windows:
    return single_window(size) if views.window is None else plan_windows(size, views.window, views.stride)


def _views(image: Image, plans: Sequence[Windows], views: TTAConfig) -> Iterator[_Shot]:
    """All windows, those of one size after each other."""
    sizes = defaultdict(list)
    for index, plan in enumerate(plans):
        sizes[plan.height, plan.width].append(index)
    for indices in sizes.values():
        for index in indices:
            scaled = _resized(image, plans[index].canvas, views.resize)
            for mirrored in (False, True)[: 2 if views.flip else 1]:
                shown = scaled[:, ::-1] if mirrored else scaled
                for window, (x0, y0, x1, y1) in enumerate(plans[index]):
                    yield index, mirrored, window, shown[y0:y1, x0:x1]


def _forward(
    look: Look, shots: Iterator[_Shot], plans: Sequence[Windows], views: TTAConfig
) -> Iterator[tuple[Windows, bool, Float[Tensor, "windows k _ _"]]]:
    """Maps of each view, as soon as all its windows have been looked at."""
    found: dict[tuple[int, bool], list[Tensor]] = defaultdict(list)
    for batch in _batches(shots, views.together):
        maps = look(np.stack([pixels for *_, pixels in batch])).float()
        for (index, mirrored, *_), one in zip(batch, maps, strict=True):
            known = found[index, mirrored]
            known.append(one)
            if len(known) == len(plans[index]):
                yield plans[index], mirrored, torch.stack(found.pop((index, mirrored)))


def _batches(shots: Iterator[_Shot], together: int) -> Iterator[list[_Shot]]:
    batch: list[_Shot] = []
    for shot in shots:
        if batch and (len(batch) == together or batch[0][-1].shape != shot[-1].shape):
            yield batch
            batch = []
        batch.append(shot)
    if batch:
        yield batch


def _resized(image: Image, size: Size, how: str) -> UInt8[np.ndarray, "h1 w1 3"]:
    if image.shape[:2] == size:
        return image
    if how == "linear":
        return resize_cv2_linear(image, size)
    picture = PIL.Image.fromarray(image).resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC)
    return np.asarray(picture)
