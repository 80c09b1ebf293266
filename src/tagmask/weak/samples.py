"""Pictures with their seeds, in an order and with a chance that follow from the seed alone.

What position p of the endless stream of samples is depends on (seed, p) only: not on how many processes or
workers there are, nor on where a run was taken up again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tagmask.errors import InputError, ShapeError, TagmaskError
from tagmask.images import read_image
from tagmask.runtime.folders import find_images, output_names
from tagmask.weak.augment import Crop, augmented
from tagmask.weak.config import AugmentSettings
from tagmask.weak.mask_folder import left_out, mask_file, read_mask

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

_NAMED = 5
"""Bad seeds that are named at once."""


@dataclass(frozen=True)
class Pair:
    """A picture and its seed."""

    name: str
    image: Path
    seed: Path


@dataclass(frozen=True, eq=False)
class TrainingCrop:
    """One training crop."""

    name: str
    """Of the picture."""
    crop: Crop


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step is taken on."""

    names: tuple[str, ...]
    pixels: Float[Tensor, "b 3 h w"]
    """Normalised; 0 outside the pictures."""
    labels: Int[Tensor, "b h w"]
    """Class per pixel, 255 for nothing."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        there = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.labels))
        return Batch(self.names, *there)


@runtime_checkable
class CropSource(Protocol):
    """Training crops by number, a new one each epoch."""

    def __len__(self) -> int: ...
    def sample(self, epoch: int, index: int) -> TrainingCrop:
        """Crop of picture `index` in an epoch; the same whenever and wherever it is asked for."""
        ...


def find_pairs(images: Path, seeds: Path, lists: Sequence[Path] = ()) -> tuple[Pair, ...]:
    """Pair pictures with seeds by name.

    Args:
        images: folder of pictures.
        seeds: folder of index PNGs, or one that tagmask wrote.
        lists: files of image names, one a line (what follows a blank is left aside), in order; a name may
            come twice. None: all pictures. Those that the seeds' folder says it left out are passed over.

    Raises:
        InputError: a folder without pictures, or a list that cannot be read or names one that is not there.
    """
    found = find_images([images])
    names = [str(name) for name in output_names(found)]
    paths = dict(zip(names, (image.path for image in found), strict=True))
    wanted = names if not lists else [name for file in lists for name in _listed(file)]
    for name in wanted:
        if name not in paths:
            near = get_close_matches(name, paths, n=1)
            hint = f"; did they mean {near[0]}?" if near else ""
            raise InputError(f"the lists name {name}, and there is no such picture below {images}{hint}")
    missing = left_out(seeds)
    return tuple(Pair(name, paths[name], mask_file(seeds, name)) for name in wanted if name not in missing)


def _listed(file: Path) -> list[str]:
    try:
        lines = file.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise InputError(f"the list {file} cannot be read: {error}; give one image name a line") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise InputError(f"the list {file} is empty; give one image name a line")
    return names


def check_seeds(pairs: Sequence[Pair], classes: int) -> None:
    """Read every seed, so that a bad one is found before anything is trained.

    Raises:
        InputError: naming the first few that are absent, damaged, or hold a label that is no class.
    """
    bad = []
    for file in dict.fromkeys(pair.seed for pair in pairs):
        try:
            read_mask(file, classes)
        except InputError as error:
            bad.append(str(error))
    if bad:
        more = f" (and {len(bad) - _NAMED} more)" if len(bad) > _NAMED else ""
        raise InputError(f"{len(bad)} of {len(pairs)} seeds cannot be used: {'; '.join(bad[:_NAMED])}{more}")


class SeedSamples:
    """Crops of pictures and their seeds.

    Args:
        pairs: pictures and seeds, at least one.
        classes: how many there are.
        settings: how a picture becomes a crop.
        seed: of all chance.
    """

    def __init__(self, pairs: Sequence[Pair], classes: int, settings: AugmentSettings, seed: int) -> None:
        if not pairs:
            raise InputError("no pictures to train on; give a folder with some")
        self.pairs = tuple(pairs)
        self._classes = classes
        self._settings = settings
        self._seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def sample(self, epoch: int, index: int) -> TrainingCrop:
        """Crop of picture `index` in an epoch.

        Raises:
            ImageError: a picture that cannot be read.
            InputError: a seed that cannot be used.
            ShapeError: a seed of another size than its picture.
        """
        pair = self.pairs[index]
        image, labels = read_image(pair.image), read_mask(pair.seed, self._classes)
        if labels.shape != image.shape[:2]:
            raise ShapeError(
                f"the seed {pair.seed} is {labels.shape} and its picture {pair.image} is {image.shape[:2]} "
                "(h, w); "
                "give seeds of the pictures' own size"
            )
        views = self._settings.views
        rng = np.random.default_rng((_CROPS, self._seed, epoch % views if views else epoch, index))
        return TrainingCrop(pair.name, augmented(image, labels, self._settings, rng))


_ORDER, _CROPS = 1, 2
"""Streams of chance that have nothing to do with each other."""


def sample_index(position: int, count: int, seed: int) -> tuple[int, int]:
    """Epoch and picture at a position of the endless stream: every epoch is a new order of all pictures.

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
    """Samples by position. Errors are results: a loader's workers would wrap them beyond recognition."""

    samples: CropSource
    seed: int

    def __getitem__(self, position: int) -> "TrainingCrop | TagmaskError":
        try:
            return self.samples.sample(*sample_index(position, len(self.samples), self.seed))
        except TagmaskError as error:
            return error


def batches(
    samples: CropSource, seed: int, own: Sequence[Sequence[int]], *, workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """Batches of a stream.

    Args:
        samples: what they are made of.
        seed: of the order.
        own: positions of the stream, batch by batch, that this process takes.
        workers: processes that prepare them; 0: this one does.
        pin: keep them where a GPU can fetch them fast.

    Raises:
        TagmaskError: of the first sample that cannot be made.
    """
    stream = _Stream(samples, seed)
    made: Iterable[Batch | TagmaskError]
    if workers == 0:
        made = (_together([stream[position] for position in positions]) for positions in own)
    else:
        made = DataLoader(
            stream,
            batch_sampler=[list(positions) for positions in own],
            num_workers=workers,
            collate_fn=_together,
            generator=torch.Generator(),  # its own: drawing from the shared one would change what follows
        )
    for batch in made:
        if isinstance(batch, TagmaskError):
            raise batch
        yield Batch(batch.names, batch.pixels.pin_memory(), batch.labels.pin_memory()) if pin else batch


def _together(samples: Sequence["TrainingCrop | TagmaskError"]) -> "Batch | TagmaskError":
    good: list[TrainingCrop] = []
    for sample in samples:
        if isinstance(sample, TagmaskError):
            return sample
        good.append(sample)
    return Batch(
        names=tuple(sample.name for sample in good),
        pixels=torch.from_numpy(np.stack([sample.crop.pixels for sample in good])),
        labels=torch.from_numpy(np.stack([sample.crop.labels for sample in good]).astype(np.int64)),
    )
