"""Read class activation maps (CAMs) from files and turn them into masks at a threshold.

A file is a `.npy` with one pickled dict from class (counted from 0, without the background) to a map (h, w)
in 0..1 at the image's size, for the classes of the image's ground-truth tags.

    t     background score of every pixel: the threshold
    mask  argmax over {t, maps}: 0 for the background, class + 1 for a class

Source: MCTformer (Xu et al., CVPR 2022), whose program writes these files.
"""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from tagmask.errors import InputError, ShapeError
from tagmask.types import Size
from tagmask.weak.labels import IGNORE_INDEX

__all__ = ["THRESHOLDS", "Cams", "Sweep", "cam_labels", "read_cams", "sweep"]

Cams = Mapping[int, Float32[np.ndarray, "h w"]]
"""Activation maps by class, in ascending order; at least one."""

THRESHOLDS: Final[tuple[float, ...]] = tuple(i / 100 for i in range(60))
"""The thresholds that MCTformer's evaluation tries."""

_ALLOWED: Final = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),  # bytes, as older pickles write them
        *(
            (f"numpy.{core}.{module}", name)
            for core in ("core", "_core")
            for module, name in (
                ("multiarray", "_reconstruct"),
                ("multiarray", "scalar"),
                ("numeric", "_frombuffer"),
            )
        ),
    }
)
"""Constructors of arrays, numbers and dicts of them; none of these runs code from the file."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it tries to run {module}.{name}")
        return super().find_class(module, name)


def read_cams(path: Path, classes: int) -> Cams:
    """Read a file of activation maps without running any code in it.

    Args:
        path: the `.npy` file.
        classes: number of classes, without the background.

    Raises:
        InputError: a file that is absent, damaged, holds anything but a dict of maps, or tries to run code;
            a class out of range; a map that is not a 2-D float array or has NaN or infinite values.
    """
    try:
        with path.open("rb") as file:
            content = _unpickled(file)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file {path}. Create the activation maps of this image, or remove the image."
        ) from error
    except pickle.UnpicklingError as error:
        raise InputError(f"Refused {path}: {error}. Give a dict of arrays, saved by numpy.save.") from error
    except Exception as error:  # damage shows as errors of any kind
        raise InputError(f"{path} cannot be read: {error}. Save it again with numpy.save.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds a {type(content).__name__}. Expected a dict from class to map (h, w)."
        )
    return MappingProxyType(
        dict(sorted(_checked(path, key, value, classes) for key, value in content.items()))
    )


def _unpickled(file: object) -> object:
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)  # type: ignore[arg-type]
    if shape != () or dtype != np.dtype(object):
        raise pickle.UnpicklingError(f"it holds an array of shape {shape} and type {dtype}")
    array = _ArraysOnly(file, encoding="latin1").load()  # type: ignore[arg-type]
    return array.item() if isinstance(array, np.ndarray) and array.shape == () else array


def _checked(path: Path, key: object, value: object, classes: int) -> tuple[int, Float32[np.ndarray, "h w"]]:
    if isinstance(key, bool) or not isinstance(key, int | np.integer) or not 0 <= key < classes:
        raise InputError(f"{path} has a map for class {key!r}. Expected classes from 0 to {classes - 1}.")
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.size or value.dtype.kind != "f":
        shape = getattr(value, "shape", type(value).__name__)
        raise InputError(f"{path}: the map of class {key} is {shape}. Expected floats (h, w).")
    if not np.isfinite(value).all():
        raise InputError(f"{path}: the map of class {key} has NaN or infinite values. Create it again.")
    return int(key), value.astype(np.float32)


def cam_labels(cams: Cams, threshold: float, size: Size) -> UInt8[np.ndarray, "h w"]:
    """Label every pixel: background where no map exceeds the threshold, else the class of the highest map.

    Args:
        cams: maps by class.
        threshold: background score of every pixel.
        size: the image's (h, w).

    Raises:
        ShapeError: a map of another size.

    Example:
        >>> cam_labels({4: np.array([[0.2, 0.9]], np.float32)}, 0.5, (1, 2)).tolist()
        [[0, 5]]
    """
    best, winner = _best(cams, size)
    labels: UInt8[np.ndarray, "h w"] = np.where(best > np.float32(threshold), winner, 0).astype(np.uint8)
    return labels


def _best(cams: Cams, size: Size) -> tuple[Float32[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Highest map value and its label, pixel by pixel; of equal values the lowest class wins."""
    best, winner = np.full(size, -np.inf, np.float32), np.zeros(size, np.uint8)
    for c in sorted(cams):
        if cams[c].shape != size:
            raise ShapeError(
                f"The map of class {c} is {cams[c].shape}, but the image is {size} (h, w). "
                "Create maps at the image's size."
            )
        higher = cams[c] > best
        best[higher], winner[higher] = cams[c][higher], c + 1
    return best, winner


@dataclass(frozen=True)
class Sweep:
    """mIoU of the masks at each threshold."""

    miou: tuple[float, ...]
    """Mean intersection over union of the classes, 0..1, one value per threshold of `THRESHOLDS`."""

    @property
    def best(self) -> float:
        """The threshold with the highest mIoU."""
        return THRESHOLDS[int(np.argmax(self.miou))]

    @property
    def first_peak(self) -> float:
        """The threshold before the mIoU first decreases, where MCTformer's evaluation stops."""
        drops = np.flatnonzero(np.diff(self.miou) < 0)
        return THRESHOLDS[int(drops[0]) if len(drops) else len(self.miou) - 1]


def sweep(pairs: Iterable[tuple[Cams, UInt8[np.ndarray, "_ _"]]], classes: int) -> Sweep:
    """Evaluate all thresholds in one pass over images with ground-truth masks.

    Args:
        pairs: per image, the maps and the ground-truth labels (0 background, class + 1, or `IGNORE_INDEX`).
        classes: number of classes, without the background.

    Returns:
        The mIoU at each threshold; classes that are neither predicted nor in the ground truth do not count.

    Raises:
        ShapeError: a map of another size than its ground truth.
        InputError: a ground-truth label out of range, or no images.
    """
    steps, labels = len(THRESHOLDS) + 1, classes + 1
    # counts[s, p, t]: pixels of true class t whose best class is p and whose best value exceeds s thresholds
    counts = np.zeros(steps * labels * labels, np.int64)
    for cams, truth in pairs:
        best, winner = _best(cams, (truth.shape[0], truth.shape[1]))
        known = truth != IGNORE_INDEX
        if known.any() and truth[known].max() > classes:
            raise InputError(
                f"A ground-truth label is {truth[known].max()}. "
                f"Expected 0 to {classes}, or {IGNORE_INDEX} to ignore a pixel."
            )
        exceeded = np.searchsorted(np.asarray(THRESHOLDS, np.float32), best[known], side="left")
        flat = (exceeded * labels + winner[known]) * labels + truth[known]
        counts += np.bincount(flat, minlength=len(counts))
    if not counts.any():
        raise InputError(
            "No image has both activation maps and a ground-truth mask. "
            "Choosing a threshold needs at least one such image."
        )
    return Sweep(tuple(_mious(counts.reshape(steps, labels, labels))))


def _mious(counts: Int[np.ndarray, "s c c"]) -> Float[np.ndarray, " t"]:
    # above[i]: pixels labelled with a class at threshold i; all others are background
    above = counts[::-1].cumsum(axis=0)[::-1][1:]
    matrix = above.copy()
    matrix[:, 0] += counts.sum(axis=(0, 1)) - above.sum(axis=1)
    intersection = np.diagonal(matrix, axis1=1, axis2=2)
    union = matrix.sum(axis=1) + matrix.sum(axis=2) - intersection
    iou = np.where(union > 0, intersection / np.maximum(union, 1), np.nan)
    miou: Float[np.ndarray, " t"] = np.nanmean(iou, axis=1)
    return miou
