"""Draw docs/images/world.jpg: every class of the miniature world in five of its styles.

python -m benchmarks.world [FILE.jpg]
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tagmask.files import write_bytes
from tagmask.miniature.objects import CLASSES
from tagmask.miniature.scenes import BACKGROUND_NAMES, COLOURS, Plan, SceneObject, draw_scene

__all__ = ["ROWS", "STYLES", "main", "world"]

TILE, ROWS, STYLES = 96, 8, 5
_FIRST_SEED = 500


def world() -> Image.Image:
    """Draw the sheet: classes from top to bottom, `STYLES` tiles each, with the last style as the last."""
    columns = []
    for first in range(0, len(CLASSES), ROWS):
        rows = [np.concatenate(_styles(kind), axis=1) for kind in range(first, first + ROWS)]
        columns.append(np.concatenate(rows))
    return Image.fromarray(np.concatenate(columns, axis=1))


def _styles(kind: int) -> list[np.ndarray]:
    """Tiles of one class; colours and backgrounds differ from tile to tile."""
    styles = [*range(STYLES - 1), len(CLASSES[kind].styles) - 1]
    rng = np.random.default_rng((_FIRST_SEED, kind))
    colours = rng.choice(len(COLOURS), STYLES, replace=False)
    grounds = rng.choice(len(BACKGROUND_NAMES), STYLES, replace=False)
    tiles = []
    for style, colour, ground in zip(styles, colours, grounds, strict=True):
        thing = SceneObject(kind, int(colour), style, (0.5, 0.5), 0.4, 0.0, False, 1.0)
        plan = Plan((int(ground),), 0.5, (thing,), (_FIRST_SEED, kind, style))
        tiles.append(draw_scene(plan, (TILE, TILE)).image)
    return tiles


def main(out: Path) -> None:
    """Write the picture."""
    file = io.BytesIO()
    world().save(file, "JPEG", quality=88, optimize=True)
    write_bytes(out, file.getvalue())
    print(f"{out}: {len(file.getvalue()) / 1024:.0f} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/world.jpg"))
