"""How many keys and clicks a person needs to check masks, before and after `tagmask improve`.

A script plays the person in the real page, with Chromium. Run by `python -m benchmarks.review --only person`.
"""

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

import tagmask
from benchmarks.review_policy import Change, best_change, mean_iou
from benchmarks.review_server import PageClient, browser, improve_run, mask_run, served, truth, write_scenes
from tagmask.images import read_image
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.regions.superpixels import superpixels
from tagmask.runs.rows import ImageRow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["person"]

CHECKED, CORRECTED = 20, 10
"""Images that are counted, and images that are corrected before `tagmask improve`."""
FIRST = 3000
"""Seed of the first scene; no other table has it."""
TARGET = 0.8
"""Mean IoU from which a mask is accepted."""
MOST = 60
"""Actions after which an image is given up and rejected."""
METHODS: Mapping[str, tuple[str, ...]] = {"sclip": (), "sclip + PAMR": ("--refine", "pamr")}
BRUSH = 24
"""The page's brush, in pixels; its size is never changed."""
SLOW = 120_000
"""Milliseconds: an image has to be there by then."""

Labels = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Checked:
    """How an image was checked."""

    before: float
    """Mean IoU of the mask that the person saw first."""
    actions: int
    """Keys, clicks and dabs of the brush, with that which accepts or rejects and goes to the next image."""
    accepted: bool


def person(folder: Path, small: bool) -> Iterator[str]:
    """Yield a table: what it takes to check 20 masks of a run, and of the run that `tagmask improve` made.

    SCLIP masks 30 scenes with all 24 words. The script opens the review page and goes through the images,
    least sure first. It accepts a mask (A) whose mean IoU with the truth is 0.8 or more; the mean is over the
    classes in the mask or in the truth, background included. Else it makes the change with the greatest gain
    of mean IoU per action, until 0.8 is reached: a superpixel (S), a connected region (F) or all pixels of a
    class (X) get another class, or a dab of the brush (B). It rejects (R) what has not reached 0.8 after 60
    actions, or what no change makes better. Counted are keys, clicks and dabs.

    The first ten are checked, `tagmask improve` learns from those that were accepted, and the other twenty
    are checked twice: in the run as it was, and in the improved run.

    The script knows the truth and always finds the best next change, so its counts are no forecast of a
    person's minutes; they compare two runs by the same rule.
    """
    checked, corrected = (2, 2) if small else (CHECKED, CORRECTED)
    scenes = write_scenes(folder / "photos", range(FIRST, FIRST + checked + corrected))
    truths = {f"photos/{name}": truth(scene, CLASS_NAMES) for name, scene in scenes.items()}
    yield f"{checked} scenes, after {corrected} others were corrected; accepted from mean IoU {TARGET}:"
    yield ""
    yield "| masks | mIoU at first | accepted at once | rejected | actions, median | mean | all |"
    yield "|---|---|---|---|---|---|---|"
    with browser() as chromium:
        for name, options in METHODS.items():
            run = mask_run(folder / "photos", folder / name, CLASS_NAMES, "--no-overlay", *options)
            learned = _play(chromium, run, truths, corrected)
            better = folder / f"{name}, improved"
            yield _row(f"{name}, the {corrected} to learn from", learned.values())
            helps = improve_run(run, better)
            yield _row(name, _play(chromium, run, truths, checked).values())
            if not helps:
                yield f"| {name}, improved | nothing was learned that helps | | | | | |"
                continue
            apart = [key for key, each in learned.items() if not each.accepted]
            yield _row(f"{name}, improved", _play(chromium, better, truths, checked, apart).values())


def _row(name: str, checked: Collection[Checked]) -> str:
    actions = [each.actions for each in checked]
    at_once = sum(each.actions == 1 for each in checked)
    rejected = sum(not each.accepted for each in checked)
    first = 100 * statistics.mean(each.before for each in checked)
    figures = f"{statistics.median(actions):g} | {statistics.mean(actions):.1f} | {sum(actions)}"
    return f"| {name} | {first:.1f} | {at_once} | {rejected} | {figures} |"


def _play(
    chromium: "Browser", run: Path, truths: Mapping[str, Labels], images: int, apart: Iterable[str] = ()
) -> dict[str, Checked]:
    """Check the first images that are not reviewed yet, in a page of their own; returns them by key.

    Args:
        chromium: a browser.
        run: the run.
        truths: true masks by key.
        images: how many to check.
        apart: keys of images that are rejected beforehand, so that they do not come up.
    """
    with served("review", str(run), "--no-browser") as (address, _):
        client = PageClient(address)
        for key in apart:
            client.post("/api/review", {"key": key, "review": "rejected"})
        client.close()
        context = chromium.new_context(viewport={"width": 1366, "height": 768})
        context.set_default_timeout(SLOW)
        page = context.new_page()
        page.goto(address)
        page.get_by_role("tab", name="To check").click()
        page.locator(".tab[aria-selected=true]", has_text="To check").wait_for()
        page.locator(".tile[data-index='0'] .caption").wait_for()
        page.locator(".tile[data-index='0']").focus()
        page.keyboard.press("Enter")
        player = Player(page, run)
        played = dict(player.check(truths) for _ in range(images))
        context.close()
    return played


class Player:
    """Plays a person in the view of one image.

    Args:
        page: shows an image.
        run: the folder, from which the saved masks are read.
    """

    def __init__(self, page: "Page", run: Path) -> None:
        self._page, self._run = page, run
        self._actions = 0

    def check(self, truths: Mapping[str, Labels]) -> tuple[str, Checked]:
        """Check the image that is shown, and go to the next one.

        Args:
            truths: true masks by key.

        Returns:
            The image's key, and how it was checked.
        """
        page = self._page
        page.locator("#image[aria-busy=false]").wait_for()
        key = page.locator("h1.name").inner_text()
        row = self._row(key)
        true, regions = truths[key], superpixels(read_image(row.source)).astype(np.int64)
        self._actions = 0
        mask = self._mask(row)
        before = value = mean_iou(mask, true)
        while value < TARGET and self._actions < MOST:
            change = best_change(mask, true, regions, tool=self._tool(), label=self._label(), brush=BRUSH)
            if change is None:
                break
            self._make(change, mask.shape)
            mask = self._mask(row)
            value = mean_iou(mask, true)
        self._finish("a" if value >= TARGET else "r", key)
        return key, Checked(before, self._actions, value >= TARGET)

    def _make(self, change: Change, size: tuple[int, ...]) -> None:
        """Choose class and tool where they are not chosen yet, and click."""
        page = self._page
        if change.label != self._label():  # before the tool, as this chooses the brush if there is none
            page.locator(f".legend-row[data-label='{change.label}'] .class").click()
            self._actions += 1
        if change.tool != self._tool():
            page.keyboard.press(change.tool)
            page.locator("#image[aria-busy=false]").wait_for()  # superpixels are fetched
            self._actions += 1
        box = page.locator(".stage").bounding_box()
        assert box is not None
        at = [
            box[corner] + (place + 0.5) * box[side] / pixels
            for corner, place, side, pixels in zip(
                ("x", "y"), change.point, ("width", "height"), size[::-1], strict=True
            )
        ]
        page.mouse.click(*at)
        self._actions += 1
        page.locator(".saved", has_text="Saved").wait_for()

    def _finish(self, key: str, image: str) -> None:
        """Accept or reject; wait for the next image, or for the word that there is none."""
        page = self._page
        page.keyboard.press(key)
        self._actions += 1
        while page.locator("h1.name").inner_text() == image:
            if page.locator("#message", has_text="last image").is_visible():
                return
            page.wait_for_timeout(50)

    def _tool(self) -> str:
        """Key of the tool that is chosen."""
        mode = self._page.locator("#image").get_attribute("data-mode")
        return {"move": "v", "brush": "b", "erase": "e", "fill": "f", "superpixel": "s", "replace": "x"}[
            mode or ""
        ]

    def _label(self) -> int:
        """The class that is chosen."""
        chosen = self._page.locator(".legend-row", has=self._page.locator(".class[aria-checked=true]"))
        return int(chosen.get_attribute("data-label") or -1) if chosen.count() else -1

    def _row(self, key: str) -> ImageRow:
        with tagmask.Run(self._run) as run:
            return next(row for row in run if row.key == key)

    def _mask(self, row: ImageRow) -> Labels:
        """The newest mask, as it is saved."""
        with tagmask.Run(self._run) as run:
            return np.asarray(run.mask(row), np.uint8)
