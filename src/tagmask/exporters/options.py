"""Options of an export: which images, which regions, which split, and what becomes of the photos."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError
from tagmask.regions import REGION_KINDS, RegionKind

__all__ = ["PHOTOS", "ExportOptions", "PhotoChoice", "parse_splits", "split_of"]

PhotoChoice: TypeAlias = Literal["copy", "link", "none"]

PHOTOS: tuple[PhotoChoice, ...] = ("copy", "link", "none")

_STEPS = 1 << 32


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export. Options that are None take the format's default."""

    regions: RegionKind | None = None
    """One region per class and image, or one per connected component of a class."""
    min_area: int = 1
    """Least number of pixels of a region; smaller ones are left out. Formats of whole masks keep all."""
    corrected_only: bool = False
    """Only images whose mask a person corrected."""
    accepted_only: bool = False
    """Only images that a person accepted or corrected."""
    min_confidence: float | None = None
    """Only images with at least this confidence, 0..1; images whose mask a person corrected are kept."""
    splits: Mapping[str, float] | None = None
    """Fraction of the images in each split, such as {"train": 0.8, "val": 0.2}."""
    seed: int = 0
    """Changes which image is in which split."""
    photos: PhotoChoice | None = None
    """Copy the photos into the export, link to them, or leave them where they are."""
    polygons: bool = False
    """coco: write polygons, with holes cut open, instead of run lengths."""
    parquet: bool = False
    """hf: write Parquet shards, with the photos in them, instead of an image folder."""
    image_prefix: str | None = None
    """label-studio: address to which the photos' names are added. None: that of its local files."""

    def __post_init__(self) -> None:
        if self.regions is not None:
            check_choice("regions", self.regions, REGION_KINDS)
        if self.photos is not None:
            check_choice("photos", self.photos, PHOTOS)
        check_number("min_area", self.min_area, 1, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        if self.min_confidence is not None:
            check_number("min_confidence", self.min_confidence, 0, 1)
        if self.splits is not None:
            _check_splits(self.splits)


def parse_splits(text: str) -> dict[str, float]:
    """Parse splits as in `train=0.8,val=0.2`.

    Raises:
        InputError: it does not have that form.

    Example:
        >>> parse_splits("train=0.8,val=0.2")
        {'train': 0.8, 'val': 0.2}
    """
    splits: dict[str, float] = {}
    for part in text.split(","):
        name, found, fraction = part.partition("=")
        try:
            value = float(fraction)
        except ValueError:
            found = ""
        if not found or name.strip() in splits:
            raise InputError(f"Invalid --split {text!r}. Give each split once, as in train=0.8,val=0.2.")
        splits[name.strip()] = value
    _check_splits(splits)
    return splits


def _check_splits(splits: Mapping[str, float]) -> None:
    for name, fraction in splits.items():
        if not name.isidentifier():
            raise InputError(f"Invalid split {name!r}. Give a name of letters and digits, such as train.")
        check_number(f"the fraction of {name}", fraction, 0, 1)
    if not math.isclose(sum(splits.values()), 1, abs_tol=1e-6):
        raise InputError(f"The splits add up to {sum(splits.values()):g}. Give fractions that add up to 1.")


def split_of(key: str, splits: Mapping[str, float], seed: int) -> str:
    """Return an image's split, by a hash of its key: it stays where it is when other images come or go.

    Example:
        >>> [split_of(f"photos/{n}.jpg", {"train": 0.5, "val": 0.5}, 0) for n in range(4)]
        ['val', 'val', 'train', 'train']
    """
    digest = hashlib.sha256(f"{seed}\0{key}".encode(errors="surrogateescape")).digest()
    place = int.from_bytes(digest[:4]) / _STEPS
    at = 0.0
    for name, fraction in splits.items():
        at += fraction
        if place < at:
            return name
    return next(reversed([name for name, fraction in splits.items() if fraction]))
