"""What the review page and the servers are worth: tables of speed, of a person's work, and of a student.

    python -m benchmarks.review [--only NAME] [--small]

    redraw    seconds until a changed mask is there: threshold, words, refinement; ViT-B/16
    gallery   milliseconds of the pages of a run of 100,000 images
    serve     1,000 requests to `tagmask serve` from 8 clients: failures, times, memory
    person    keys and clicks until 20 masks are right, before and after `tagmask improve`; a script's
    student   mIoU of a student trained on a run's masks, before and after `tagmask improve`

`--small` tries each with a few images, to see that it works. `person` needs Playwright and Chromium: run it
with the Python of build/app (`make build/app/installed`). Times are only valid on an idle machine.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.figures.stamps import weights_hash
from benchmarks.review_person import person
from benchmarks.review_speed import gallery, redraw, requests
from benchmarks.review_student import student

__all__ = ["PARTS", "main"]

PARTS: dict[str, Callable[[Path, bool], Iterator[str]]] = {
    "redraw": redraw,
    "gallery": gallery,
    "serve": requests,
    "person": person,
    "student": student,
}
"""Each is given an empty folder and whether to be small, and yields lines."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=tuple(PARTS), action="append", metavar="NAME")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} processors, torch {torch.__version__}; the bundled model `{weights_hash()}`.")
    for name in options.only or PARTS:
        print(f"\n## {name}\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for line in PARTS[name](Path(folder), options.small):
                print(line, flush=True)


if __name__ == "__main__":
    main()
