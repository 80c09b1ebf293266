"""Time and peak memory by the size of the image, and of extreme images. One process per line.

    python -m benchmarks.sizes [--only NAME ...] [--size HxW ...] [--limit SECONDS]

Random weights of ViT-B/16's size, precision auto; one sentence per word, so that text encoding is negligible.
A small image is processed first, so that loading code is not timed.

    mask      SCLIP, 21 classes (56 names)
    tag       TagCLIP, 20 classes
    cls-seg   masks of three given tags
    pamr, crf `mask` with PAMR or the dense CRF
    extremes  very small, very long and very large images

"growth" is the time in proportion to that of the size before, divided by the same proportion of the pixels:
over 1, the time grows faster than the pixels.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch

import tagmask
from benchmarks.fresh_process import in_fresh_process
from benchmarks.inputs import make_image, make_weights, temporary_home
from benchmarks.process_memory import memory_bytes, reset_peak
from tagmask.cli.bench_cost import parse_size
from tagmask.types import Image, Size

SIZES: tuple[Size, ...] = ((224, 224), (375, 500), (768, 1024), (1500, 2000), (3000, 4000), (4000, 6000))


@dataclass(frozen=True)
class Work:
    """What is done with an image."""

    recipe: str
    settings: Mapping[str, object] = field(default_factory=dict)
    tags: tuple[int, ...] | None = None


ROWS: Mapping[str, Work] = MappingProxyType(
    {
        "mask": Work("sclip/voc21"),
        "tag": Work("tagclip/voc2012"),
        "cls-seg": Work("cls-seg/voc2012", tags=(0, 4, 14)),
        "pamr": Work("sclip+pamr/voc21"),
        "crf": Work("sclip/voc21", {"crf": "cls-seg"}),
    }
)
EXTREMES: tuple[tuple[Work, Size], ...] = (
    (Work("sclip/coco-stuff"), (4000, 6000)),
    (Work("sclip/coco-object"), (480, 640)),
    (Work("sclip+pamr/coco-object"), (480, 640)),
    (Work("sc-clip/coco-object"), (480, 640)),
    (Work("resclip/coco-object"), (480, 640)),
    (Work("cls-seg/coco2017", tags=(0, 4, 31)), (480, 640)),
    (Work("tagclip/coco2017"), (4000, 6000)),
    (Work("sclip/coco-stuff"), (1, 1)),
    (Work("sclip/coco-stuff"), (1, 3000)),
    (Work("sclip/coco-stuff"), (16, 16)),
    (Work("cls-seg/coco2017", tags=(0, 4, 31)), (1, 3000)),
)


def measure(weights: str, work: Work, size: Size) -> tuple[float, float, float, str]:
    """Return MiB after loading, MiB at the peak, seconds, and the shape of the result."""
    clip = tagmask.load(weights, precision="auto", activation="quickgelu")
    settings = {"recipe": work.recipe, "templates": ("a photo of a {}.",), **work.settings}
    image, small = make_image(*size), make_image(64, 64)
    if work.recipe.startswith("tagclip"):
        tagger = tagmask.Tagger(clip, **settings)

        def run(pixels: Image) -> tuple[int, ...]:
            return tagger(pixels).scores.shape
    else:
        segmenter = tagmask.Segmenter(clip, **settings)

        def run(pixels: Image) -> tuple[int, ...]:
            return segmenter(pixels, tags=work.tags).labels.shape

    run(small)
    gc.collect()
    reset_peak()
    loaded = memory_bytes("VmRSS") / 2**20
    start = time.perf_counter()
    shape = run(image)
    seconds = time.perf_counter() - start
    return loaded, memory_bytes("VmHWM") / 2**20, seconds, "x".join(map(str, shape))


def print_sizes(weights: str, names: list[str], sizes: list[Size], limit: float) -> None:
    """Print the table of sizes."""
    print("| row | image | megapixels | seconds | growth | loaded | peak |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        before: tuple[float, int] | None = None
        for height, width in sizes:
            cells = f"| {name} | {height} x {width} | {height * width / 1e6:.2f} "
            found = in_fresh_process(measure, weights, ROWS[name], (height, width), limit=limit)
            if found is None:
                print(f"{cells}| over {limit:.0f} | - | - | - |", flush=True)
                break
            loaded, peak, seconds, _ = found
            growth = f"{seconds / before[0] / (height * width / before[1]):.2f}" if before else "-"
            before = seconds, height * width
            print(f"{cells}| {seconds:.2f} | {growth} | {loaded:.0f} MiB | {peak:.0f} MiB |", flush=True)
    print()


def print_extremes(weights: str, limit: float) -> None:
    """Print the table of extreme images."""
    print("| recipe | image | loaded | peak | seconds | result |")
    print("|---|---|---|---|---|---|")
    for work, size in EXTREMES:
        cells = f"| {work.recipe} | {size[0]} x {size[1]} "
        found = in_fresh_process(measure, weights, work, size, limit=limit)
        if found is None:
            print(f"{cells}| - | - | over {limit:.0f} | - |", flush=True)
            continue
        loaded, peak, seconds, shape = found
        print(f"{cells}| {loaded:.0f} MiB | {peak:.0f} MiB | {seconds:.1f} | {shape} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = (*ROWS, "extremes")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--size", action="append", metavar="HxW", help="default: 224x224 to 4000x6000")
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="per line, default 300")
    options = parser.parse_args()
    sizes = [parse_size(text) for text in options.size] if options.size else list(SIZES)
    chosen = options.only or names
    with tempfile.TemporaryDirectory() as scratch, temporary_home():
        weights = str(Path(scratch) / "ViT-B-16.pt")
        torch.save(make_weights(), weights)
        print(f"{torch.get_num_threads()} threads\n")
        print_sizes(weights, [name for name in ROWS if name in chosen], sizes, options.limit)
        if "extremes" in chosen:
            print_extremes(weights, options.limit)


if __name__ == "__main__":
    main()
