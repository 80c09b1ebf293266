"""Images and seeds: paired by name, checked, cropped deterministically."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.errors import ImageError, InputError, ShapeError
from tagmask.masks import index_png
from tagmask.weak.config import AugmentSettings
from tagmask.weak.samples import SeedSamples, batches, check_seeds, find_pairs

SMALL = AugmentSettings(crop=16, base_short=20, base_long=80)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images in images/, seeds in seeds/."""
    for seed, name in enumerate(("a", "b", "sub/c")):
        rng = np.random.default_rng(seed)
        image = tmp_path / "images" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(image)
        mask = tmp_path / "seeds" / f"{name}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(index_png(rng.integers(0, 3, (24, 30)).astype(np.uint8)))
    return tmp_path


def samples(data: Path) -> SeedSamples:
    return SeedSamples(find_pairs(data / "images", data / "seeds"), 3, SMALL, 0)


def test_pairs_are_found_by_name(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "seeds")
    assert [pair.name for pair in pairs] == ["a", "b", "sub/c"]
    assert pairs[2].seed == data / "seeds" / "sub" / "c.png"
    check_seeds(pairs, 3)


def test_lists_select_images_and_may_repeat_them(data: Path) -> None:
    one, two = data / "train.txt", data / "more.txt"
    one.write_text("b\n\na 1 -1\n")
    two.write_text("b\nsub/c\n")
    pairs = find_pairs(data / "images", data / "seeds", [one, two])
    assert [pair.name for pair in pairs] == ["b", "a", "b", "sub/c"]
    two.write_text("sub/d\n")
    with pytest.raises(InputError, match=r"name sub/d, but there is no such image .* Did you mean sub/c\?"):
        find_pairs(data / "images", data / "seeds", [two])
    two.write_text("")
    with pytest.raises(InputError, match="is empty"):
        find_pairs(data / "images", data / "seeds", [two])


def test_all_invalid_seeds_are_found_before_training(data: Path) -> None:
    (data / "seeds" / "a.png").unlink()
    (data / "seeds" / "b.png").write_bytes(b"\x89PNG\r\n")
    (data / "seeds" / "sub" / "c.png").write_bytes(index_png(np.full((24, 30), 7, np.uint8)))
    message = (
        r"3 of 3 seeds cannot be used: There is no mask .*a\.png.*b\.png cannot be read.*c\.png has label 7"
    )
    with pytest.raises(InputError, match=message):
        check_seeds(find_pairs(data / "images", data / "seeds"), 3)


def test_a_crop_depends_only_on_seed_epoch_and_image(data: Path) -> None:
    one, other = samples(data), samples(data)
    other.sample(0, 2)
    first, again, later = one.sample(4, 1), other.sample(4, 1), one.sample(5, 1)
    assert np.array_equal(first.crop.pixels, again.crop.pixels)
    assert not np.array_equal(first.crop.pixels, later.crop.pixels)
    assert first.name == "b"


def test_views_repeat(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "seeds")
    few = SeedSamples(pairs, 3, replace(SMALL, views=3), 0)
    first, second, again = (few.sample(epoch, 0).crop.pixels for epoch in (0, 1, 3))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_workers_change_nothing(data: Path) -> None:
    positions = [range(start, start + 4) for start in range(0, 12, 4)]
    here = list(batches(samples(data), 1, positions))
    there = list(batches(samples(data), 1, positions, workers=2))
    assert [batch.names for batch in here] == [batch.names for batch in there]
    assert all(
        h.pixels.equal(t.pixels) and h.labels.equal(t.labels) for h, t in zip(here, there, strict=True)
    )
    assert here[0].pixels.shape == (4, 3, 16, 16)


def test_errors_name_the_image(data: Path) -> None:
    (data / "seeds" / "a.png").write_bytes(index_png(np.zeros((30, 24), np.uint8)))
    with pytest.raises(
        ShapeError, match=r"seed .*a\.png is \(30, 24\), but its image .*a\.png is \(24, 30\)"
    ):
        samples(data).sample(0, 0)
    (data / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"b\.png"):
        samples(data).sample(0, 1)
    with pytest.raises(InputError, match="no images to train on"):
        SeedSamples((), 3, SMALL, 0)
