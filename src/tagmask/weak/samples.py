"""Training samples: images paired with seed masks, in a reproducible order and with reproducible crops.

Sample p of the endless stream depends on (seed, p) only: not on the number of processes or workers, nor on
where a run resumed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tagmask.checks import did_you_mean
from tagmask.errors import InputError, ShapeError, TagmaskError
from tagmask.images import read_image
from tagmask.reading import read_text
from tagmask.runtime.folders import find_images, output_names
from tagmask.weak.augment import Crop, augmented
from tagmask.weak.config import AugmentSettings
from tagmask.weak.mask_folder import mask_files, read_mask

__all__ = [
    "Batch",
    "CropSource",
    "Pair",
    "SeedSamples",
    "TrainingCrop",
    "batches",
    "check_seeds",
    "find_pairs",
    "sample_index",
]

_MAX_LISTED = 5
"""Number of invalid seeds listed in one error message."""


@dataclass(frozen=True)
class Pair:
    """An image and its seed mask."""

    name: str
    image: Path
    seed: Path


@dataclass(frozen=True, eq=False)
class TrainingCrop:
    """A training crop and the name of its image."""

    name: str
    """Name of the image."""
    crop: Crop


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of training crops."""

    names: tuple[str, ...]
    """Names of the images."""
    pixels: Float[Tensor, "b 3 h w"]
    """Normalised; 0 in the padding."""
    labels: Int[Tensor, "b *target"]
    """Class per pixel (h, w), or `IGNORE_INDEX`; to train on tags, 1 for each class of the image, else 0 (c);
    for affinities, label per cell (gh, gw)."""

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        tensors = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.labels))
        return Batch(self.names, *tensors)


@runtime_checkable
class CropSource(Protocol):
    """Source of training crops by image index, with a new crop each epoch."""

    def __len__(self) -> int: ...
    def sample(self, epoch: int, index: int) -> TrainingCrop:
        """Crop image `index` for an epoch; deterministic in (epoch, index)."""
        ...


def find_pairs(images: Path, seeds: Path, lists: Sequence[Path] = ()) -> tuple[Pair, ...]:
    """Pair images with seeds by their whole relative names; see `mask_files`.

    Args:
        images: folder of images.
        seeds: folder of index PNGs, or a run folder with masks.
        lists: files of image names, one per line (the rest of a line after a blank is ignored), in order;
            names may repeat. Empty: all images. Images whose seed the run could not compute are skipped.

    Raises:
        InputError: a folder without images, a list that cannot be read or names an unknown image, or a seed
            that could be of several images.
    """
    image_files = find_images([images])
    names = [str(name) for name in output_names(image_files)]
    images_by_name = dict(zip(names, image_files, strict=True))
    selected = names if not lists else [name for file in lists for name in _read_list(file)]
    for name in selected:
        if name not in images_by_name:
            hint = did_you_mean(name, images_by_name, 1)
            raise InputError(f"The lists name {name}, but there is no such image in {images}.{hint}")
    files = dict(zip(names, mask_files(seeds, image_files), strict=True))
    return tuple(
        Pair(name, images_by_name[name].path, file) for name in selected if (file := files[name]) is not None
    )


def _read_list(file: Path) -> list[str]:
    lines = read_text(file, "The list", "Give one image name per line.").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise InputError(f"The list {file} is empty. Give one image name per line.")
    return names


def check_seeds(pairs: Sequence[Pair], classes: int) -> None:
    """Read every seed, so that invalid ones are reported before training starts.

    Raises:
        InputError: seeds are absent, damaged or have a label out of range; the message lists the first few.
    """
    problems = []
    for file in dict.fromkeys(pair.seed for pair in pairs):
        try:
            read_mask(file, classes)
        except InputError as error:
            problems.append(str(error))
    if problems:
        more = f" (and {len(problems) - _MAX_LISTED} more)" if len(problems) > _MAX_LISTED else ""
        raise InputError(
            f"{len(problems)} of {len(pairs)} seeds cannot be used: {' '.join(problems[:_MAX_LISTED])}{more}"
        )


class SeedSamples:
    """Training crops of images and their seeds.

    Args:
        pairs: images and seeds, at least one.
        classes: number of classes.
        settings: augmentation.
        seed: random seed of the crops.
    """

    def __init__(self, pairs: Sequence[Pair], classes: int, settings: AugmentSettings, seed: int) -> None:
        if not pairs:
            raise InputError("There are no images to train on. Give a folder with images.")
        self.pairs = tuple(pairs)
        self._classes = classes
        self._settings = settings
        self._seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, epoch: int, index: int) -> TrainingCrop:
        """Crop image `index` for an epoch.

        Raises:
            ImageError: the image cannot be read.
            InputError: the seed cannot be used.
            ShapeError: the seed and the image differ in size.
        """
        pair = self.pairs[index]
        image, labels = read_image(pair.image), read_mask(pair.seed, self._classes)
        if labels.shape != image.shape[:2]:
            raise ShapeError(
                f"The seed {pair.seed} is {labels.shape}, but its image {pair.image} is {image.shape[:2]} "
                "(h, w). Give seeds at the images' size."
            )
        views = self._settings.views
        rng = np.random.default_rng((_CROPS, self._seed, epoch % views if views else epoch, index))
        return TrainingCrop(pair.name, augmented(image, labels, self._settings, rng))


_ORDER, _CROPS = 1, 2
"""Labels of independent random streams."""


def sample_index(position: int, count: int, seed: int) -> tuple[int, int]:
    """Epoch and image index at a position of the endless stream; every epoch permutes all images anew.

    Example:
        >>> sorted(sample_index(p, 4, seed=0)[1] for p in range(4, 8)), sample_index(4, 4, seed=0)[0]
        ([0, 1, 2, 3], 1)
    """
    epoch, place = divmod(position, count)
    return epoch, int(_order(count, seed, epoch)[place])


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng((_ORDER, seed, epoch)).permutation(count)


@dataclass(frozen=True, eq=False)
class _Stream(Dataset["TrainingCrop | TagmaskError"]):
    """Samples by position. Errors are returned, not raised: a DataLoader worker would change their type."""

    samples: CropSource
    seed: int

    def __getitem__(self, position: int) -> "TrainingCrop | TagmaskError":
        try:
            return self.samples.sample(*sample_index(position, len(self.samples), self.seed))
        except TagmaskError as error:
            return error


def batches(
    samples: CropSource,
    seed: int,
    positions: Sequence[Sequence[int]],
    *,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Load batches of a stream.

    Args:
        samples: source of crops.
        seed: random seed of the order.
        positions: stream positions of this process, batch by batch.
        workers: data loading processes; 0: load in this process.
        pin: put batches in pinned memory, for fast copies to a GPU.

    Raises:
        TagmaskError: the first sample that cannot be loaded.
    """
    stream = _Stream(samples, seed)
    loaded: Iterable[Batch | TagmaskError]
    if workers == 0:
        loaded = (_collate([stream[position] for position in batch]) for batch in positions)
    else:
        loaded = DataLoader(
            stream,
            batch_sampler=[list(batch) for batch in positions],
            num_workers=workers,
            collate_fn=_collate,
            generator=torch.Generator(),  # drawing from the global generator would change later steps
        )
    for batch in loaded:
        if isinstance(batch, TagmaskError):
            raise batch
        yield Batch(batch.names, batch.pixels.pin_memory(), batch.labels.pin_memory()) if pin else batch


def _collate(samples: Sequence["TrainingCrop | TagmaskError"]) -> "Batch | TagmaskError":
    crops: list[TrainingCrop] = []
    for sample in samples:
        if isinstance(sample, TagmaskError):
            return sample
        crops.append(sample)
    return Batch(
        names=tuple(sample.name for sample in crops),
        pixels=torch.from_numpy(np.stack([sample.crop.pixels for sample in crops])),
        labels=torch.from_numpy(np.stack([sample.crop.labels for sample in crops]).astype(np.int64)),
    )
