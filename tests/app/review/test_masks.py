"""Corrections: what the page may send, and what then lies in the run."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask import Run
from tagmask.app import mask_images
from tagmask.app.mask_images import mask_png, read_mask_png
from tagmask.errors import InputError
from tagmask.masks import index_png, read_index_png
from tagmask.runs.classes import Classes
from tagmask.runs.database import RunDatabase
from tests.app.review.browser import ADDRESS, Browser, decoded, encoded, png
from tests.app.review.conftest import Open

KEY = "photos/a.png"
SIZE = (80, 60)


def drawn() -> np.ndarray:
    """Half a car, half no class."""
    labels = np.full(SIZE, 2, np.uint32)
    labels[:40] = 0xFFFFFF
    return labels


def test_a_correction_goes_before_the_machines_mask(page: Browser, run: Path) -> None:
    machine = page.mask(KEY)
    answer = page.send("PUT", "/api/mask", encoded(drawn()), key=KEY).json()
    assert (answer["corrected"], answer["review"], answer["words"]) == (True, None, ["car"])
    assert answer["classes"] == [{"label": 2, "word": "car", "share": 0.5, "confidence": None}]
    assert np.array_equal(page.mask(KEY), drawn())
    assert np.array_equal(page.mask(KEY, which="machine"), machine)
    with Run(run) as reader:
        row = reader[KEY]
        assert row.review == "corrected"
        written = (run / "corrected" / f"{row.name}.png").read_bytes()
        # As `tagmask import` writes them.
        labels = np.full(SIZE, 2, np.uint8)
        labels[:40] = 255
        assert written == index_png(labels)
    assert page.keys(review="corrected") == [KEY] == page.keys(word="car", review="corrected")
    assert page.keys(word="fish", review="corrected") == []


def test_a_correction_is_taken_back(page: Browser, run: Path) -> None:
    before, machine = page.json("/api/image", key=KEY), page.mask(KEY)
    page.send("PUT", "/api/mask", encoded(drawn()), key=KEY)
    after = page.send("DELETE", "/api/mask", key=KEY).json()
    assert after == before
    assert np.array_equal(page.mask(KEY), machine)
    assert page.get("/api/mask", key=KEY, which="corrected").status_code == 404
    assert not list((run / "corrected").rglob("*.png"))
    assert page.keys(review="corrected") == []


def test_reviews(page: Browser, run: Path) -> None:
    for review in ("accepted", "rejected", None):
        assert page.send("POST", "/api/review", {"key": KEY, "review": review}).json()["review"] == review
        counts = page.json("/api/run")["counts"]
        assert (counts["accepted"], counts["rejected"]) == (review == "accepted", review == "rejected")
    page.send("PUT", "/api/mask", encoded(drawn()), key=KEY)
    answer = page.send("POST", "/api/review", {"key": KEY, "review": "accepted"}).json()
    assert (answer["review"], answer["corrected"]) == ("accepted", True)
    assert page.send("POST", "/api/review", {"key": KEY, "review": None}).json()["corrected"] is True
    with Run(run) as reader:
        assert reader[KEY].review == "corrected"
    for body in ({"key": KEY, "review": "perhaps"}, {"key": KEY}, {"key": 3, "review": None}, [], "x"):
        answer = page.send("POST", "/api/review", body)
        assert answer.status_code == 422
        assert isinstance(answer.json()["detail"], str)


def test_an_image_without_a_mask_has_no_review(page: Browser) -> None:
    key = "photos/damaged.png"
    assert page.send("POST", "/api/review", {"key": key, "review": "accepted"}).status_code == 409
    assert page.send("PUT", "/api/mask", encoded(drawn()), key=key).status_code == 409
    assert page.get("/api/mask", key=key).status_code == 404
    assert page.json("/api/image", key=key)["error"]


def with_chunk(name: bytes, content: bytes) -> bytes:
    """A mask with one more chunk after its header."""
    mask = encoded(drawn())
    chunk = struct.pack(">I", len(content)) + name + content
    return mask[:33] + chunk + struct.pack(">I", zlib.crc32(name + content)) + mask[33:]


def palette_image() -> PILImage.Image:
    image = PILImage.new("P", (60, 80))
    image.putpalette(bytes(range(256)) * 3)
    return image


WRONG: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no PNG": lambda: b"GIF89a" + bytes(100),
    "another size": lambda: encoded(np.zeros((60, 80))),
    "truncated": lambda: encoded(np.random.default_rng(0).integers(0, 3, SIZE))[:300],
    "unknown label": lambda: encoded(np.full(SIZE, 4)),
    "label in green": lambda: encoded(np.full(SIZE, 256)),
    "label in blue": lambda: encoded(np.full(SIZE, 65536)),
    "palette": lambda: png(palette_image()),
    "grey": lambda: png(PILImage.new("L", (60, 80))),
    "transparent": lambda: png(PILImage.new("RGBA", (60, 80), (1, 0, 0, 254))),
    "JPEG": lambda: _jpeg(),
}


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    PILImage.new("RGB", (60, 80)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_mask_of_the_image_is_refused(page: Browser, run: Path, what: str) -> None:
    answer = page.send("PUT", "/api/mask", WRONG[what](), key=KEY)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The mask ")
    assert not (run / "corrected").exists()
    assert page.json("/api/image", key=KEY)["corrected"] is False


def test_a_canvas_gives_opaque_pixels(page: Browser) -> None:
    assert page.send("PUT", "/api/mask", encoded(drawn(), "RGBA"), key=KEY).status_code == 200
    assert np.array_equal(page.mask(KEY), drawn())


def test_bombs_are_not_decoded(page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of other size than the photo's is refused by its header; more bytes than it can have too."""
    calls: list[int] = []
    monkeypatch.setattr(mask_images, "decode", lambda data, **_: calls.append(len(data)))
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(4)
    assert page.send("PUT", "/api/mask", bomb, key=KEY).status_code == 400
    assert page.send("PUT", "/api/mask", with_chunk(b"tEXt", bytes(200_000)), key=KEY).status_code == 413
    endless = (b"x" * 10_000 for _ in range(100))
    answer = page.client.put("/api/mask", params={"key": KEY}, content=endless, headers={"Origin": ADDRESS})
    assert answer.status_code == 413
    assert calls == []


def test_compressed_texts_are_not_inflated(page: Browser) -> None:
    content = b"a\0\0" + zlib.compress(bytes(30_000_000), 9)
    assert page.send("PUT", "/api/mask", with_chunk(b"zTXt", content), key=KEY).status_code == 200


def test_three_hundred_classes() -> None:
    classes = Classes(tuple(f"w{i}" for i in range(300)), 65535)
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    labels[0, 0] = 65535
    assert np.array_equal(read_mask_png(mask_png(labels, 65535), (15, 20), classes), labels)
    with pytest.raises(InputError, match="label 300; there are 300 classes"):
        read_mask_png(encoded(np.full((15, 20), 300)), (15, 20), classes)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_kill_between_the_file_and_its_mark(
    run: Path, open_page: Open, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(run)
    if method == "DELETE":
        page.send("PUT", "/api/mask", encoded(drawn()), key=KEY)

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunDatabase, "set_review", die)
        body = encoded(drawn()) if method == "PUT" else None
        with pytest.raises(RuntimeError, match="killed"):
            page.send(method, "/api/mask", body, key=KEY)
    with Run(run) as reader:  # half done
        assert (reader[KEY].review == "corrected") == (method == "DELETE")
    again = open_page(run)
    image = again.json("/api/image", key=KEY)
    assert image["corrected"] is (method == "PUT")
    with Run(run) as reader:
        assert reader[KEY].review == ("corrected" if method == "PUT" else "unseen")
        assert np.array_equal(reader.mask(reader[KEY]) == 2, (again.mask(KEY) == 2))


def test_a_folder_that_may_only_be_read(run: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.app.reviewed_run.os.access", lambda *_: False)
    before = (run / "run.db").read_bytes()
    page = open_page(run)
    assert page.json("/api/run")["read_only"] is True
    assert page.send("POST", "/api/review", {"key": KEY, "review": "accepted"}).status_code == 403
    assert page.send("PUT", "/api/mask", encoded(drawn()), key=KEY).status_code == 403
    assert (run / "run.db").read_bytes() == before
    assert not (run / "corrected").exists()


def test_a_link_out_of_the_run_is_not_followed(page: Browser, run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(index_png(np.zeros(SIZE, np.uint8)))
    (run / "corrected").mkdir()
    (run / "corrected" / "a.png").symlink_to(outside)
    before = outside.read_bytes()
    assert page.get("/api/mask", key=KEY, which="corrected").status_code == 404
    assert page.send("PUT", "/api/mask", encoded(drawn()), key=KEY).status_code == 400
    assert outside.read_bytes() == before
    mask = run / "masks" / "a.png"
    mask.unlink()
    mask.symlink_to(outside)
    assert page.get("/api/mask", key=KEY, which="machine").status_code == 404


def test_the_mask_is_the_runs(page: Browser, run: Path) -> None:
    for key in page.keys(status="done"):
        answer = page.get("/api/mask", key=key)
        with Run(run) as reader:
            labels = read_index_png(reader.mask_path(reader[key]))
        assert np.array_equal(decoded(answer), labels)
