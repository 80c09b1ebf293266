"""How images are brought to the tower: sizes, crops, and batches of equal sizes."""

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
    mean, std = (np.array(three)[:, None, None] for three in (clip.mean, clip.std))
    return np.rint((pixels.numpy() * std + mean) * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize(("h", "w"), [(250, 333), (320, 200), (224, 224), (225, 401), (40, 300)])
def test_centre_is_the_middle_of_the_scaled_image(sclip_model: Clip, h: int, w: int) -> None:
    image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
    short, long = min(h, w), max(h, w)
    longer = int(224 * long / short)
    size = (longer, 224) if w > h else (224, longer)
    scaled = np.array(PILImage.fromarray(image).resize(size, PILImage.Resampling.BICUBIC))
    offset = round((longer - 224) / 2)
    rows, columns = (
        (slice(None), slice(offset, offset + 224)) if w > h else (slice(offset, offset + 224), slice(None))
    )
    found = restored(sclip_model, pixels_of(sclip_model, image, input="centre"))
    np.testing.assert_array_equal(found, scaled[rows, columns])


def test_square_squeezes(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    squeezed = np.array(PILImage.fromarray(shapes[1]).resize((224, 224), PILImage.Resampling.BICUBIC))
    found = restored(sclip_model, pixels_of(sclip_model, shapes[1], input="square"))
    np.testing.assert_array_equal(found, squeezed)


def test_native_rounds_each_side_up_within_limits(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    assert pixels_of(sclip_model, shapes[0]).shape == (3, 256, 336)
    assert pixels_of(sclip_model, shapes[0], max_patches=100).numel() <= 3 * 100 * 256
    assert pixels_of(sclip_model, shapes[0][:20, :20], min_patches=100).numel() >= 3 * 90 * 256


def test_batches_hold_each_image_once_and_equal_sizes_together(
    sclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    images = [shapes[i % 3] for i in range(20)]
    found = list(batches(sclip_model, images, InputSettings()))
    assert sorted(place for places, _ in found for place in places) == list(range(20))
    assert max(len(places) for places, _ in found) == 7  # of 7 alike, all fit in one batch
    for places, pixels in found:
        assert len({place % 3 for place in places}) == 1
        for place, each in zip(places, pixels, strict=True):
            torch.testing.assert_close(each, to_pixels(sclip_model, images[place], InputSettings()))
    many = list(batches(sclip_model, images, InputSettings(input="square")))
    assert [len(places) for places, _ in many] == [8, 8, 4]


def test_other_inputs_and_impossible_limits_are_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown input 'whole'. Give one of centre, square, native"):
        InputSettings(input="whole")
    with pytest.raises(InputError, match="leave no size"):
        InputSettings(min_patches=9, max_patches=4)
