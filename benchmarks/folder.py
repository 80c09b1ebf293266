"""A folder of photos: images per second with 1, 2 and 4 workers, and whether memory stays flat.

    python -m benchmarks.folder [--images N] [--weights miniature|full] [--flat N]

Each setting runs in its own process, on the same JPEGs of 375 x 500 pixels. "full" means random weights of
ViT-B/16's size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image as PILImage

from benchmarks.inputs import make_weights
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES

WORDS = [part for word in CLASS_NAMES for part in ("-w", word)]


def draw(folder: Path, count: int) -> None:
    """Write JPEGs of miniature scenes."""
    folder.mkdir()
    for i in range(count):
        scene = PILImage.fromarray(unseen_scene(i % 40).image).resize((500, 375))
        scene.save(folder / f"{i:05}.jpg", quality=90)


def run(arguments: Sequence[str]) -> tuple[float, float]:
    """Run one command; return its seconds and peak MiB."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "tagmask", *arguments], stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"`tagmask {arguments[0]}` failed.")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    """Print the table, and the memory of a larger folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--weights", choices=("miniature", "full"), default="miniature")
    parser.add_argument("--flat", type=int, default=0, help="also tag a folder of this many images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        weights = "miniature"
        if options.weights == "full":
            torch.save(make_weights(), here / "ViT-B-16.pt")
            weights = str(here / "ViT-B-16.pt")
        draw(here / "photos", options.images)
        draw(here / "one", 1)
        common = [*WORDS, "--weights", weights]
        print(f"| {options.images} photos, {options.weights} weights | workers | images/s | peak memory |")
        print("|---|---|---|---|")
        for command in ("mask", "tag"):
            for workers in ("1", "2", "4"):
                out = ["-o", str(here / f"{command}{workers}")] if command == "mask" else []
                arguments = [*common, *out, "--workers", workers]
                start, _ = run([command, str(here / "one"), *arguments])  # warm-up: fills the text cache
                start, _ = run([command, str(here / "one"), *arguments])
                whole, memory = run([command, str(here / "photos"), *arguments])
                rate = (options.images - 1) / (whole - start)
                print(f"| {command} | {workers} | {rate:.2f} | {memory:.0f} MiB |", flush=True)
        if options.flat:
            draw(here / "many", options.flat)
            _, small_folder = run(["tag", str(here / "photos"), *common])
            _, large_folder = run(["tag", str(here / "many"), *common])
            print(
                f"\npeak memory, tag: {small_folder:.0f} MiB for {options.images} photos, "
                f"{large_folder:.0f} MiB for {options.flat}"
            )


if __name__ == "__main__":
    main()
