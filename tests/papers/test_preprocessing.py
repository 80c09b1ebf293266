"""Image preprocessing: sizes, crops, and batches of equally sized images."""

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.papers.preprocessing import InputSettings, batches, to_pixels


def pixels_of(clip: Clip, image: np.ndarray, **settings: object) -> torch.Tensor:
    return to_pixels(clip, image, InputSettings(**settings))  # type: ignore[arg-type]


def restored(clip: Clip, pixels: torch.Tensor) -> np.ndarray:
    mean, std = (np.array(channels)[:, None, None] for channels in (clip.mean, clip.std))
    return np.rint((pixels.numpy() * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize(("h", "w"), [(250, 333), (320, 200), (224, 224), (225, 401), (40, 300)])
def test_centre_mode_crops_the_middle_of_the_resized_image(sclip_model: Clip, h: int, w: int) -> None:
    image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
    short, long = min(h, w), max(h, w)
    longer = int(224 * long / short)
    size = (longer, 224) if w > h else (224, longer)
    scaled = np.array(PILImage.fromarray(image).resize(size, PILImage.Resampling.BICUBIC))
    offset = round((longer - 224) / 2)
    rows, columns = (
        (slice(None), slice(offset, offset + 224)) if w > h else (slice(offset, offset + 224), slice(None))
    )
    actual = restored(sclip_model, pixels_of(sclip_model, image, input="centre"))
    np.testing.assert_array_equal(actual, scaled[rows, columns])


def test_square_mode_ignores_the_aspect_ratio(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    expected = np.array(PILImage.fromarray(shapes[1]).resize((224, 224), PILImage.Resampling.BICUBIC))
    actual = restored(sclip_model, pixels_of(sclip_model, shapes[1], input="square"))
    np.testing.assert_array_equal(actual, expected)


def test_native_mode_rounds_each_side_up_within_limits(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    assert pixels_of(sclip_model, shapes[0]).shape == (3, 256, 336)
    assert pixels_of(sclip_model, shapes[0], max_patches=100).numel() <= 3 * 100 * 256
    assert pixels_of(sclip_model, shapes[0][:20, :20], min_patches=100).numel() >= 3 * 90 * 256


def test_batches_hold_each_image_once_grouped_by_size(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    images = [shapes[i % 3] for i in range(20)]
    actual = list(batches(sclip_model, images, InputSettings()))
    assert sorted(index for indices, _ in actual for index in indices) == list(range(20))
    assert max(len(indices) for indices, _ in actual) == 7  # 7 images of one size fit in one batch
    for indices, pixels in actual:
        assert len({index % 3 for index in indices}) == 1
        for index, each in zip(indices, pixels, strict=True):
            torch.testing.assert_close(each, to_pixels(sclip_model, images[index], InputSettings()))
    many = list(batches(sclip_model, images, InputSettings(input="square")))
    assert [len(indices) for indices, _ in many] == [8, 8, 4]


def test_unknown_input_and_contradictory_limits_are_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown input 'whole'\. Give one of centre, square, native"):
        InputSettings(input="whole")
    with pytest.raises(InputError, match="min_patches 9 is greater than max_patches 4"):
        InputSettings(min_patches=9, max_patches=4)
