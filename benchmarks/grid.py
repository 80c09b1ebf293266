"""Draw docs/images/methods.jpg: four unseen scenes segmented by several methods.

python -m benchmarks.grid [FILE.jpg]
"""

import io
import sys
from pathlib import Path

from PIL import Image

import tagmask
from tagmask.clip.load import Clip
from tagmask.files import write_bytes
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.report.methods import method_grid

__all__ = ["METHODS", "grid", "main"]

METHODS = ("clip", "maskclip", "sclip", "naclip", "clearclip", "sc-clip")
SEEDS = (3, 6, 15, 22)
"""Chosen for variety: similar and different objects, one and two backgrounds, small and large."""


def grid(clip: Clip) -> Image.Image:
    """Draw the sheet: a row per scene, a column per method."""
    return method_grid(clip, [unseen_scene(seed).image for seed in SEEDS], CLASS_NAMES, METHODS)


def main(out: Path) -> None:
    """Write the picture."""
    picture = io.BytesIO()
    sheet = grid(tagmask.load("miniature", device="cpu"))
    sheet.save(picture, "JPEG", quality=84, optimize=True)
    write_bytes(out, picture.getvalue())
    print(f"{out}: {sheet.width} x {sheet.height}, {len(picture.getvalue()) / 1024:.0f} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/methods.jpg"))
