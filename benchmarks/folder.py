"""A folder of photos: images per second with 1, 2 and 4 workers, and whether memory stays flat.

    python -m benchmarks.folder [--images N] [--weights miniature|full] [--flat N]

Each setting runs in its own process, on the same JPEGs of 375 x 500 pixels. "full" means random weights of
ViT-B/16's size. Beside `tagmask mask` stands the sum of its parts, measured one after another: decode (read
the JPEG), compute (from pixels to labels), encode (the PNG, the overlay and its JPEG), store (write both
files to the disk, and the row).
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image as PILImage

import tagmask
from benchmarks.inputs import make_weights
from tagmask.images import read_image
from tagmask.masks import index_png
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.runs.describe import classes_of, segmenter_identity
from tagmask.runs.folder import RunFolder
from tagmask.runs.planning import ImageTask
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images

WORDS = [part for word in CLASS_NAMES for part in ("-w", word)]
WORKERS = (1, 2, 4)
PARTS = ("decode", "compute", "encode", "store")
PHOTOS_OF_PARTS = 20

Value = TypeVar("Value")


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


def rate(command: str, photos: Path, one: Path, arguments: Sequence[str], images: int) -> tuple[float, float]:
    """Images per second of a command without its start, and its peak MiB."""
    run([command, str(one), *arguments])  # warm-up: fills the text cache
    start, _ = run([command, str(one), *arguments])
    whole, memory = run([command, str(photos), *arguments])
    return (images - 1) / (whole - start), memory


def mask_one(
    segmenter: tagmask.Segmenter, folder: RunFolder, task: ImageTask
) -> dict[str, tuple[float, float]]:
    """Mask a photo as `tagmask mask` does; return wall and processor milliseconds of each part."""
    took: dict[str, tuple[float, float]] = {}

    def timed(part: str, work: Callable[[], Value]) -> Value:
        wall, processor = time.perf_counter(), time.process_time()
        value = work()
        took[part] = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor)
        return value

    pixels = timed("decode", lambda: read_image(task.found.path))
    seg = timed("compute", lambda: segmenter(pixels, confidence=True))

    def encode() -> tuple[bytes, bytes, ImageResult]:
        overlay = io.BytesIO()
        seg.overlay(pixels).save(overlay, "JPEG", quality=92)
        height, width = seg.labels.shape
        result = ImageResult(width=width, height=height, shares=seg.pixels(), confidence=seg.confidence)
        return overlay.getvalue(), index_png(seg.labels), result

    overlay, mask, result = timed("encode", encode)

    def store() -> None:
        folder.write_overlay(task.name, overlay)
        folder.write_mask(task.name, mask)
        folder.done(task, result)

    timed("store", store)
    return took


def time_parts(photos: Path, out: Path, weights: str) -> dict[str, tuple[float, float]]:
    """Measure the parts one after another.

    Returns:
        For each part, milliseconds an image: wall time with all of torch's threads; processor time with one.
    """
    segmenter = tagmask.Segmenter(tagmask.load(weights, precision="auto"), CLASS_NAMES)
    threads = torch.get_num_threads()
    measured = []
    with RunFolder.open(out, segmenter_identity(segmenter), classes_of(segmenter)) as folder:
        tasks = list(folder.plan(find_images([photos])[: PHOTOS_OF_PARTS + 1]))
        for count in (threads, 1):
            torch.set_num_threads(count)
            measured.append([mask_one(segmenter, folder, task) for task in tasks][1:])  # the first warms up
    torch.set_num_threads(threads)
    all_threads, one_thread = measured
    return {
        part: (
            float(np.median([took[part][0] for took in all_threads])),
            float(np.median([took[part][1] for took in one_thread])),
        )
        for part in PARTS
    }


def print_parts(parts: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """Print the parts; return the images per second of their sum, and of all cores without a pause."""
    print("| ms an image |", " | ".join(PARTS), "| sum | images/s |")
    print("|---|" + "---|" * (len(PARTS) + 2))
    rates = []
    cores = os.cpu_count() or 1
    for i, name, at_once in ((0, "one part after another", 1), (1, "processor time, one thread", cores)):
        times = [parts[part][i] for part in PARTS]
        rates.append(1000 * at_once / sum(times))
        cells = " | ".join(f"{each:.1f}" for each in (*times, sum(times)))
        print(f"| {name} | {cells} | {rates[-1]:.2f} |", flush=True)
    return rates[0], rates[1]


def main() -> None:
    """Print the tables, and the memory of a larger folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
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
        in_turn, at_most = print_parts(time_parts(here / "photos", here / "parts", weights))
        common = [*WORDS, "--weights", weights]
        print(f"\n| {options.images} photos, {options.weights} weights | workers | images/s | peak memory |")
        print("|---|---|---|---|")
        for command in ("mask", "tag"):
            for workers in WORKERS:
                into = ["-o", str(here / f"{command}{workers}"), "--again"] if command == "mask" else []
                arguments = [*common, *into, "--workers", str(workers)]
                speed, memory = rate(command, here / "photos", here / "one", arguments, options.images)
                share = (
                    f" ({speed / in_turn:.2f} of the sum of the parts, {speed / at_most:.2f} of all cores)"
                )
                shown = f"{speed:.2f}{share if command == 'mask' else ''}"
                print(f"| {command} | {workers} | {shown} | {memory:.0f} MiB |", flush=True)
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
