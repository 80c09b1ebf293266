"""Each kind of invalid mask has its own error message."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags
from PIL import Image as PILImage

from tagmask.data.pixels import codes, plain, read_labels, without_zero
from tagmask.errors import ImageError, ShapeError
from tests.data import layouts

VOC = plain(21)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A mask and its image."""
    image, mask = tmp_path / "a.jpg", tmp_path / "a.png"
    layouts.photo(image)
    layouts.mask(mask, layouts.rows(0, 1, 15, 20, 255))
    return mask, image


def test_palette_and_grey_masks_hold_the_same_indices(pair: tuple[Path, Path], tmp_path: Path) -> None:
    layouts.mask(tmp_path / "grey.png", layouts.rows(0, 1, 15, 20, 255), coloured=False)
    read = read_labels(*pair, VOC)
    np.testing.assert_array_equal(read, layouts.rows(0, 1, 15, 20, 255))
    np.testing.assert_array_equal(read, read_labels(tmp_path / "grey.png", pair[1], VOC))


def test_palette_converted_to_grey_is_recognised(pair: tuple[Path, Path]) -> None:
    mask, image = pair
    PILImage.open(mask).convert("L").save(mask)
    with pytest.raises(ImageError, match=r"a\.png has .*colours converted to grey: save the indices"):
        read_labels(mask, image, VOC)


def test_indices_out_of_range_are_named_and_counted(pair: tuple[Path, Path]) -> None:
    mask, image = pair
    layouts.mask(mask, layouts.rows(0, 21, 200))
    with pytest.raises(
        ImageError,
        match=r"has invalid values 21, 200 in 32 pixels\. Valid are 0 to 20, 255\. The mask",
    ):
        read_labels(mask, image, VOC)


def test_colours_instead_of_indices_are_refused(pair: tuple[Path, Path]) -> None:
    mask, image = pair
    PILImage.open(mask).convert("RGB").save(mask)
    with pytest.raises(ImageError, match=r"a\.png: got mode RGB .*a mask is a PNG with a palette"):
        read_labels(mask, image, VOC)


def test_other_size_is_refused_with_both_sizes(pair: tuple[Path, Path]) -> None:
    mask, image = pair
    layouts.photo(image, (8, 6))
    with pytest.raises(ShapeError, match=r"a\.png is 6 x 8 pixels .*, its image .*a\.jpg is 8 x 6"):
        read_labels(mask, image, VOC)


def test_size_is_compared_with_the_upright_image(pair: tuple[Path, Path]) -> None:
    mask, image = pair
    exif = PILImage.Exif()
    exif[ExifTags.Base.Orientation] = 6
    PILImage.new("RGB", (6, 8)).save(image, exif=exif)
    assert read_labels(mask, image, VOC).shape == (6, 8)


def test_missing_or_damaged_mask_is_refused_but_the_image_may_be_missing(pair: tuple[Path, Path]) -> None:
    mask, image = pair
    image.unlink()
    assert read_labels(mask, image, VOC).shape == layouts.SIZE
    mask.write_bytes(mask.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"a\.png is damaged or truncated"):
        read_labels(mask, image, VOC)
    mask.unlink()
    with pytest.raises(ImageError, match=r"There is no file .*a\.png"):
        read_labels(mask, image, VOC)


def test_codes_keep_255_by_default() -> None:
    assert plain(2)[:3] == (0, 1, -1)
    assert plain(2)[255] == 255
    assert without_zero(2)[:4] == (255, 0, 1, -1)
    assert codes({255: 0})[255] == 0
