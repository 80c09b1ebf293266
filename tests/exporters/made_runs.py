"""Small runs on the disk, with everything in them that a format may lose."""

from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images

WORDS = ("background", "cat", "dog", 'odd: "word", кот')


def masks() -> dict[str, np.ndarray]:
    """The label map of each photo, by the photo's name."""
    holes = np.zeros((40, 60), np.uint8)
    holes[4:36, 4:40] = 1
    holes[10:20, 8:20] = 0  # two holes in one region, one of them with an island of another class
    holes[24:32, 24:34] = 0
    holes[27:29, 27:30] = 2
    holes[4:14, 44:56] = 1  # a second part of the same class
    holes[30:36, 44:58] = 255
    specks = np.zeros((9, 31), np.uint8)
    specks[4, 3] = 3
    specks[6, 5:20] = 2
    specks[0, 30] = 1  # in the corner
    touching = np.zeros((12, 12), np.uint8)
    touching[2:6, 2:6] = 1
    touching[6:10, 6:10] = 1  # touches the other part at a corner only
    full = np.full((8, 5), 2, np.uint8)
    return {
        "holes.png": holes,
        "empty.jpg": np.zeros((7, 9), np.uint8),
        "a/b/specks.png": specks,
        "a_b/specks.png": touching,  # the same name once folders are joined by "_"
        "кот é.jpg": full,
        "turned.jpg": specks[:, :20].copy(),
    }


def write_photos(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    """Write a photo for each mask; the one named "turned" has its orientation in EXIF."""
    rng = np.random.default_rng(0)
    for name, mask in labels.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = PILImage.fromarray(rng.integers(0, 256, (*mask.shape, 3), np.uint8))
        if "turned" in name:
            exif = PILImage.Exif()
            exif[0x0112] = 6
            photo.rotate(90, expand=True).save(path, exif=exif)
        else:
            photo.save(path)
    return folder


def write_run(
    out: Path,
    photos: Path,
    labels: dict[str, np.ndarray],
    words: tuple[str, ...] = WORDS,
    *,
    confidence: float | None = 0.75,
    ignore: int | None = None,
) -> Path:
    """Write the run whose masks these are."""
    ignore = ignore or (255 if len(words) <= 255 else 65535)
    identity = RunIdentity("mask", {"words": list(words[1:])}, {"weights": "miniature"})
    with RunFolder.open(out, identity, Classes(words, ignore), network=False) as run:
        for task in run.plan(find_images([photos])):
            mask = labels[str(task.found.name)]
            run.write_mask(task.name, index_png(mask))
            counts = np.bincount(mask.ravel(), minlength=len(words))[: len(words)]
            found = {words[i]: int(n) for i, n in enumerate(counts) if n}
            run.done(
                task,
                ImageResult(
                    height=mask.shape[0],
                    width=mask.shape[1],
                    tags=[word for word in found if word != "background"],
                    shares=found,
                    class_confidence=dict.fromkeys(found, 0.5) if confidence is not None else None,
                    confidence=confidence,
                ),
            )
    return out
