"""Take the pictures of docs/review.md: the review page and the page of `tagmask serve`.

    python -m benchmarks.review_pictures [FOLDER] [--only review]    default: docs/images

The bundled model masks scenes that were chosen because their masks are good or nearly so; no figure comes
from them. Needs Playwright and Chromium: run it with the Python of build/app (`make build/app/installed`), on
a machine that does nothing else, because the page of `tagmask serve` says how long it took.
"""

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PILImage

from benchmarks.review_server import browser, mask_run, served, write_scenes
from tagmask.files import write_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["main", "with_palette"]

WORDS = ("apple", "boat", "car", "fish", "house", "mushroom", "tree", "umbrella")
SCENES = (
    *(9, 35, 44, 58, 68, 87, 100, 104, 134, 139, 149, 164, 186, 190, 192, 193, 197, 204, 207, 241),
    *(243, 252, 271, 301, 328, 329, 340, 343, 354),
)
"""Seeds of test scenes."""
SCALE = 2
"""The pages show photos larger than the test scenes are."""
CORRECTED, ON_PHONE = "scene 207", "scene 241"
ROOFS = ((0.817, 0.475), (0.939, 0.443), (0.97, 0.52), (0.715, 0.043), (0.63, 0.03))
"""Points of the corrected image, as shares of its width and height."""
REFINED = ("--refine", "pamr")
LAPTOP, PHONE = (1366, 768), (390, 844)
SLOW = 120_000
"""Milliseconds: the machine may be busy."""
_MOST_BYTES = 300_000
_OWN, _LEAST_AREA = 96, 60
"""Colours of a page that are kept exactly, and the pixels that one of them fills at least."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--only", choices=("review", "serve"))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made, browser() as chromium:
        photos = Path(made) / "photos"
        write_scenes(photos, SCENES, SCALE)
        if options.only != "serve":
            run = mask_run(photos, Path(made) / "holiday", WORDS, *REFINED)
            _review_pictures(chromium, run, options.folder)
        if options.only != "review":
            with served("serve", "--weights", "miniature", *REFINED) as (address, _):
                page = _open(chromium, address, LAPTOP)
                _write(options.folder / "serve.png", _served_photo(page, photos / f"{CORRECTED}.png"))


def _review_pictures(chromium: "Browser", run: Path, folder: Path) -> None:
    with served("review", str(run), "--no-browser") as (address, _):
        page = _open(chromium, address, LAPTOP)
        _write(folder / "review-image.png", _image(page, CORRECTED, ROOFS))
        _write(folder / "review-gallery.png", _gallery(page))
        page = _open(chromium, address, PHONE, "dark")
        _write(folder / "review-phone.png", _image(page, ON_PHONE))


def _open(
    chromium: "Browser", address: str, size: tuple[int, int], scheme: Literal["light", "dark"] = "light"
) -> "Page":
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.goto(address)
    return page


def _image(page: "Page", name: str, corrected: Sequence[tuple[float, float]] = ()) -> bytes:
    """One image, with its first class chosen.

    Args:
        page: shows all images.
        name: of the image.
        corrected: points, as shares of its width and height, whose superpixels get the chosen class.
    """
    page.get_by_label("Find a name").fill(name)
    page.locator(".tile").nth(1).wait_for(state="detached")
    page.locator(f".tile[aria-label*='{name}']").click()
    page.locator(".live select").wait_for()
    page.locator(".legend-row .class").nth(1).click()
    if corrected:
        with page.expect_response("**/api/superpixels**"):
            page.keyboard.press("s")
        page.wait_for_timeout(1000)
    box = page.locator(".stage").bounding_box()
    assert box is not None
    for x, y in corrected:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    if corrected:
        page.locator(".saved", has_text="Saved").wait_for()
    page.wait_for_timeout(1000)
    return page.screenshot()


def _gallery(page: "Page") -> bytes:
    """All images, the first ones checked."""
    page.keyboard.press("Escape")
    page.get_by_label("Find a name").fill("")
    page.locator(".tile").nth(5).wait_for()
    page.locator(".tile[data-index='0']").focus()
    for count, key in enumerate("raa", start=1):
        page.keyboard.press(key)
        page.locator(".mark.accepted, .mark.rejected").nth(count - 1).wait_for()
        page.locator(f".tile[data-index='{count}']:focus").wait_for()
    page.locator("#run-facts", has_text="3 reviewed").wait_for()
    loaded = "[...document.querySelectorAll('.shot')].every((shot) => shot.complete && shot.naturalWidth)"
    while not page.evaluate(loaded):
        page.wait_for_timeout(200)
    return page.screenshot()


def _served_photo(page: "Page", photo: Path) -> bytes:
    page.locator("#words").fill("; ".join(WORDS))
    page.locator("#file").set_input_files(photo)
    page.locator("#status", has_text="Done in").wait_for()
    page.locator("#words").press("Enter")  # again, when the words are encoded
    page.locator("#status", has_text="Done in").wait_for()
    page.locator("#words").blur()
    return page.screenshot()


def _write(file: Path, picture: bytes) -> None:
    """Write a picture as a PNG, with a palette if it is large."""
    with PILImage.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    small = _png(image)
    if len(small) > _MOST_BYTES:
        small = _png(with_palette(image))
    write_bytes(file, small)


def with_palette(image: PILImage.Image) -> PILImage.Image:
    """Choose 256 colours: the page's own, which fill whole areas, exactly; and some of the photos'."""
    colours, inverse = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_inverse=True)
    codes = inverse.reshape(image.height, image.width)
    inside = codes[:, 1:-1] == codes[:, :-2]
    inside &= codes[:, 1:-1] == codes[:, 2:]
    inside[1:] &= codes[1:, 1:-1] == codes[:-1, 1:-1]
    areas = np.bincount(codes[:, 1:-1][inside], minlength=len(colours))
    own = _far_apart(colours[np.argsort(-areas, kind="stable")[: int((areas >= _LEAST_AREA).sum())]])
    chosen = image.quantize(256 - len(own), kmeans=1).getpalette() or []
    palette = np.concatenate([own, np.reshape(chosen, (-1, 3))])[:256].astype(np.int32)
    nearest = [
        np.square(part[:, None].astype(np.int32) - palette).sum(axis=2).argmin(axis=1)
        for part in np.array_split(colours, 1 + len(colours) // 10_000)
    ]
    small = PILImage.fromarray(np.concatenate(nearest).astype(np.uint8)[codes], "P")
    small.putpalette(palette.astype(np.uint8).tobytes())
    return small


def _far_apart(colours: UInt8[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "m 3"]:
    """Choose colours: the first, then always the one farthest from all that are chosen."""
    chosen, nearest = [0], np.full(len(colours), np.inf)
    for _ in range(min(_OWN, len(colours)) - 1):
        distance = np.square(colours.astype(np.int32) - colours[chosen[-1]]).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        chosen.append(int(nearest.argmax()))
    return colours[chosen]


def _png(image: PILImage.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
