"""A producer with a stub in place of the model, run as a process of its own so that it can be killed."""

import sys
import time
from pathlib import Path

import numpy as np

from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images

IDENTITY = RunIdentity("mask", {"words": ["cat", "dog"]})
CLASSES = Classes(("background", "cat", "dog"), 255)


def stub_mask(content: bytes) -> np.ndarray:
    """A mask that depends on the image's content alone."""
    return np.random.default_rng(list(content[:8])).integers(0, 3, (40, 50), dtype=np.uint8)


def produce(photos: Path, run: Path, begun: Path | None = None, pause: float = 0.0) -> None:
    """Do all that is to be done, and note in `begun` which images were begun."""
    with RunFolder.open(run, IDENTITY, CLASSES, network=False) as folder:
        plan = folder.plan(find_images([photos]))
        for image in plan:
            if begun is not None:
                with begun.open("a") as file:
                    file.write(f"{image.key}\n")
            labels = stub_mask(image.found.path.read_bytes())
            time.sleep(pause)
            folder.write_overlay(image.name, b"overlay")
            folder.write_mask(image.name, index_png(labels))
            counts = np.bincount(labels.ravel()).tolist()
            shares = dict(zip(CLASSES.names, counts, strict=True))
            folder.done(image, ImageResult(width=50, height=40, shares=shares, confidence=counts[1] / 2000))


if __name__ == "__main__":
    produce(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))


def opened(run, identity=IDENTITY, classes=CLASSES, **more):
    return RunFolder.open(run, identity, classes, network=False, **more)
