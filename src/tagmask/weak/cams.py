"""Class activation maps from files, and the masks they give at a threshold.

A file is a `.npy` with one pickled dict: class, counted from 0 without the background, to a map (h, w) in
0..1 of the picture's size, for the classes that the picture is said to hold.

    t     what the background scores everywhere
    mask  the best of {t, maps}: 0 for the background, class + 1 for a class

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

__all__ = ["THRESHOLDS", "Cams", "Sweep", "cam_labels", "read_cams", "sweep"]

Cams = Mapping[int, Float32[np.ndarray, "h w"]]
"""Map by class, classes ascending, at least one."""

THRESHOLDS: Final[tuple[float, ...]] = tuple(i / 100 for i in range(60))
"""What MCTformer's evaluation tries."""

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
"""What an array, a number or a dict of them is built from; nothing here runs what a file says."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return super().find_class(module, name)


def read_cams(path: Path, classes: int) -> Cams:
    """Read a file of activation maps; nothing in it is run.

    Args:
        path: the `.npy` file.
        classes: how many there are, without the background.

    Raises:
        InputError: a file that is absent, damaged, holds anything else than a dict of maps, or asks to run
            code; a class that is not there; maps of different sizes or with values that are no numbers.
    """
    try:
        with path.open("rb") as file:
            held = _unpickled(file)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no file {path}; make the maps of this picture, or leave it out"
        ) from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} is refused: {error}; give a dict of arrays, saved by numpy.save") from error
    except Exception as error:  # damage shows as errors of any kind
        raise InputError(f"{path} cannot be read: {error}; write it again with numpy.save") from error
    if not isinstance(held, dict):
        raise InputError(f"{path} holds {type(held).__name__}; wanted is a dict from class to map (h, w)")
    return MappingProxyType(dict(sorted(_checked(path, key, value, classes) for key, value in held.items())))


def _unpickled(file: object) -> object:
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)  # type: ignore[arg-type]
    if shape != () or dtype != np.dtype(object):
        raise pickle.UnpicklingError(f"it holds an array {shape} of {dtype}")
    array = _ArraysOnly(file, encoding="latin1").load()  # type: ignore[arg-type]
    return array.item() if isinstance(array, np.ndarray) and array.shape == () else array


def _checked(path: Path, key: object, value: object, classes: int) -> tuple[int, Float32[np.ndarray, "h w"]]:
    if isinstance(key, bool) or not isinstance(key, int | np.integer) or not 0 <= key < classes:
        raise InputError(f"{path} has a map for class {key!r}; wanted are numbers from 0 to {classes - 1}")
    if not isinstance(value, np.ndarray) or value.ndim != 2 or not value.size or value.dtype.kind != "f":
        shape = getattr(value, "shape", type(value).__name__)
        raise InputError(f"{path}: the map of class {key} is {shape}; wanted are floats (h, w)")
    if not np.isfinite(value).all():
        raise InputError(f"{path}: the map of class {key} holds values that are no numbers; make it again")
    return int(key), value.astype(np.float32)


def cam_labels(cams: Cams, threshold: float, size: Size) -> UInt8[np.ndarray, "h w"]:
    """Labels at a threshold: background where no map exceeds it.

    Args:
        cams: maps by class.
        threshold: what the background scores.
        size: the picture's (h, w).

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
    """The highest map's value and its label, pixel by pixel; the first of equals."""
    best, winner = np.full(size, -np.inf, np.float32), np.zeros(size, np.uint8)
    for kind in sorted(cams):
        if cams[kind].shape != size:
            raise ShapeError(
                f"the map of class {kind} is {cams[kind].shape} and the picture {size} (h, w); "
                "make maps of the picture's own size"
            )
        higher = cams[kind] > best
        best[higher], winner[higher] = cams[kind][higher], kind + 1
    return best, winner


@dataclass(frozen=True)
class Sweep:
    """How good masks are at each threshold."""

    miou: tuple[float, ...]
    """Mean over classes of the intersection over union, 0..1, one a threshold of `THRESHOLDS`."""

    @property
    def best(self) -> float:
        """The threshold with the highest mIoU of all."""
        return THRESHOLDS[int(np.argmax(self.miou))]

    @property
    def first_peak(self) -> float:
        """The threshold before the first decrease, where MCTformer's evaluation stops."""
        drops = np.flatnonzero(np.diff(self.miou) < 0)
        return THRESHOLDS[int(drops[0]) if len(drops) else len(self.miou) - 1]


def sweep(pairs: Iterable[tuple[Cams, UInt8[np.ndarray, "_ _"]]], classes: int) -> Sweep:
    """Try all thresholds at once on pictures with known truth.

    Args:
        pairs: maps and true labels (0 background, class + 1, 255 not known), picture by picture.
        classes: how many there are, without the background.

    Returns:
        The mIoU at each threshold; classes neither found nor there do not count.

    Raises:
        ShapeError: a map of another size than its truth.
        InputError: a true label that is no class, or no picture at all.
    """
    steps, labels = len(THRESHOLDS) + 1, classes + 1
    # counts[s, p, t]: pixels of truth t whose best class is p, which s thresholds lie under
    counts = np.zeros(steps * labels * labels, np.int64)
    for cams, truth in pairs:
        best, winner = _best(cams, (truth.shape[0], truth.shape[1]))
        known = truth != 255
        if known.any() and truth[known].max() > classes:
            raise InputError(f"a true label is {truth[known].max()}; wanted are 0 to {classes}, or 255")
        under = np.searchsorted(np.asarray(THRESHOLDS, np.float32), best[known], side="left")
        flat = (under * labels + winner[known]) * labels + truth[known]
        counts += np.bincount(flat, minlength=len(counts))
    if not counts.any():
        raise InputError("no picture with maps and truth; the sweep needs some of both")
    return Sweep(tuple(_mious(counts.reshape(steps, labels, labels))))


def _mious(counts: Int[np.ndarray, "s c c"]) -> Float[np.ndarray, " t"]:
    # above[i]: pixels that are some class at threshold i; the rest there is background
    above = counts[::-1].cumsum(axis=0)[::-1][1:]
    matrix = above.copy()
    matrix[:, 0] += counts.sum(axis=(0, 1)) - above.sum(axis=1)
    right = np.diagonal(matrix, axis1=1, axis2=2)
    union = matrix.sum(axis=1) + matrix.sum(axis=2) - right
    share = np.where(union > 0, right / np.maximum(union, 1), np.nan)
    miou: Float[np.ndarray, " t"] = np.nanmean(share, axis=1)
    return miou
