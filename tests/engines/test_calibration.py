"""The windows on which int8 is calibrated."""

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.dense.sliding import preprocess_cv2
from tagmask.engines.calibration import calibration_windows
from tagmask.errors import InputError


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_windows_are_crops_of_the_scaled_photos(sclip_model: Clip) -> None:
    side = sclip_model.vision.patch * sclip_model.vision.grid
    image = photo(300, 450)
    windows = calibration_windows(sclip_model, [image])
    scaled = preprocess_cv2(sclip_model, image, side * 3 // 2)
    assert windows.shape == (8, 3, side, side)  # all that one photo has
    assert torch.equal(windows[0], scaled[:, :side, :side])
    assert torch.equal(windows[-1], scaled[:, -side:, -side:])


@pytest.mark.parametrize(("count", "expected"), [(16, 64), (32, 64), (64, 64), (200, 64)])
def test_there_are_as_many_from_any_number_of_photos(sclip_model: Clip, count: int, expected: int) -> None:
    images = [photo(30, 40, seed) for seed in range(count)]
    windows = calibration_windows(sclip_model, images)
    assert len(windows) == expected
    if count == 200:  # evenly spaced
        side = sclip_model.vision.patch * sclip_model.vision.grid
        first = [preprocess_cv2(sclip_model, images[i], side * 3 // 2)[:, :side, :side] for i in (0, 3, 196)]
        for found, wanted in zip(windows[[0, 1, 63]], first, strict=True):
            assert torch.equal(found, wanted)


def test_narrow_strips_are_left_out(sclip_model: Clip) -> None:
    strip = photo(20, 2000)
    assert len(calibration_windows(sclip_model, [strip, photo(30, 40)])) == 6
    with pytest.raises(InputError, match=r"all narrow strips\. Give ordinary photos"):
        calibration_windows(sclip_model, [strip])
