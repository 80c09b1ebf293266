"""`make speed`: this package against the plain transcription, in one run, on this machine.

Every repeat times both sides right after each other and keeps their ratio, so a machine that slows down for a
while slows both; what is shown is the median. The weights have the size of OpenAI's ViT-B/16 and made-up
values: time does not depend on what the numbers are, answers do, so none are shown, only how alike they are.
Text features are made before the clock starts, except in the row that is about them.

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

from benchmarks.field import crf_cost
from benchmarks.rows import ROWS, Row, Work
from benchmarks.weakclip_rows import WEAK_ROWS, weakclip_memory
from benchmarks.world import World, make_world, own_home

__all__ = ["main"]


def seconds(work: Work) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Matrix products here and now, in FLOP/s."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(4))


def measure(row: Row, repeats: int) -> tuple[str, np.ndarray]:
    """One line of the table, and the peaks (float32, bfloat16) met on the way."""
    for side in row.sides:
        side()
    times, peaks = [], []
    for _ in range(repeats):
        times.append([seconds(side) for side in row.sides])
        peaks.append([peak(torch.float32), peak(torch.bfloat16)])
    plain, *ours = np.array(times).T
    cells = [row.name, f"{np.median(plain):.2f}"]
    for spent, top in zip(ours, np.array(peaks).T, strict=False):
        cells += [
            f"{np.median(spent):.2f}",
            f"{np.median(plain / spent):.2f}x",
            f"{np.median(row.flops / top / spent):.0%}",
        ]
    cells += ["-"] * (8 - len(cells))
    return f"| {' | '.join(cells)} |", np.median(peaks, axis=0)


def compare(rows: Sequence[Callable[[World], Row]], world: World, repeats: int) -> list[str]:
    """Print a table, if there are rows, and give the notes that belong under it."""
    if not rows:
        return []
    print("| row | plain s | ours s | ratio | of peak | auto s | ratio | of peak |")
    print("|---|---|---|---|---|---|---|---|")
    notes, peaks = [], []
    for make in rows:
        row = make(world)
        line, met = measure(row, repeats)
        print(line, flush=True)
        peaks.append(met)
        notes.append(f"* {row.name}: {row.note}; {row.flops / 1e9:.0f} GFLOP")
    print()
    float32, bfloat16 = np.median(peaks, axis=0) / 1e9
    rate = f"{float32:.0f} GFLOP/s, in bfloat16 {bfloat16:.0f}"
    return [*notes, f"* peak: a product of 2048 x 2048 matrices, {rate}"]


def main() -> None:
    """Measure the rows asked for and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="pairs a row, default 5")
    rows = {**ROWS, **WEAK_ROWS}
    names = (*rows, "crf", "weakclip-memory")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    asked = parser.parse_args()

    chosen = asked.only or names
    with tempfile.TemporaryDirectory() as folder, own_home():
        world = make_world(Path(folder))
        print(
            f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; "
            f"auto is {world.clips[-1].precision}; load {os.getloadavg()[0]:.1f} at the start\n"
        )
        notes = compare([rows[name] for name in chosen if name in rows], world, asked.repeats)
    if "crf" in chosen:
        notes.append(crf_cost(asked.repeats))
    if "weakclip-memory" in chosen:
        notes.append(weakclip_memory())
    print("\n".join(notes))


if __name__ == "__main__":
    main()
