"""Throughput, memory and share of the peak on a GPU, for a made-up ViT-B/16: `python -m benchmarks.gpu`.

Each row is one work, precision and batch size, with and without `torch.compile` of the image tower's blocks.
A call is timed from start to end, from images in the host's memory to results there, with the device
synchronised before and after; the table shows medians. Operations are those that torch's counter finds in the
same call (matrix products, convolutions and attention); the peak is that of a product of square matrices in
the same precision. The table is printed row by row, and all rows go to a JSON file.

    python -m benchmarks.gpu [--only NAME] [--out build/gpu.json]
    python -m benchmarks.gpu --device cpu --small     # the same program, with the bundled model
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import tagmask
from benchmarks.inputs import make_image, make_weights, temporary_home
from benchmarks.rows import Work
from benchmarks.weakclip_rows import our_step
from tagmask.clip.hardware import choose_device
from tagmask.dense.features import extract_features
from tagmask.dense.positions import POSITIONS
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.refine.pamr import pamr
from tagmask.types import Size
from tagmask.weak.model import WeakClip

__all__ = ["WORKS", "Measured", "Sizes", "main", "matmul_peak", "measure"]

Compiler = Callable[[nn.Module], None]
"""Compiles the blocks of an image tower in place, or leaves them as they are."""

PRECISIONS = ("float32", "bfloat16", "float16")
TEMPLATES = ("a photo of a {}.",)
TAGS = 4
"""Given tags of each image in the CLS-SEG row."""
WARM_UP = 2


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs."""

    words: tuple[str, ...]
    image: Size = (375, 500)
    crop: int = 512
    """Side of a training crop."""
    short_side: int = 336
    """SCLIP scales the short side of an image to this."""
    window: int = 224
    """Side of SCLIP's windows, which advance by half of it."""
    batches: tuple[int, ...] = (1, 4, 8)
    """Images in a call, or crops in a step."""
    windows: tuple[int, ...] = (1, 16, 64, 256)
    """Windows in a forward pass of the image tower alone."""
    matrix: int = 8192


SMALL = Sizes(CLASS_NAMES[:5], (48, 64), 64, 48, 32, (1, 2), (1, 2), 256)


@dataclass(frozen=True)
class Measured:
    """One row."""

    work: str
    precision: str
    compiled: bool
    batch: int
    seconds: float | None = None
    """Median of a call; None if it failed."""
    images_per_s: float | None = None
    flops: int | None = None
    share_of_peak: float | None = None
    memory: int | None = None
    """Peak of the GPU's allocated memory in bytes, weights included; None on other devices."""
    error: str | None = None

    def cells(self) -> str:
        """One line of the table."""
        cells = [self.work, self.precision, "yes" if self.compiled else "no", str(self.batch)]
        if self.error is not None:
            cells += [self.error, "-", "-", "-"]
        else:
            cells += [
                f"{self.images_per_s:.2f}",
                f"{self.flops / 1e9:.1f}" if self.flops else "-",
                f"{self.share_of_peak:.0%}" if self.flops else "-",
                f"{self.memory / 2**20:.0f}" if self.memory is not None else "-",
            ]
        return f"| {' | '.join(cells)} |"


# -- What is measured ----------------------------------------------------------------------------------------


def tower(clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler) -> Work:
    """All blocks of the tower but the last, on windows that are on the device: the others' upper bound."""
    del compiler  # the tower is `clip`'s
    pixels = torch.randn(batch, 3, sizes.window, sizes.window, device=clip.device)

    @torch.inference_mode()
    def run() -> None:
        extract_features(clip.vision, pixels, POSITIONS["bilinear"])

    return run


def sclip(clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler) -> Work:
    """SCLIP's masks, without PAMR."""
    del compiler
    windows = {"short_side": sizes.short_side, "crop": sizes.window, "stride": sizes.window // 2}
    segmenter = tagmask.Segmenter(
        clip, list(sizes.words), method="sclip", background=[], templates=TEMPLATES, **windows
    )
    return partial(segmenter, [make_image(*sizes.image)] * batch)


def tagclip(clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler) -> Work:
    """TagCLIP's tags."""
    del compiler
    tagger = tagmask.Tagger(clip, list(sizes.words), method="tagclip", templates=TEMPLATES)
    return partial(tagger, [make_image(*sizes.image)] * batch)


def cls_seg(clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler) -> Work:
    """CLS-SEG's masks of given tags, without a CRF."""
    del compiler
    segmenter = tagmask.Segmenter(clip, list(sizes.words), method="cls-seg", templates=TEMPLATES)
    images, tags = [make_image(*sizes.image)] * batch, [list(range(TAGS))] * batch
    return lambda: segmenter(images, tags=tags)


def pamr_maps(clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler) -> Work:
    """PAMR of one map per word, 10 rounds; on maps that are on the device, always in float32."""
    del compiler  # two operations, nothing to fuse
    maps = torch.rand(len(sizes.words), *sizes.image, device=clip.device)
    guide = torch.rand(3, *sizes.image, device=clip.device)
    return lambda: [pamr(maps, guide) for _ in range(batch)]


def weakclip_step(clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler) -> Work:
    """A training step of WeakCLIP; its precisions are float32 and bfloat16."""
    model = WeakClip.of(clip, list(sizes.words))
    compiler(model.vision)  # a copy of `clip`'s
    return our_step(model, batch, sizes.crop)


WORKS: Mapping[str, Callable[[tagmask.Clip, Sizes, int, Compiler], Work]] = MappingProxyType(
    {
        "tower": tower,
        "sclip": sclip,
        "tagclip": tagclip,
        "cls-seg": cls_seg,
        "pamr": pamr_maps,
        "weakclip-step": weakclip_step,
    }
)
"""By name."""


def precisions_of(work: str) -> tuple[str, ...]:
    """The precisions that a work has."""
    return {"pamr": ("float32",), "weakclip-step": ("float32", "bfloat16")}.get(work, PRECISIONS)


# -- Measuring -----------------------------------------------------------------------------------------------


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    getattr(torch, device.type).synchronize()


def seconds_of(work: Work, device: torch.device) -> float:
    """Seconds of one call, until the device is done."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def matmul_peak(precision: str, device: torch.device, side: int) -> float:
    """Peak of matrix products, in FLOP/s."""
    dtype = getattr(torch, precision)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> torch.Tensor:
        return a @ b

    product()
    return 2 * side**3 / min(seconds_of(product, device) for _ in range(5))


def count_flops(work: Work) -> int:
    """Operations of one call: matrix products, convolutions and attention."""

    def attention(query: object, key: object, value: object, *_: object, **__: object) -> int:
        return int(sdpa_flop_count(query, key, value))

    # Torch counts fused attention on GPUs only.
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as counter:
        work()
    return int(counter.get_total_flops())


def measure(work: Work, device: torch.device, repeats: int) -> tuple[float, int | None]:
    """Median seconds of a call after warming up, and the GPU's peak memory."""
    for _ in range(WARM_UP):
        work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = median(seconds_of(work, device) for _ in range(repeats))
    return seconds, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def measure_row(
    name: str, clip: tagmask.Clip, sizes: Sizes, batch: int, compiler: Compiler | None, repeats: int
) -> Measured:
    """Measure one row, without operations; one that does not fit, or cannot be compiled, says so."""
    row = partial(Measured, name, clip.precision, compiler is not None, batch)
    try:
        work = WORKS[name](clip, sizes, batch, compiler or (lambda _: None))
        seconds, memory = measure(work, clip.device, repeats)
        # A compiled program hides its operations from the counter.
        flops = count_flops(work) if compiler is None else None
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return row(error="out of memory")
    except Exception as error:  # of any kind, from the compiler
        if compiler is None:
            raise
        return row(error=f"{type(error).__name__}: {str(error).splitlines()[0][:80]}")
    return row(seconds, batch / seconds, flops, memory=memory)


def measure_rows(
    precision: str,
    load: Callable[[str], tagmask.Clip],
    sizes: Sizes,
    options: argparse.Namespace,
    peak: float,
) -> Iterator[Measured]:
    """Measure all rows of a precision, one model at a time."""

    def compile_blocks(vision: nn.Module) -> None:
        for block in vision.get_submodule("transformer.resblocks").children():
            block.compile(backend=options.backend)

    flops: dict[tuple[str, int], int | None] = {}
    for compiler in (None, compile_blocks) if options.compile else (None,):
        clip = load(precision)
        if compiler is not None:
            compiler(clip.vision)
        for work in options.only or WORKS:
            if precision not in precisions_of(work) or (compiler is not None and work == "pamr"):
                continue
            for batch in sizes.windows if work == "tower" else sizes.batches:
                row = measure_row(work, clip, sizes, batch, compiler, options.repeats)
                count = flops.setdefault((work, batch), row.flops)
                if count and row.seconds:
                    row = replace(row, flops=count, share_of_peak=count / row.seconds / peak)
                yield row


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="the bundled model and small images")
    parser.add_argument(
        "--only", action="append", choices=tuple(WORKS), metavar="NAME", help=", ".join(WORKS)
    )
    parser.add_argument("--precision", action="append", choices=PRECISIONS, metavar="NAME")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU only")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--out", type=Path, default=Path("build/gpu.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        device = choose_device(options.device)
    except InputError as error:
        sys.exit(f"{error} `--device cpu --small` runs the same program on a processor.")
    sizes = SMALL if options.small else Sizes(tagmask.recipe("sclip/voc20").words)
    if options.compile is None:
        options.compile = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"torch {torch.__version__}, {device} ({name}), images of {sizes.image}, {len(sizes.words)} words\n"
    )
    rows: list[Measured] = []
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, temporary_home():
        weights: Path | str = "miniature"
        if not options.small:
            weights = Path(folder) / "ViT-B-16.pt"
            torch.save(make_weights(), weights)
        load = partial(load_clip, weights, str(device))
        print("| work | precision | compiled | batch | images/s | GFLOP | of peak | peak MiB |")
        print("|---|---|---|---|---|---|---|---|")
        for precision in options.precision or PRECISIONS:
            peaks[precision] = matmul_peak(precision, device, sizes.matrix)
            for row in measure_rows(precision, load, sizes, options, peaks[precision]):
                rows.append(row)
                print(row.cells(), flush=True)
    rates = ", ".join(f"{precision} {rate / 1e12:.3g}" for precision, rate in peaks.items())
    print(f"\n* peak: a product of {sizes.matrix} x {sizes.matrix} matrices, in TFLOP/s: {rates}")
    report = {
        "torch": torch.__version__,
        "device": str(device),
        "name": name,
        "peaks": peaks,
        "sizes": asdict(sizes),
        "rows": [asdict(row) for row in rows],
    }
    write_bytes(options.out, json.dumps(report, indent=1).encode())


def load_clip(weights: Path | str, device: str, precision: str) -> tagmask.Clip:
    """Load the weights anew, since a compiled tower stays compiled."""
    activation = None if weights == "miniature" else "quickgelu"
    return tagmask.load(weights, device=device, precision=precision, activation=activation)


if __name__ == "__main__":
    main()
