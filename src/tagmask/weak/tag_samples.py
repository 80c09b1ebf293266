"""Training samples of MCTformer: images paired with their tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagmask.errors import InputError
from tagmask.images import read_image
from tagmask.runtime.folders import find_images
from tagmask.runtime.tag_files import read_tags, tagged
from tagmask.weak.augment import Crop
from tagmask.weak.config import TrainConfig
from tagmask.weak.imagenet_augment import augmented_crop
from tagmask.weak.samples import TrainingCrop

__all__ = ["TagSamples", "TaggedImage", "find_tagged"]

_CROPS = 3
"""Label of an independent random stream."""


@dataclass(frozen=True)
class TaggedImage:
    """An image and its tags."""

    name: str
    """As in the tag file."""
    image: Path
    tags: tuple[int, ...]


def find_tagged(images: Path, tags: Path, classes: int) -> tuple[TaggedImage, ...]:
    """Pair images with their lines of a tag file; images without a line are left out.

    Images with a line but without tags are kept: they have none of the classes.

    Raises:
        InputError: a folder without images, a tag file that cannot be used, no image with a line, or no tags
            at all.
    """
    lines = tagged(find_images([images]), read_tags(tags, classes))
    found = tuple(TaggedImage(name, image.path, tuple(tags)) for image, name, tags in lines)
    if not any(each.tags for each in found):
        raise InputError(
            f"{tags} has no tags of images in {images}. Give lines such as '2007_000032 0 14', with the "
            "images' names without ending."
        )
    return found


class TagSamples:
    """Training crops of images, and their tags as labels.

    Args:
        images: at least one.
        classes: number of classes.
        config: crop side, statistics, augmentation and random seed.
    """

    def __init__(self, images: Sequence[TaggedImage], classes: int, config: TrainConfig) -> None:
        self._images = tuple(images)
        self._classes = classes
        self._config = config

    def __len__(self) -> int:
        return len(self._images)

    def sample(self, epoch: int, index: int) -> TrainingCrop:
        """Crop image `index` for an epoch. As coded by the authors, tags are not adapted to the crop.

        Raises:
            ImageError: the image cannot be read.
        """
        each, config = self._images[index], self._config
        views = config.augment.views
        rng = np.random.default_rng((_CROPS, config.run.seed, epoch % views if views else epoch, index))
        pixels = augmented_crop(read_image(each.image), config.augment, config.mctformer, rng)
        labels = np.zeros(self._classes, np.uint8)
        labels[list(each.tags)] = 1
        return TrainingCrop(each.name, Crop(pixels, labels))
