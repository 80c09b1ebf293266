"""Training samples of the affinity network: crops of images, and labels of their cells from maps.

The maps are read twice, with a strong background and a weak one. Each reading is refined by a dense CRF,
which takes the longest, so it is done once per image:

    FOLDER/scores/NAME.npz    "low", "high": scores (k, h, w), background first, for powers 1 and 12
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float16, Float32, UInt8
from PIL import ImageEnhance

from tagmask.files import write_bytes
from tagmask.images import read_image
from tagmask.papers.psa import affinity_labels
from tagmask.refine.crf import CRF_SETTINGS, dense_crf
from tagmask.types import Image
from tagmask.weak.augment import Crop
from tagmask.weak.cam_files import Cams, read_cams
from tagmask.weak.config import TrainConfig
from tagmask.weak.samples import Pair, TrainingCrop

__all__ = ["AffinitySamples", "crf_scores", "jittered_colours"]

_LOW, _HIGH = 1, 12
"""Powers of the background's score."""
_CROPS: Final = 4
"""Label of an independent random stream."""
_JITTER, _HUE_JITTER = 0.3, 0.1

RgbImage = UInt8[np.ndarray, "_ _ 3"]


class _Scores(NamedTuple):
    low: Float16[np.ndarray, "k h w"]
    high: Float16[np.ndarray, "k h w"]


class AffinitySamples:
    """Training crops and labels of their cells.

    Args:
        pairs: images, each with its file of maps; at least one.
        config: crop side, flip, statistics, random seed.
        folder: of the scores.
    """

    def __init__(self, pairs: Sequence[Pair], config: TrainConfig, folder: Path) -> None:
        self.pairs = tuple(pairs)
        self._config, self._folder = config, folder

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, epoch: int, index: int) -> TrainingCrop:
        """Crop image `index` for an epoch: colours are jittered, then flip and crop; black outside the image.

        Raises:
            ImageError: the image cannot be read.
            InputError: the file of maps cannot be used.
            ShapeError: maps and image differ in size.
        """
        pair, augment = self.pairs[index], self._config.augment
        rng = np.random.default_rng((_CROPS, self._config.run.seed, epoch, index))
        image = read_image(pair.image)
        low, high = self._scores(pair, image)
        image = jittered_colours(image, rng)
        if rng.random() < augment.flip:
            image, low, high = image[:, ::-1], low[..., ::-1], high[..., ::-1]
        h, w, side = *image.shape[:2], augment.crop
        source, target = zip(*(_window(length, side, rng) for length in (h, w)), strict=True)
        crop = np.zeros((side, side, 3), np.float32)
        crop[target] = image[source]
        planes = [np.zeros((len(low), side, side), np.float32) for _ in range(2)]
        for plane, scores in zip(planes, (low, high), strict=True):
            plane[:, *target] = scores[:, *source]
        labels = affinity_labels(*(torch.from_numpy(plane) for plane in planes)).numpy()
        mean, std = (np.asarray(values, np.float32) for values in (augment.mean, augment.std))
        pixels = np.ascontiguousarray(((crop - mean) / std).transpose(2, 0, 1))
        return TrainingCrop(pair.name, Crop(pixels, labels))

    def _scores(self, pair: Pair, image: Image) -> _Scores:
        path = self._folder / f"{PurePosixPath(pair.name)}.npz"
        size = (image.shape[0], image.shape[1])
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                kept = _Scores(content["low"], content["high"])
            if kept.low.shape[1:] == kept.high.shape[1:] == size:
                return kept
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # not computed yet, or half-written by another program: computed now
        cams = read_cams(pair.seed, len(self._config.model.words), size)
        low, high = (crf_scores(image, cams, power).astype(np.float16) for power in (_LOW, _HIGH))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, low=low, high=high)
        write_bytes(path, buffer.getvalue())
        return _Scores(low, high)


def crf_scores(image: Image, cams: Cams, power: int) -> Float32[np.ndarray, "k h w"]:
    """Refine maps and a background of (1 - highest map) ** `power` by a dense CRF; background first.

    An image without maps is background.
    """
    if not cams:
        return np.ones((1, *image.shape[:2]), np.float32)
    maps = torch.from_numpy(np.stack([cams[key] for key in sorted(cams)]))
    background = (1 - maps.amax(dim=0, keepdim=True)) ** power
    scores: Float32[np.ndarray, "k h w"] = dense_crf(
        torch.cat([background, maps]), image, CRF_SETTINGS["mctformer"]
    ).numpy()
    return scores


def jittered_colours(image: RgbImage, rng: np.random.Generator) -> RgbImage:
    """Change brightness, contrast and saturation by up to 30 %, and hue by up to a tenth of the circle.

    The four changes come in a random order, as in torchvision's ColorJitter.
    """
    picture = PIL.Image.fromarray(image)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    factors = rng.uniform(1 - _JITTER, 1 + _JITTER, len(enhancers)).tolist()
    hue = round(255 * rng.uniform(-_HUE_JITTER, _HUE_JITTER))
    for change in rng.permutation(len(enhancers) + 1).tolist():
        if change < len(enhancers):
            picture = enhancers[change](picture).enhance(factors[change])
        else:
            hsv = np.array(picture.convert("HSV"))
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + hue) % 256
            picture = PIL.Image.fromarray(hsv, "HSV").convert("RGB")
    changed: RgbImage = np.asarray(picture)
    return changed


def _window(length: int, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A random crop of one axis: where it reads in the image, and where it writes in the crop."""
    if length >= side:
        first = int(rng.integers(length - side + 1))
        return slice(first, first + side), slice(0, side)
    first = int(rng.integers(side - length + 1))
    return slice(0, length), slice(first, first + length)
