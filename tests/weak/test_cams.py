"""Activation maps: read without running code; the sweep equals trying each threshold."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import InputError, ShapeError
from tagmask.weak.cams import THRESHOLDS, Sweep, cam_labels, read_cams, sweep


def some_maps(seed: int, classes: tuple[int, ...], size: tuple[int, int] = (13, 17)) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {kind: rng.random(size).astype(np.float32).round(2) for kind in classes}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_dict_of_maps_is_read(tmp_path: Path, protocol: int) -> None:
    maps = {np.int64(3): some_maps(0, (0,))[0], 1: some_maps(1, (0,))[0]}
    file = tmp_path / "a.npy"
    array = np.empty((), object)
    array[()] = maps
    np.save(file, array)
    header = file.read_bytes().partition(b"\n")[0] + b"\n"
    file.write_bytes(header + pickle.dumps(array, protocol=protocol))
    read = read_cams(file, 4)
    assert list(read) == [1, 3]
    assert np.array_equal(read[3], maps[np.int64(3)])


def test_files_saved_by_numpy_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({0: np.ones((2, 3), np.float16)}, object))
    assert read_cams(tmp_path / "a.npy", 1)[0].dtype == np.float32


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_file_with_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({0: Trap(tmp_path / "created")}, object))
    with pytest.raises(InputError, match=r"Refused .* it tries to run posix\.mkdir"):
        read_cams(tmp_path / "a.npy", 1)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list. Expected a dict"),
        ({5: np.ones((2, 2))}, r"class 5\. Expected classes from 0 to 4"),
        ({"cat": np.ones((2, 2))}, "class 'cat'"),
        ({0: np.ones((2, 2), np.uint8)}, "Expected floats"),
        ({0: np.ones(3)}, "Expected floats"),
        ({0: np.full((2, 2), np.nan)}, "NaN or infinite"),
    ],
)
def test_invalid_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    array = np.empty((), object)
    array[()] = content
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        read_cams(tmp_path / "a.npy", 5)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(some_maps(0, (0,)), object))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-40])
    np.save(tmp_path / "plain.npy", np.ones((2, 2)))
    (tmp_path / "text.npy").write_text("maps")
    for name, message in (("cut", "cut.npy"), ("plain", "float64"), ("text", "text.npy"), ("no", "no file")):
        with pytest.raises(InputError, match=message):
            read_cams(tmp_path / f"{name}.npy", 1)


def test_labels_are_the_argmax_of_background_and_maps() -> None:
    maps = some_maps(3, (0, 2, 5))
    stack = np.stack([np.full((13, 17), 0.4, np.float32), *(maps[kind] for kind in (0, 2, 5))])
    wanted = np.array([0, 1, 3, 6])[stack.argmax(axis=0)]
    assert np.array_equal(cam_labels(maps, 0.4, (13, 17)), wanted)
    with pytest.raises(ShapeError, match="at the image's size"):
        cam_labels(maps, 0.4, (17, 13))


def test_the_sweep_equals_trying_each_threshold() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for seed, kinds in ((0, (0, 2)), (1, (1,)), (2, (0, 1, 2))):
        truth = rng.integers(0, 4, (13, 17)).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.1] = 255
        pairs.append((some_maps(seed, kinds), truth))
    wanted = []
    for threshold in THRESHOLDS:
        found = [cam_labels(maps, threshold, (13, 17)) for maps, _ in pairs]
        shares = []
        for kind in range(5):  # class 4 is nowhere
            both = either = 0
            for labels, (_, truth) in zip(found, pairs, strict=True):
                known = truth != 255
                both += int(((labels == kind) & (truth == kind) & known).sum())
                either += int((((labels == kind) | (truth == kind)) & known).sum())
            if either:
                shares.append(both / either)
        wanted.append(np.mean(shares))
    assert sweep(pairs, 4).miou == pytest.approx(wanted)


def test_best_and_first_peak_thresholds() -> None:
    rise = Sweep((0.1, 0.3, 0.2, *[0.4] * 57))
    assert (rise.first_peak, rise.best) == (0.01, 0.03)
    assert Sweep(tuple(i / 60 for i in range(1, 61))).first_peak == 0.59
    assert Sweep((0.1, 0.2, 0.2, *[0.4] * 57)).first_peak == 0.01  # an equal score stops it too
    assert Sweep((0.0, *[0.4] * 59)).first_peak == 0.0  # so does no score at all


def test_ground_truth_with_an_unknown_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"ground-truth label is 9\. Expected 0 to 3"):
        sweep([(some_maps(0, (0,)), np.full((13, 17), 9, np.uint8))], 3)
    with pytest.raises(InputError, match="needs at least one such image"):
        sweep([], 3)
