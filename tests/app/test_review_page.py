"""The review page in a real browser: filter, redraw, paint, accept, reload, export; and keys alone.

Needs Playwright and Debian's Chromium; see `make app-test`.
"""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.masks import read_index_png
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.runs.reader import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.app

WORDS = ["cat", "fish", "boat", "tree, bush", "guitar", "apple"]
NAMES = ["background", "cat", "fish", "boat", "tree", "guitar", "apple"]
LAPTOP, PHONE, LARGE = (1366, 768), (390, 844), (2560, 1440)
SLOW = 60_000
"""Milliseconds: the machine may be busy."""


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight scenes and a broken file."""
    folder = tmp_path_factory.mktemp("review")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(8):
        PILImage.fromarray(unseen_scene(number).image).save(photos / f"scene {number}.png")
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    words = [part for word in WORDS for part in ("-w", word)]
    command = [
        sys.executable,
        "-m",
        "tagmask",
        "mask",
        "photos",
        *words,
        "--weights",
        "miniature",
        "-o",
        "run",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=600)
    assert done.returncode == 1, done.stderr.decode()  # one image failed
    return folder / "run"


@pytest.fixture(scope="module")
def address(masked: Path) -> Iterator[str]:
    """What the command prints."""
    command = [sys.executable, "-m", "tagmask", "review", str(masked), "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = ""
    while "http://" not in line:
        line = server.stdout.readline()
        assert line, "the server ended"
    match = re.search(r"http://\S+", line)
    assert match is not None
    yield match.group()
    server.send_signal(signal.SIGINT)
    assert server.wait(20) in (0, 130)
    server.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SLOW)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield chromium
        chromium.close()


Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: "Browser", address: str) -> Iterator[Open]:
    """Returns the page in a new browser session; nothing on it may fail."""
    faults: list[str] = []
    contexts = []

    def page(size: tuple[int, int] = LAPTOP, scheme: Any = "light", fragment: str = "") -> "Page":
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=size == PHONE
        )
        contexts.append(context)
        context.set_default_timeout(SLOW)
        opened = context.new_page()
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        # What is not needed any more is aborted: thumbnails out of sight, previews that were replaced.
        opened.on(
            "requestfailed", lambda got: None if "ABORTED" in str(got.failure) else faults.append(got.url)
        )
        opened.on(
            "response", lambda got: faults.append(f"{got.status} {got.url}") if got.status >= 400 else None
        )
        opened.goto(address + fragment)
        opened.locator(".tile .shot, .legend-row").first.wait_for()
        return opened

    yield page
    for context in contexts:
        context.close()
    assert faults == []


def reviews(run: Path) -> dict[str, str]:
    """What was decided about each image."""
    with Run(run) as reader:
        return {row.key: row.review for row in reader}


def open_image(page: "Page", name: str) -> None:
    page.locator("input[type=search]").fill(name)
    page.locator(".tabs small").first.wait_for()
    page.locator(f".tile[aria-label*='{name}']").click()
    page.locator(".legend-row").first.wait_for()


def saved(page: "Page") -> None:
    from playwright.sync_api import expect

    expect(page.locator(".saved")).to_have_text("Saved")


def stroke(page: "Page", begin: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw, in shares of the photo's width and height."""
    box = page.locator(".stage").bounding_box()
    assert box is not None
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (begin, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=5)
    page.mouse.up()


def test_filters_show_what_they_name(open_page: Open) -> None:
    from playwright.sync_api import expect

    page = open_page()
    expect(page.locator(".tile")).to_have_count(9)
    page.get_by_role("tab", name="Failed").click()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".tile")).to_contain_text("damaged")
    page.get_by_role("tab", name="All").click()
    page.get_by_label("Word").select_option("guitar")
    expect(page.locator(".tile").first).to_contain_text("guitar")
    page.get_by_label("Word").select_option("")
    page.get_by_label("Find a name").fill("scene 3")
    expect(page.locator(".tile")).to_have_count(1)
    page.get_by_label("Find a name").fill("no such name")
    expect(page.locator(".empty")).to_have_text("No image matches these filters.")


def test_a_stroke_is_saved_at_once_and_survives_a_reload(open_page: Open, masked: Path) -> None:
    from playwright.sync_api import expect

    page = open_page()
    open_image(page, "scene 2")
    before = read_index_png(masked / "masks" / "scene 2.png")
    page.locator(".class", has_text="guitar").click()
    stroke(page, (0.2, 0.5), (0.8, 0.5))
    saved(page)
    corrected = read_index_png(masked / "corrected" / "scene 2.png")
    height, width = corrected.shape
    middle = corrected[height // 2, int(0.2 * width) : int(0.8 * width)]
    assert (middle == NAMES.index("guitar")).all()
    far = np.abs(np.arange(height) - height // 2) > 20
    assert np.array_equal(corrected[far], before[far])
    assert np.array_equal(read_index_png(masked / "masks" / "scene 2.png"), before)  # the run's own stays
    page.reload()
    page.locator(".legend-row").first.wait_for()
    expect(page.get_by_role("button", name="Discard correction")).to_be_visible()
    page.keyboard.press("b")
    stroke(page, (0.5, 0.1), (0.5, 0.2))
    saved(page)
    changed = read_index_png(masked / "corrected" / "scene 2.png")
    assert not np.array_equal(changed, corrected)
    page.keyboard.press("Control+z")
    expect(page.get_by_role("button", name="Redo")).to_be_enabled()
    saved(page)
    page.wait_for_timeout(300)
    saved(page)
    assert np.array_equal(read_index_png(masked / "corrected" / "scene 2.png"), corrected)
    page.get_by_role("button", name="Discard correction").click()
    expect(page.get_by_role("button", name="Discard correction")).to_be_hidden()
    assert not (masked / "corrected" / "scene 2.png").exists()


def test_fill_replaces_one_region_and_replace_all(open_page: Open, masked: Path) -> None:
    page = open_page()
    open_image(page, "scene 4")
    before = read_index_png(masked / "masks" / "scene 4.png")
    page.keyboard.press("x")  # replace: everything with the label under the pointer
    page.locator(".class", has_text="apple").click()
    page.keyboard.press("x")
    height, width = before.shape
    stroke(page, (0.51, 0.51), (0.51, 0.51))
    saved(page)
    old = before[int(0.51 * height), int(0.51 * width)]
    corrected = read_index_png(masked / "corrected" / "scene 4.png")
    assert np.array_equal(corrected, np.where(before == old, NAMES.index("apple"), before))


def test_a_superpixel_is_filled_when_the_superpixels_are_there(open_page: Open, masked: Path) -> None:
    """A click before they have arrived changes nothing: it would fill a whole region of the mask."""
    from playwright.sync_api import expect

    page = open_page()
    open_image(page, "scene 7")
    before = read_index_png(masked / "masks" / "scene 7.png")
    held: list[Any] = []
    page.route("**/api/superpixels**", lambda route: held.append(route))
    page.locator(".class", has_text="apple").click()
    page.keyboard.press("s")
    page.locator("#image[aria-busy=true]").wait_for()
    stroke(page, (0.1, 0.1), (0.1, 0.1))
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    held[0].continue_()
    page.locator("#image[aria-busy=false]").wait_for()
    stroke(page, (0.1, 0.1), (0.1, 0.1))
    saved(page)
    corrected = read_index_png(masked / "corrected" / "scene 7.png")
    filled = (corrected != before).sum()
    assert 0 < filled < before.size / 100
    assert (corrected[corrected != before] == NAMES.index("apple")).all()


def test_words_are_redrawn_live_and_not_saved(open_page: Open, masked: Path) -> None:
    from playwright.sync_api import expect

    page = open_page()
    open_image(page, "scene 5")
    hint = page.locator(".live .hint")
    page.keyboard.press("w")
    page.keyboard.type("star")
    page.keyboard.press("Enter")
    expect(hint).to_contain_text("Preview, drawn in")
    expect(page.locator(".legend")).to_contain_text("star")
    expect(page.get_by_role("button", name="Brush")).to_be_disabled()
    page.get_by_label("Remove tree, bush").click()
    expect(page.locator(".legend")).not_to_contain_text("tree")
    background = page.locator(".class", has_text="background").locator(".share")
    before = background.inner_text()
    page.get_by_label("Threshold").fill("0.9")
    expect(background).not_to_have_text(before)
    assert int(background.inner_text().split()[0]) > int(before.split()[0])
    page.get_by_role("button", name="Back to the run's mask").click()
    expect(page.locator(".legend")).not_to_contain_text("star")
    expect(page.get_by_role("button", name="Brush")).to_be_enabled()
    assert not (masked / "corrected" / "scene 5.png").exists()


def test_keys_alone_review_a_run(open_page: Open, masked: Path) -> None:
    from playwright.sync_api import expect

    page = open_page()
    page.keyboard.press("Enter")
    name = page.locator("h1.name")
    page.locator(".legend-row").first.wait_for()
    first = name.inner_text()
    page.keyboard.press("a")
    expect(name).not_to_have_text(first)
    second = name.inner_text()
    page.keyboard.press("r")
    expect(name).not_to_have_text(second)
    page.keyboard.press("ArrowLeft")
    expect(name).to_have_text(second)
    expect(page.get_by_role("button", name="Reject")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator(".tile:focus")).to_contain_text(second)
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_contain_text("Undo, redo")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    stored = reviews(masked)
    assert (stored[first], stored[second]) == ("accepted", "rejected")
    page.get_by_role("tab", name="Rejected").click()
    expect(page.locator(".tile")).to_have_count(1)


def test_no_image_that_is_to_be_checked_is_passed_over(open_page: Open, masked: Path) -> None:
    """Neither after one that leaves the list when accepted, nor after one that left it when corrected."""
    from playwright.sync_api import expect

    with Run(masked) as run:
        rows = [row for row in run if row.status == "done" and row.review == "unseen"]
    rows.sort(key=lambda row: (row.confidence or 0.0, row.key))
    assert len(rows) >= 4
    page = open_page()
    page.get_by_role("tab", name="To check").click()
    expect(page.locator(".tile")).to_have_count(len(rows))
    page.locator(".tile[data-index='0'] .caption").wait_for()
    page.locator(".tile[data-index='0']").focus()
    page.keyboard.press("Enter")
    name = page.locator("h1.name")
    for row, corrected in zip(rows[:3], (False, True, False), strict=True):
        expect(name).to_have_text(row.key)
        page.locator("#image[aria-busy=false]").wait_for()
        if corrected:
            page.keyboard.press("b")
            stroke(page, (0.4, 0.4), (0.6, 0.6))
            saved(page)
        page.keyboard.press("a")
    expect(name).to_have_text(rows[3].key)


def test_export_and_improve_run_from_the_page(open_page: Open, masked: Path) -> None:
    from playwright.sync_api import expect

    page = open_page()
    open_image(page, "scene 6")
    page.keyboard.press("b")
    stroke(page, (0.3, 0.3), (0.6, 0.6))
    saved(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Export").click()
    dialog = page.locator("dialog")
    dialog.get_by_label("coco", exact=True).check()
    dialog.get_by_role("button", name="Export").click()
    job = page.locator("#job")
    expect(job).to_contain_text("Done.", timeout=3 * SLOW)
    (written,) = Path(job.locator("code").inner_text()).glob("*.json")
    assert len(json.loads(written.read_text())["images"]) == 8
    page.get_by_role("button", name="Improve").click()
    dialog.get_by_role("button", name="Improve").click()
    expect(job).to_contain_text("Improving")
    expect(job).to_contain_text("Done.", timeout=3 * SLOW)
    improved = Path(job.locator("code").inner_text())
    assert len(list((improved / "masks").iterdir())) == 8


@pytest.mark.parametrize("size", [PHONE, LAPTOP, LARGE], ids=["phone", "laptop", "large"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off(open_page: Open, size: tuple[int, int], scheme: str) -> None:
    page = open_page(size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    open_image(page, "scene 1")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for name in ("Accept", "Reject", "Next image", "Back to all images"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
        assert box["height"] >= 32
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in re.findall(r"\d+", paper)[:3]) / 3
    assert (light > 128) == (scheme == "light")
