"""Fixtures of the tests of run folders: small photos, and one CLIP for all commands."""

import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from tagmask import Run
from tagmask.cli.main import app
from tagmask.clip.load import Clip
from tagmask.errors import InputError

Command = Callable[..., Result]


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    PILImage.fromarray(shapes[0]).save(folder / "a.jpg")
    PILImage.fromarray(shapes[1]).save(folder / "sub" / "b.png")
    return folder


@pytest.fixture
def few_photos(tmp_path: Path) -> Path:
    """`a.png`, `b.png` and `sub/a.png`, of noise."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a", "b", "sub/a")):
        noise_image(seed).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def command(sclip_model: Clip, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command with the random CLIP, which is loaded once, and check its exit code."""
    for module in ("mask_command", "tag_command", "arguments"):
        monkeypatch.setattr(f"tagmask.cli.{module}.load_weights", lambda *options: sclip_model)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


def wait_until_done(run: Path, images: int, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Wait until a run, which may not have begun yet, has recorded so many images as done."""
    end = time.monotonic() + 60
    while True:
        assert goes_on()
        assert time.monotonic() < end
        with suppress(InputError), Run(run) as read:
            if read.counts["done"] >= images:
                return
        time.sleep(0.02)


def noise_image(seed: int, size: tuple[int, int] = (24, 32)) -> PILImage.Image:
    """An image of noise, (h, w)."""
    return PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def palette_png_without_palette() -> bytes:
    """A PNG whose header promises a palette that it lacks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)
    pixels = zlib.compress(b"\0\0\0\0\0" * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
