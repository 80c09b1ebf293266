"""Draw docs/images/methods.jpg: four unseen scenes segmented by several methods.

python -m benchmarks.grid [FILE.jpg]
"""

import io
import sys
from pathlib import Path

import tagmask
from tagmask.files import write_bytes
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.report.methods import method_grid

__all__ = ["main"]

METHODS = ("clip", "maskclip", "sclip", "naclip", "clearclip", "sc-clip")
SEEDS = (3, 6, 15, 22)
"""Chosen for variety: similar and different objects, one and two backgrounds, small and large."""


def main(out: Path) -> None:
    """Write the picture."""
    images = [unseen_scene(seed).image for seed in SEEDS]
    picture = io.BytesIO()
    grid = method_grid(tagmask.load("miniature", device="cpu"), images, CLASS_NAMES, METHODS)
    grid.save(picture, "JPEG", quality=84, optimize=True)
    write_bytes(out, picture.getvalue())
    print(f"{out}: {grid.width} x {grid.height}, {len(picture.getvalue()) / 1024:.0f} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/methods.jpg"))
