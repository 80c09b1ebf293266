"""ImageNet's augmentation: boxes, operations and erasing do what their definitions say."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from PIL import ImageEnhance

from tagmask.weak.config import AugmentSettings
from tagmask.weak.imagenet_augment import OPERATIONS, augmented_crop, random_box, randomly_augmented
from tagmask.weak.mctformer_settings import MctFormerSettings

PLAIN = MctFormerSettings(area=(1.0, 1.0), operations=0, erase=0.0)
RAW = AugmentSettings(crop=32, flip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
GREY = (124, 116, 104)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramp(h: int = 32, w: int = 32) -> np.ndarray:
    """Red rises with the column, green with the row."""
    image = np.zeros((h, w, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = np.arange(w) * 4, np.arange(h)[:, None] * 3, 50
    return image


def applied(name: str, level: float, sign: float, image: np.ndarray | None = None) -> np.ndarray:
    source = PIL.Image.fromarray(ramp() if image is None else image)
    return np.asarray(OPERATIONS[name](source, level, sign, GREY)).astype(int)


def test_boxes_keep_area_and_aspect() -> None:
    boxes = [random_box((300, 400), (0.08, 1.0), rng(seed)) for seed in range(300)]
    shares = [height * width / 120_000 for _, _, height, width in boxes]
    aspects = [width / height for *_, height, width in boxes]
    assert all(top + height <= 300 and left + width <= 400 for top, left, height, width in boxes)
    assert min(shares) < 0.15
    assert max(shares) > 0.8
    assert 0.74 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.35
    assert len({box[:2] for box in boxes}) > 250
    assert random_box((30, 400), (1.0, 1.0), rng()) == (0, 180, 30, 40)  # no box fits: the central one
    assert random_box((400, 30), (1.0, 1.0), rng()) == (180, 0, 40, 30)


def test_a_whole_crop_is_the_image_itself_flipped_or_not() -> None:
    image = ramp()
    crop = augmented_crop(image, RAW, PLAIN, rng())
    np.testing.assert_array_equal(crop, image.transpose(2, 0, 1))
    flipped = augmented_crop(image, replace(RAW, flip=1.0), PLAIN, rng())
    np.testing.assert_array_equal(flipped, image[:, ::-1].transpose(2, 0, 1))
    normal = augmented_crop(image, replace(RAW, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0)), PLAIN, rng())
    np.testing.assert_allclose(normal[1], (image[..., 1].astype(float) - 2) / 4, rtol=1e-6)


def test_crops_depend_on_the_generator_alone() -> None:
    image, settings = ramp(40, 60), MctFormerSettings()
    first, again, other = (augmented_crop(image, RAW, settings, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (3, 32, 32)
    assert np.abs(first - other).mean() > 1


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_strengths_of_the_operations(sign: float) -> None:
    image, half = ramp(), 0.5
    assert (applied("invert", half, sign) == 255 - image.astype(int)).all()
    assert (applied("posterise", half, sign) == image & 0b11000000).all()
    light = image * 2
    assert (applied("solarise", half, sign, light) == np.where(light >= 128, 255 - light, light)).all()
    bright = np.where(image < 128, image.astype(int) + 55, image)
    assert (applied("solarise-add", half, sign) == bright).all()
    enhanced = ImageEnhance.Brightness(PIL.Image.fromarray(image)).enhance(1 + sign * 0.45)
    assert (applied("brightness", half, sign) == np.asarray(enhanced)).all()
    moved = applied("translate-x", 0.5, sign)
    shift = int(sign * 0.225 * 32)  # 7.2 pixels: compared away from the border, red changes by 4 a pixel
    wanted = image[16, 16 + shift, 0] + sign * 0.2 * 4
    assert abs(moved[16, 16, 0] - wanted) <= 2
    assert (moved[16, 31 if sign > 0 else 0] == GREY).all()
    sheared = applied("shear-y", 1.0, sign)  # a row moves by 0.3 of the column; green changes by 3 a row
    assert abs(sheared[16, 10, 1] - (16 + sign * 0.3 * 10) * 3) <= 2
    turned = applied("rotate", 1.0, sign)
    assert abs(int(turned[16, 16, 0]) - int(image[16, 16, 0])) <= 3
    assert (turned[0, 0] == GREY).all()
    for name in ("colour", "contrast", "sharpness", "autocontrast", "equalise"):
        assert applied(name, 1.0, sign).shape == image.shape


def test_level_zero_changes_nothing_where_higher_is_stronger() -> None:
    for name in OPERATIONS:
        if name not in ("autocontrast", "equalise", "invert", "posterise"):
            assert (applied(name, 0.0, 1.0) == ramp()).all(), name
    assert len(OPERATIONS) == 15


def test_randaugment_applies_half_of_its_operations() -> None:
    image = PIL.Image.fromarray(rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    unchanged = sum(randomly_augmented(image, 2, GREY, rng(seed)) is image for seed in range(400))
    assert 60 < unchanged < 140  # a quarter
    assert randomly_augmented(image, 0, GREY, rng()) is image


def test_erasing_replaces_one_box_by_noise() -> None:
    flat = np.full((64, 64, 3), 200, np.uint8)
    settings, shares = replace(PLAIN, erase=1.0), []
    for seed in range(100):
        crop = augmented_crop(flat, replace(RAW, crop=64), settings, rng(seed))
        erased = (crop != 200).any(axis=0)
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns)
        assert np.abs(crop[:, erased]).max() < 6
        shares.append(erased.mean())
    assert 0.01 < min(shares) < 0.05
    assert 0.25 < max(shares) < 0.36
    kept = augmented_crop(flat, replace(RAW, crop=64), replace(PLAIN, erase=0.25), rng(3))
    assert torch.from_numpy(kept).shape == (3, 64, 64)
