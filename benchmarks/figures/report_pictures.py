"""Pictures of the page that `tagmask demo` writes, taken with Chromium."""

import io
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

__all__ = ["BrowserMissingError", "find_browser", "report_pictures"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SIZES = {"report": (1280, 1290), "report-phone": (390, 1150)}
"""Width and height of each picture, in pixels."""
_DARK = ("report-phone",)


class BrowserMissingError(Exception):
    """No browser is installed."""


def find_browser() -> str:
    """Return the path of Chromium.

    Raises:
        BrowserMissingError: it is not installed.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise BrowserMissingError("Chromium is not installed. Install it, or skip the pictures of pages.")
    return browser


def report_pictures(name: str) -> bytes:
    """Return a picture of the demo's page, as a PNG.

    Args:
        name: "report" (on a desk, light) or "report-phone" (on a phone, dark).

    Raises:
        BrowserMissingError: no Chromium is installed.
    """
    browser = find_browser()
    width, height = _SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        # A browser window has a least width, a frame in it has none.
        frame = Path(folder) / "frame.html"
        frame.write_text(
            f"<style>body{{margin:0}}iframe{{border:0;display:block}}</style>"
            f"<iframe src='{_page().as_uri()}' width={width} height={height} scrolling=no></iframe>"
        )
        out = Path(folder) / "shot.png"
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--virtual-time-budget=4000",
            f"--user-data-dir={folder}/profile",
            f"--window-size={max(width, 600)},{height}",
            f"--screenshot={out}",
            *(["--force-dark-mode"] if name in _DARK else []),
        ]
        subprocess.run([browser, *options, frame.as_uri()], check=True, capture_output=True, timeout=120)
        return _cropped(out, width, height)


def _cropped(file: Path, width: int, height: int) -> bytes:
    cut = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").crop((0, 0, width, height)).save(cut, "PNG", optimize=True)
    return cut.getvalue()


@cache
def _page() -> Path:
    """Run the demo once, and return its page."""
    folder = Path("build/figures/demo").resolve()
    subprocess.run([sys.executable, "-m", "tagmask", "demo", "--out", str(folder)], check=True)
    return folder / "report.html"
