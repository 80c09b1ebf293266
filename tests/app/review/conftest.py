"""A small run of the miniature model, made once, and a browser's session with the server of a copy of it."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image as PILImage

from tagmask import Segmenter
from tagmask.app.review_app import review_app
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.cli.mask import mask_images
from tagmask.cli.maskers import segmenter_masker
from tagmask.clip.load import Clip
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.runtime.folders import find_images
from tests.app.review.browser import ADDRESS, SESSION, Browser

SETTINGS: dict[str, Any] = {"short_side": 64, "crop": 64, "stride": 32, "prob_thd": 0.2}
WORDS = ["fish, goldfish", "car", "cat"]
BACKGROUND = ["water", "sky"]

MakeRun = Callable[..., Path]
Open = Callable[..., Browser]


@pytest.fixture(scope="session")
def segmenter(miniature: Clip) -> Segmenter:
    return Segmenter(miniature, WORDS, background=BACKGROUND, **SETTINGS)


@pytest.fixture(scope="session")
def made_run(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, of which one is turned by its metadata, a damaged one, and their run."""
    root = tmp_path_factory.mktemp("review")
    photos = root / "photos"
    photos.mkdir()
    for number, name in enumerate(("a.png", "b é.tif", "sub/c.jpg")):
        image = PILImage.fromarray(unseen_scene(number + 1).image).resize((60, 80))
        (photos / name).parent.mkdir(exist_ok=True)
        exif = PILImage.Exif()
        exif[0x0112] = 6 if name.endswith("jpg") else 1
        image.save(photos / name, exif=exif)
    (photos / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    masker = segmenter_masker(segmenter, None)
    mask_images(
        find_images([photos]),
        lambda: masker,
        out=root / "run",
        overlays=False,
        formats=frozenset({"png"}),
        tags=None,
    )
    return root


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, with its own photos."""
    shutil.copytree(made_run, tmp_path, dirs_exist_ok=True)
    with closing(sqlite3.connect(tmp_path / "run" / "run.db")) as database, database:
        before, after = (str(root).encode() for root in (made_run, tmp_path))
        for image, source in database.execute("SELECT id, source FROM images").fetchall():
            moved = source.replace(before, after)
            database.execute("UPDATE images SET source = ? WHERE id = ?", (moved, image))
    return tmp_path / "run"


@pytest.fixture
def open_page(miniature: Clip) -> Iterator[Open]:
    """Opens the page of a run."""
    with ExitStack() as stack:

        def open_run(
            path: Path, load: Callable[[Any], Clip] = lambda _: miniature, **options: Any
        ) -> Browser:
            app = review_app(ReviewedRun(path), load, SESSION, **({"memory": 1 << 28} | options))
            client = stack.enter_context(TestClient(app, base_url=ADDRESS))
            return Browser(client)

        yield open_run


@pytest.fixture
def page(run: Path, open_page: Open) -> Browser:
    return open_page(run)
