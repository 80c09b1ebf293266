"""`make speed`: this package compared with the plain implementation, in one run, on this machine.

Each repeat times both programs one right after the other and records the ratio, so a machine that slows down
for a while slows both; the table shows medians. The weights have the size of OpenAI's ViT-B/16 and random
values: the time does not depend on them. The results do, so only their agreement is shown. Text features are
computed before timing, except in the row about text.

    python -m benchmarks.speed [--repeats N] [--only NAME ...]
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.crf_cost import crf_cost
from benchmarks.floor import floor_seconds
from benchmarks.inputs import BenchmarkInputs, make_inputs, temporary_home
from benchmarks.rows import ROWS, Row, Work
from benchmarks.weakclip_rows import WEAK_ROWS, weakclip_memory

__all__ = ["main"]

_PRECISIONS = torch.float32, torch.bfloat16


def seconds(work: Work) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Current peak of matrix products, in FLOP/s."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(4))


def measure(row: Row, repeats: int) -> tuple[str, np.ndarray]:
    """Return one line of the table, and the peaks (float32, bfloat16) measured in between."""
    for program in row.programs:
        program()
    times, peaks, floors = [], [], []
    for _ in range(repeats):
        times.append([seconds(program) for program in row.programs])
        peaks.append([peak(dtype) for dtype in _PRECISIONS])
        floors.append([floor_seconds(row.passes, dtype) for dtype in _PRECISIONS])
    plain, *ours = np.array(times).T
    cells = [row.name, f"{np.median(plain):.2f}"]
    for our_seconds, top, floor in zip(ours, np.array(peaks).T, np.array(floors).T, strict=False):
        cells += [
            f"{np.median(our_seconds):.2f}",
            f"{np.median(plain / our_seconds):.2f}x",
            f"{np.median(row.flops / top / our_seconds):.0%}",
            f"{np.median(floor / our_seconds):.0%}" if row.passes else "-",
        ]
    cells += ["-"] * (10 - len(cells))
    return f"| {' | '.join(cells)} |", np.median(peaks, axis=0)


def compare(
    rows: Sequence[Callable[[BenchmarkInputs], Row]], inputs: BenchmarkInputs, repeats: int
) -> list[str]:
    """Print a table, if there are rows, and return the notes below it."""
    if not rows:
        return []
    print("| row | plain s | float32 s | ratio | of peak | of floor | auto s | ratio | of peak | of floor |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    notes, peaks = [], []
    for make in rows:
        row = make(inputs)
        line, row_peaks = measure(row, repeats)
        print(line, flush=True)
        peaks.append(row_peaks)
        notes.append(f"* {row.name}: {row.note}; {row.flops / 1e9:.0f} GFLOP")
    print()
    float32, bfloat16 = np.median(peaks, axis=0) / 1e9
    rates = f"{float32:.0f} GFLOP/s, in bfloat16 {bfloat16:.0f}"
    return [
        *notes,
        f"* peak: a product of 2048 x 2048 matrices, {rates}",
        "* floor: the sum of the products' own times at their shapes, without anything between them; a row "
        "that leaves products out may beat it",
    ]


def main() -> None:
    """Measure the selected rows and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="repeats per row, default 5")
    rows = {**ROWS, **WEAK_ROWS}
    names = (*rows, "crf", "weakclip-memory")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args()

    chosen = options.only or names
    with tempfile.TemporaryDirectory() as folder, temporary_home():
        inputs = make_inputs(Path(folder))
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; "
            f"auto is {inputs.clips[-1].precision}; load {os.getloadavg()[0]:.1f} at the start\n"
        )
        notes = compare([rows[name] for name in chosen if name in rows], inputs, options.repeats)
    if "crf" in chosen:
        notes.append(crf_cost(options.repeats))
    if "weakclip-memory" in chosen:
        notes.append(weakclip_memory())
    print("\n".join(notes))


if __name__ == "__main__":
    main()
