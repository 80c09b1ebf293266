"""Photos for the browser: upright, only of the run's rows, and what is said where they are gone."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.images import read_image
from tests.app.review.browser import Browser, decoded

TURNED = "photos/sub/c.jpg"


def opened(data: bytes) -> np.ndarray:
    return np.asarray(PILImage.open(io.BytesIO(data)).convert("RGB"))


def test_a_photo_that_browsers_show_is_sent_as_it_is(page: Browser, run: Path) -> None:
    answer = page.get("/api/photo", key="photos/a.png")
    assert answer.content == (run.parent / "photos" / "a.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"


@pytest.mark.parametrize(("key", "size"), [(TURNED, (60, 80)), ("photos/b é.tif", (80, 60))])
def test_others_are_encoded_again(page: Browser, run: Path, key: str, size: tuple[int, int]) -> None:
    """A turned photo upright, and what browsers do not know; at full size."""
    answer = page.get("/api/photo", key=key)
    assert answer.headers["content-type"] == "image/jpeg"
    pixels = opened(answer.content)
    assert pixels.shape[:2] == size
    truth = read_image(run.parent / key)
    assert np.abs(pixels.astype(int) - truth).mean() < 4
    image = page.json("/api/image", key=key)
    assert (image["height"], image["width"]) == size == page.mask(key).shape


def test_moving_pictures_stand_still(page: Browser, run: Path) -> None:
    file = run.parent / "photos" / "a.png"
    frames = [PILImage.fromarray(read_image(file)), PILImage.new("RGB", (60, 80))]
    frames[0].save(file, save_all=True, append_images=frames[1:])
    assert page.get("/api/photo", key="photos/a.png").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("route", ["photo", "thumbnail", "superpixels", "doubt"])
def test_a_photo_that_is_gone(page: Browser, run: Path, route: str) -> None:
    (run.parent / "photos" / "a.png").unlink()
    answer = page.get(f"/api/{route}", key="photos/a.png")
    assert answer.status_code == 410
    assert answer.json()["detail"] == "The photo is no longer where the run found it."
    assert page.json("/api/image", key="photos/a.png")["status"] == "done"
    assert page.get("/api/mask", key="photos/a.png").status_code == 200


@pytest.mark.parametrize("route", ["photo", "thumbnail", "superpixels", "doubt"])
def test_a_photo_that_was_exchanged(page: Browser, run: Path, route: str) -> None:
    file = run.parent / "photos" / "a.png"
    PILImage.new("RGB", (61, 80)).save(file)
    answer = page.get(f"/api/{route}", key="photos/a.png")
    assert answer.status_code == 410
    assert "another size" in answer.json()["detail"]
    file.write_bytes(b"root:x:0:0")  # any other file
    answer = page.get(f"/api/{route}", key="photos/a.png")
    assert answer.status_code == 422
    assert "root" not in answer.text


def test_thumbnails(page: Browser) -> None:
    key = "photos/a.png"
    version = page.json("/api/image", key=key)["version"]
    answer = page.get("/api/thumbnail", key=key, size=40, v=version)
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert opened(answer.content).shape == (40, 30, 3)
    before = opened(page.get("/api/thumbnail", key=key, size=80).content)
    changed = np.zeros((80, 60), np.uint32)
    changed[:, :30] = 3
    from tests.app.review.browser import encoded

    page.send("PUT", "/api/mask", encoded(changed), key=key)
    after = page.get("/api/thumbnail", key=key, size=80)
    assert page.json("/api/image", key=key)["version"] != version
    assert not np.array_equal(opened(after.content), before)
    assert page.get("/api/thumbnail", key="photos/damaged.png", size=80).status_code == 422


@pytest.mark.parametrize("size", [0, 15, 5000, "x"])
def test_sizes_of_thumbnails(page: Browser, size: object) -> None:
    assert page.get("/api/thumbnail", key="photos/a.png", size=size).status_code == 422


def test_superpixels(page: Browser) -> None:
    regions = decoded(page.get("/api/superpixels", key=TURNED))
    assert regions.shape == (60, 80)
    assert 100 < len(np.unique(regions)) < 1200
