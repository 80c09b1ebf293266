"""Crops for training, against plain loops and the standard library's colours."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest

from tagmask.weak.augment import augmented
from tagmask.weak.colours import distorted, from_hsv, jittered, to_hsv
from tagmask.weak.config import AugmentSettings
from tagmask.weak.labels import resized_nearest

PLAIN = AugmentSettings(
    crop=16,
    base_short=0,
    ratio=(1.0, 1.0),
    crop_most=1.0,
    flip=0.0,
    distort=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def make_image(h: int = 20, w: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image whose pixels encode their position, and labels that encode it too."""
    image = np.zeros((h, w, 3), np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:h, :w]
    labels = (image[..., 0] // 4 * 8 + image[..., 1] // 4).astype(np.uint8)
    return image, labels


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_hsv_matches_colorsys() -> None:
    image = rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    hsv = to_hsv(image)
    back = from_hsv(hsv)
    for y in range(9):
        for x in range(11):
            h, s, v = colorsys.rgb_to_hsv(*(image[y, x] / 255))
            turn = abs(int(hsv[y, x, 0]) - 180 * h)
            assert min(turn, 180 - turn) <= 0.51
            assert abs(int(hsv[y, x, 1]) - 255 * s) <= 0.51
            assert hsv[y, x, 2] == round(255 * v)
            r, g, b = colorsys.hsv_to_rgb(hsv[y, x, 0] / 180, hsv[y, x, 1] / 255, hsv[y, x, 2] / 255)
            assert np.abs(back[y, x] - 255 * np.array([r, g, b])).max() <= 0.51


@pytest.mark.parametrize("order", ["weakclip", "student"])
def test_pixels_and_labels_stay_together(order: str) -> None:
    image, labels = make_image()
    settings = replace(PLAIN, order=order, flip=0.5)
    crops = set()
    for seed in range(40):
        crop = augmented(image, labels, settings, rng(seed))
        assert crop.pixels.shape == (3, 16, 16)
        rows, columns = crop.pixels[0].astype(int), crop.pixels[1].astype(int)
        assert np.array_equal(crop.labels, rows // 4 * 8 + columns // 4)
        crops.add((rows.min(), columns.min(), bool(columns[0, 0] > columns[0, 1])))
    assert {top for top, _, _ in crops} == set(range(5))
    assert {mirrored for _, _, mirrored in crops} == {False, True}


@pytest.mark.parametrize("order", ["weakclip", "student"])
def test_small_images_are_padded_after_normalising(order: str) -> None:
    image, labels = make_image(10, 12)
    settings = replace(PLAIN, order=order, mean=(50.0, 50.0, 50.0), std=(2.0, 2.0, 2.0))
    crop = augmented(image, labels, settings, rng())
    outside = crop.labels == 255
    assert outside.sum() == 16 * 16 - 10 * 12
    assert (crop.pixels[:, outside] == 0).all()
    assert (crop.pixels[2, ~outside] == -25).all()
    if order == "weakclip":
        assert not outside[:10, :12].any()


def test_a_crop_of_one_class_is_drawn_again() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 40:] = 1
    image = np.zeros((64, 64, 3), np.uint8)
    settings = replace(PLAIN, crop_most=0.75)
    mixed = [len(np.unique(augmented(image, labels, settings, rng(s)).labels)) > 1 for s in range(60)]
    unrestricted = [len(np.unique(augmented(image, labels, PLAIN, rng(s)).labels)) > 1 for s in range(60)]
    assert sum(mixed) > 44  # ten draws, each good about one time in five
    assert 10 < sum(unrestricted) < 30
    alone = augmented(image, np.full((64, 64), 3, np.uint8), settings, rng())  # gives up after ten draws
    assert (alone.labels == 3).all()


def test_ignored_pixels_do_not_count_in_class_shares() -> None:
    labels = np.full((16, 16), 255, np.uint8)
    labels[0, :2], labels[0, 2:5] = 1, 2
    padded = np.pad(labels, ((0, 16), (0, 0)), constant_values=1)
    image = np.zeros((32, 16, 3), np.uint8)
    tops = [
        augmented(image, padded, replace(PLAIN, crop_most=0.75), rng(s)).labels[0, 2] == 2 for s in range(20)
    ]
    assert sum(tops) > 8  # the top crop alone is good: 3 of 5 known pixels are of one class


@pytest.mark.parametrize(("interpolation", "order"), [("linear", "weakclip"), ("cubic", "student")])
def test_resizing_keeps_positions(interpolation: str, order: str) -> None:
    image, labels = make_image(40, 48)
    image = image * 4
    settings = replace(PLAIN, order=order, interpolation=interpolation, ratio=(2.0, 2.0), crop=96)
    crop = augmented(image, labels, settings, rng())
    inside = np.argwhere(crop.labels != 255)
    top, left = inside.min(axis=0)
    window = crop.pixels[:, top : top + 80, left : left + 96]
    middle = (np.arange(80) + 0.5) / 2 - 0.5
    assert np.abs(window[0, 4:-4, 10] - 4 * middle[4:-4]).max() <= 1
    assert np.array_equal(crop.labels[top : top + 80, left : left + 96], labels.repeat(2, 0).repeat(2, 1))


def test_base_short_sets_the_short_side() -> None:
    image, labels = make_image(30, 60)
    settings = replace(PLAIN, base_short=10, base_long=40, crop=64)
    assert (augmented(image, labels, settings, rng()).labels != 255).sum() == 10 * 20
    settings = replace(settings, ratio=(2.0, 2.0))
    assert (augmented(image, labels, settings, rng()).labels != 255).sum() == 20 * 40


@pytest.mark.parametrize(("old", "new"), [(7, 3), (3, 7), (10, 64), (512, 64), (5, 5)])
def test_nearest_takes_the_floor(old: int, new: int) -> None:
    labels = np.arange(old, dtype=np.uint16).astype(np.uint8)[None].repeat(2, 0)
    wanted = [labels[0, min(i * old // new, old - 1)] for i in range(new)]
    assert resized_nearest(labels, (1, new))[0].tolist() == wanted


def test_the_same_generator_gives_the_same_crop() -> None:
    image = rng(5).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    _, labels = make_image(60, 50)
    settings = AugmentSettings(crop=32, base_short=40, base_long=80)
    first, again, other = (
        augmented(image, labels, settings, np.random.default_rng((1, 2, i))) for i in (3, 3, 4)
    )
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_colour_changes_stay_within_their_limits() -> None:
    image = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    base = to_hsv(image)[0, 0].astype(int)
    moved = np.array([to_hsv(jittered(image, 10, rng(s)))[0, 0] for s in range(200)]).astype(int) - base
    assert np.abs(moved).max(axis=0).tolist() == pytest.approx([10, 10, 10], abs=1)
    assert moved.min() < -8
    many = [distorted(image, rng(s)) for s in range(300)]
    same = sum(np.array_equal(each, image) for each in many)
    assert 5 < same < 60  # four even chances: about one in sixteen is left alone
