"""A long run, killed and resumed, with its memory along the way: `python -m benchmarks.long_run`.

    python -m benchmarks.long_run mask|tag [--images 100000] [--size 32] [--kills 3] [--real] [--folder DIR]

Small images are drawn, then masked or tagged into a run folder by `tagmask mask` or `tag`. With a stub in
place of the model, which answers at once, everything but the model is measured; --real runs the bundled
model. The process is killed (SIGKILL) and started again several times. Printed are the seconds from loaded
weights to the first image, images per second, memory and open files; the exit code is 1 if an image was lost.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

import tagmask
from tagmask.api import Segmenter, Tagger
from tagmask.cli.mask import mask_images
from tagmask.cli.maskers import Masker, segmenter_masker
from tagmask.cli.tag import tag_images
from tagmask.confidence import WinningScores
from tagmask.pipelines.labelled import LabelledImage
from tagmask.runs.reader import Run
from tagmask.runtime.folders import find_images
from tagmask.types import Images

WORDS = ("cat", "fish", "car", "boat")


def main() -> int:
    """Run the parent, or with `--child` the process that is killed."""
    parser = argparse.ArgumentParser(description="A long run, killed and resumed")
    parser.add_argument("command", choices=("mask", "tag"))
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--real", action="store_true", help="the bundled model in place of the stub")
    parser.add_argument("--folder", type=Path, help="folder for images and run; default: a temporary one")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.command, options.folder, real=options.real)
    with tempfile.TemporaryDirectory() as temporary:
        return parent(options, options.folder or Path(temporary))


def parent(options: argparse.Namespace, folder: Path) -> int:
    """Start the child until it ends by itself, kill it on the way, and print what was measured."""
    draw(folder / "photos", options.images, options.size)
    kill_at = [options.images * k // (options.kills + 1) for k in range(1, options.kills + 1)]
    print("| started at | to the first image, s | images/s | memory, MiB: start, end, peak | open files |")
    print("|---|---|---|---|---|")
    while True:
        code, stretch = run_child(options, folder, kill_at)
        print(stretch.row(), flush=True)
        if code != -signal.SIGKILL:
            break
    with Run(folder / "run") as run:
        done = run.counts["done"]
        masks = sum(run.mask_path(row).exists() for row in run) if options.command == "mask" else done
    left = len(list((folder / "run").rglob("*.part")))
    print(
        f"\n{done} of {options.images} images done, {masks} outputs, {left} temporary files, exit code {code}"
    )
    return 0 if done == masks == options.images and not left and code == 0 else 1


@dataclass
class Stretch:
    """What was seen of one start."""

    first: int
    ready: float
    began: float
    ended: float
    last: int
    memory: list[float]
    files: list[int]

    def row(self) -> str:
        """One line of the table."""
        speed = (self.last - self.first) / max(self.ended - self.began, 1e-9)
        memory = f"{self.memory[0]:.0f}, {self.memory[-1]:.0f}, {max(self.memory):.0f}"
        files = f"{min(self.files)} to {max(self.files)}"
        return f"| {self.first} | {self.began - self.ready:.1f} | {speed:.0f} | {memory} | {files} |"


def run_child(options: argparse.Namespace, folder: Path, kill_at: list[int]) -> tuple[int, Stretch]:
    """Run the child once; kill it when it reaches the first of `kill_at`, which is then removed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.long_run",
        options.command,
        "--child",
        "--folder",
        str(folder),
    ]
    process = subprocess.Popen([*command, *(["--real"] * options.real)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = began = 0.0
    first = last = 0
    memory: list[float] = []
    files: list[int] = []
    target = kill_at.pop(0) + random.Random(0).randrange(50) if kill_at else None
    for line in process.stdout:
        if line.startswith("ready"):
            ready = time.monotonic()
            first = last = done_in(folder / "run")
            continue
        last += 1
        if not memory:
            began = time.monotonic()
        if not memory or last % 500 == 0:
            memory.append(resident(process.pid))
            files.append(len(os.listdir(f"/proc/{process.pid}/fd")))  # noqa: PTH208 (names only)
        if target is not None and last >= target:
            process.kill()
            break
    ended = time.monotonic()
    code = process.wait()
    return code, Stretch(first, ready, began or ended, ended, last, memory or [0.0], files or [0])


def done_in(path: Path) -> int:
    """Return how many images of a run are done; 0 if there is no run yet."""
    if not (path / "run.db").exists():
        return 0
    with Run(path) as run:
        return run.counts["done"]


def resident(pid: int) -> float:
    """Resident memory of a process in MiB (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def draw(folder: Path, count: int, size: int) -> None:
    """Draw images of noise, 1,000 to a folder."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number % 1000:03d}.png"
        if not path.exists() or not path.stat().st_size:
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (size, size, 3), np.uint8)
            PILImage.fromarray(noise).save(path, compress_level=1)


def child(command: str, folder: Path, *, real: bool) -> int:
    """Mask or tag all images into the run folder, as the command line does; print a line per image."""
    clip = tagmask.load("miniature", device="cpu")
    print("ready", flush=True)  # the weights are loaded; the listing is part of the start
    images, out = find_images([folder / "photos"]), folder / "run"

    def make_masker() -> Masker:
        segmenter = Segmenter(clip, WORDS)
        if not real:
            segmenter._pipeline.__class__ = type(
                "Stub", (type(segmenter._pipeline),), {"__call__": all_background}
            )
        return segmenter_masker(segmenter, None)

    def make_tagger() -> Tagger:
        tagger = Tagger(clip, WORDS)
        if not real:
            scores = np.linspace(0, 1, len(WORDS), dtype=np.float32)
            stub = {"score": lambda self, images: np.stack([scores] * len(images))}
            tagger._pipeline.__class__ = type("Stub", (type(tagger._pipeline),), stub)
        return tagger

    if command == "tag":
        return tag_images(images, make_tagger, as_json=True, out=out, format_=None)
    return mask_images(images, make_masker, out=out, overlays=False, formats=frozenset({"png"}), tags=None)


def all_background(
    self: object, images: Images, tags: object, ignore_index: int, keep_scores: bool, keep_winning: bool
) -> list[LabelledImage]:
    """Answer in place of a mask pipeline."""
    sizes = [image.shape[:2] for image in images]
    return [
        LabelledImage(np.zeros(size, np.int32), None, None, WinningScores(np.ones(size, np.float32), 0.1))
        for size in sizes
    ]


if __name__ == "__main__":
    sys.exit(main())
