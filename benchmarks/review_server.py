"""What the benchmarks of the review page share: scenes as photos, a run of them, its server, and a browser.

The browser needs Playwright, which is only in the environment build/app (`make build/app/installed`), and
Chromium.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
from jaxtyping import UInt8
from PIL import Image as PILImage

from benchmarks.figures.report_pictures import find_browser
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES, Scene, draw_scene

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = [
    "PageClient",
    "browser",
    "improve_run",
    "mask_run",
    "run_tagmask",
    "served",
    "tagmask_command",
    "truth",
    "write_scenes",
]


def write_scenes(folder: Path, seeds: Iterable[int], scale: int = 1) -> dict[str, Scene]:
    """Write test scenes as photos; returns the scenes by the names of their files.

    Args:
        folder: made if it is not there.
        seeds: of the scenes.
        scale: how many times larger than the test scenes' own size they are drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {f"scene {seed:03d}.png": _scene(seed, scale) for seed in seeds}
    for name, scene in drawn.items():
        PILImage.fromarray(scene.image).save(folder / name)
    return drawn


def _scene(seed: int, scale: int) -> Scene:
    scene = unseen_scene(seed)
    height, width = scene.labels.shape
    return scene if scale == 1 else draw_scene(scene.plan, (height * scale, width * scale))


def truth(scene: Scene, words: Sequence[str]) -> UInt8[np.ndarray, "h w"]:
    """Return the true mask of a scene, as a run with these words has it.

    Args:
        scene: a test scene.
        words: names of classes; all else is background.
    """
    labels = np.zeros(scene.labels.shape, np.uint8)
    for label, word in enumerate(words, start=1):
        labels[scene.labels == CLASS_NAMES.index(word)] = label
    return labels


def tagmask_command(*arguments: str) -> list[str]:
    """Return the command line that calls tagmask with this Python."""
    return [sys.executable, "-m", "tagmask", *arguments]


def mask_run(
    photos: Path, out: Path, words: Iterable[str], *options: str, weights: Path | str = "miniature"
) -> Path:
    """Mask a folder; returns the run."""
    chosen = [part for word in words for part in ("-w", word)]
    run_tagmask("mask", str(photos), *chosen, "--weights", str(weights), "-o", str(out), *options)
    return out


def run_tagmask(*arguments: str) -> None:
    """Run a command of tagmask, without its output.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(tagmask_command(*arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`tagmask {' '.join(arguments)}` failed:\n{done.stderr}")


def improve_run(run: Path, out: Path) -> bool:
    """Make a run better by what was checked in it; returns False if nothing was learned that helps."""
    try:
        run_tagmask("improve", str(run), "-o", str(out), "--no-overlay")
    except RuntimeError as error:
        if "Nothing was learned" in str(error):
            return False
        raise
    return True


class PageClient:
    """What the review page's scripts send, over HTTP.

    Args:
        address: as `tagmask review` prints it, with its token.
    """

    def __init__(self, address: str) -> None:
        self._base = address.partition("/?")[0]
        self._client = httpx2.Client(base_url=self._base, timeout=600)
        self._client.get(address).raise_for_status()  # sets the cookie

    def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of a GET request."""
        return self._client.get(path, params=query).raise_for_status().json()

    def post(self, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON of a POST request."""
        answer = self._client.post(path, json=body, headers={"Origin": self._base})
        return answer.raise_for_status().json()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def served(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run `tagmask review` or `tagmask serve` at a free port until the block ends.

    Args:
        arguments: the command and its options.

    Yields:
        The address that it prints, and the id of its process.

    Raises:
        RuntimeError: the server ended without an address.
    """
    command = tagmask_command(*arguments, "--port", "0")
    with tempfile.NamedTemporaryFile() as said:  # a pipe that nobody reads would fill
        server = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield _address(server, Path(said.name)), server.pid
        finally:
            server.terminate()
            server.wait()


def _address(server: "subprocess.Popen[bytes]", said: Path) -> str:
    while True:
        ended = server.poll() is not None
        text = said.read_text(errors="replace")
        if found := re.search(r"(http://\S+)\s", text):
            return found[1]
        if ended:
            raise RuntimeError(f"The server ended without an address. It printed:\n{text}")
        time.sleep(0.1)


@contextmanager
def browser() -> Iterator["Browser"]:
    """A headless Chromium.

    Raises:
        BrowserMissingError: no Chromium is installed.
    """
    from playwright.sync_api import sync_playwright  # not in the environment of the tests

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield chromium
        chromium.close()
