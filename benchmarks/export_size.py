"""Size, time and memory of exporting a large run to every format: `python -m benchmarks.export_size`.

    python -m benchmarks.export_size [--images 10000] [--distinct 300] [--only FORMAT ...] [--folder DIR]

A run is made without a model: masks of blobs, 375 x 500, of 20 classes, a few hundred different ones in turn,
and photos of noise, which are hard links to as many files. Each format is exported by a process of its own;
folders with links to the photos where the format takes them, others without. Sizes are of what was written.
Memory is what the process has more than before the export: at its peak, and at the end of the second half of
the time compared with the first, which shows whether it grows with the number of images.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from benchmarks.process_memory import memory_bytes, reset_peak
from tagmask.exporters import EXPORTERS
from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images

SIZE = (375, 500)
WORDS = ("background", *(f"word {number}" for number in range(1, 21)))
OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "coco": ({}, {"polygons": True}),
    "hf": ({"photos": "link"}, {"parquet": True, "photos": "none"}),
}
"""Options of the exports of a format; of others, links where folders take photos."""
_INTERVAL = 0.1
"""Seconds between two measurements of memory."""


def main() -> None:
    """Make the run and print a row per format; or with `--child`, export one."""
    parser = argparse.ArgumentParser(description="Size, time and memory of exports")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--distinct", type=int, default=300, help="different masks and photos")
    parser.add_argument("--only", nargs="+", choices=tuple(EXPORTERS), default=tuple(EXPORTERS))
    parser.add_argument(
        "--folder", type=Path, help="where the run and the exports go; default: a temporary one"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.folder, options.child[0], json.loads(options.child[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "run").exists():
            make_run(folder, options.images, options.distinct)
        with Run(folder / "run") as run:
            print(f"{len(run)} images of {SIZE[0]} x {SIZE[1]}, {len(WORDS)} classes\n")
        print(
            "| format | files | MiB | seconds | images/s | memory, MiB: before | at its peak | second half |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for name in options.only:
            for chosen in OPTIONS.get(name, (default_options(name),)):
                if not chosen.get("parquet") or find_spec("pyarrow") is not None:
                    print(row(folder, name, chosen), flush=True)


def default_options(name: str) -> dict[str, object]:
    """Links where the format takes photos, and is a folder."""
    exporter = EXPORTERS[name]
    return {"photos": "link"} if exporter.holds_photos and exporter.is_folder else {}


def make_run(folder: Path, images: int, distinct: int) -> None:
    """Write the run and its photos."""
    rng = np.random.default_rng(0)
    patterns = folder / "patterns"
    patterns.mkdir()
    (folder / "photos").mkdir()
    masks = []
    for number in range(distinct):
        noise = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
        PILImage.fromarray(noise).resize(SIZE[::-1]).save(patterns / f"{number}.jpg")
        masks.append(blobs(rng))
    for number in range(images):
        os.link(patterns / f"{number % distinct}.jpg", folder / "photos" / f"{number:06d}.jpg")
    pngs = [index_png(mask) for mask in masks]
    counts = [np.bincount(mask.ravel(), minlength=len(WORDS)) for mask in masks]
    identity = RunIdentity("mask", {"words": list(WORDS[1:])})
    with RunFolder.open(folder / "run", identity, Classes(WORDS, 255), network=False) as run:
        for number, task in enumerate(run.plan(find_images([folder / "photos"]))):
            run.write_mask(task.name, pngs[number % distinct])
            found = {WORDS[i]: int(n) for i, n in enumerate(counts[number % distinct]) if n}
            result = ImageResult(
                height=SIZE[0], width=SIZE[1], shares=found,
                tags=[word for word in found if word != WORDS[0]],
                class_confidence=dict.fromkeys(found, 0.5), confidence=0.5,
            )  # fmt: skip
            run.done(task, result)


def blobs(rng: np.random.Generator) -> np.ndarray:
    """A label map of about 50 regions with ragged outlines, of up to six of the classes."""
    chosen = np.concatenate([[0], rng.choice(np.arange(1, len(WORDS)), 6, replace=False)])
    best = np.full(SIZE, -np.inf, np.float32)
    labels = np.zeros(SIZE, np.uint8)
    for label in chosen:
        field = np.zeros(SIZE, np.float32)
        for cells, weight in ((5, 1.0), (24, 0.1), (90, 0.02)):
            coarse = rng.normal(size=(cells, cells * 4 // 3)).astype(np.float32)
            smooth = PILImage.fromarray(coarse).resize(SIZE[::-1], PILImage.Resampling.BICUBIC)
            field += weight * np.asarray(smooth)
        field += 0.8 if label == 0 else 0
        labels = np.where(field > best, np.uint8(label), labels)
        best = np.maximum(best, field)
    return labels


def row(folder: Path, name: str, options: dict[str, object]) -> str:
    """Export to one format in a process of its own, and return a line of the table."""
    command = [sys.executable, "-m", "benchmarks.export_size", "--folder", str(folder), "--child", name]
    done = subprocess.run([*command, json.dumps(options)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    flags = "".join(f" --{option}" for option, value in options.items() if value is True)
    return (
        f"| {name}{flags} | {found['files']} | {found['bytes'] / 2**20:.1f} | {found['seconds']:.1f} "
        f"| {found['images'] / found['seconds']:.0f} | {found['before'] / 2**20:.0f} "
        f"| {found['peak'] / 2**20:+.0f} | {found['second_half'] / 2**20:+.1f} |"
    )


def measured(folder: Path, name: str, options: dict[str, object]) -> dict[str, float]:
    """Export, and return sizes, seconds and memory; what was written is removed."""
    with tempfile.TemporaryDirectory(dir=folder) as out, Run(folder / "run") as run:
        reset_peak()
        before, curve, stop = memory_bytes("VmRSS"), [], threading.Event()

        def watch() -> None:
            while not stop.wait(_INTERVAL):
                curve.append(memory_bytes("VmRSS"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        target = run.export(name, out, **options)
        seconds = time.monotonic() - start
        stop.set()
        watcher.join()
        paths = [target] if target.is_file() else [path for path in target.rglob("*") if not path.is_dir()]
        files = [path for path in paths if not path.is_symlink()]
        half = len(curve) // 2
        return {
            "images": len(run), "files": len(files), "bytes": sum(path.stat().st_size for path in files),
            "seconds": seconds, "before": before, "peak": memory_bytes("VmHWM") - before,
            "second_half": max(curve[half:], default=0) - max(curve[:half], default=0),
        }  # fmt: skip


if __name__ == "__main__":
    main()
