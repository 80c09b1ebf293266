"""Time and memory of masks of one image by the number of words: 2 to 5,000. One process per line.

    python -m benchmarks.words [--only WORDS ...] [--program NAME ...] [--repeats N] [--limit SECONDS]

SCLIP on 375 x 500 with random weights of ViT-B/16's size; one sentence per word, encoded before timing.

    labels         the best word of every pixel
    confidence     the same and its probability, as `tagmask mask` records it
    plain          `benchmarks.plain`: the scores of all words at full size, in float32; not with 5,000 words,
                   whose scores alone take 3.5 GiB several times over
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import tagmask
from benchmarks.fresh_process import in_fresh_process
from benchmarks.inputs import make_image, make_weights, temporary_home
from benchmarks.plain import plain_sclip
from benchmarks.process_memory import memory_bytes, reset_peak
from tagmask.dense.prompts import text_features
from tagmask.settings.recipes import MaskRecipe

COUNTS = (2, 21, 171, 1203, 5000)
PROGRAMS = ("labels", "confidence", "plain")
MOST_PLAIN = 1203
"""Words up to which the plain program runs."""
TEMPLATES = ("a photo of a {}.",)


def measure(weights: str, program: str, count: int, precision: str, repeats: int) -> tuple[float, float]:
    """Return the median of the seconds of a call, and MiB at the peak."""
    clip = tagmask.load(weights, precision=precision, activation="quickgelu")
    words = [f"thing {i}" for i in range(count)]
    segmenter = tagmask.Segmenter(clip, words=words, background=[], templates=TEMPLATES, among="words")
    image = make_image(375, 500)
    if program == "plain":
        recipe = segmenter.recipe
        assert isinstance(recipe, MaskRecipe)
        text = text_features(clip, words, TEMPLATES)
        work: Callable[[], object] = partial(plain_sclip, make_weights(), image, recipe, text)
    else:
        work = partial(segmenter, image, confidence=program == "confidence")
    work()
    gc.collect()
    reset_peak()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), memory_bytes("VmHWM") / 2**20


def print_table(weights: str, options: argparse.Namespace) -> None:
    """Print the table line by line."""
    print("| words | program | seconds | peak MiB | seconds / those of the first line of the program |")
    print("|---|---|---|---|---|")
    first: dict[str, float] = {}
    for count in options.only or COUNTS:
        for program in options.program or PROGRAMS:
            if program == "plain" and count > MOST_PLAIN:
                continue
            precision = "float32" if program == "plain" else "auto"
            found = in_fresh_process(
                measure, weights, program, count, precision, options.repeats, limit=options.limit
            )
            if found is None:
                print(f"| {count} | {program} | over {options.limit:.0f} | - | - |", flush=True)
                continue
            seconds, peak = found
            times = seconds / first.setdefault(program, seconds)
            print(f"| {count} | {program} | {seconds:.2f} | {peak:.0f} | {times:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", type=int, metavar="WORDS", help="default: 2 to 5000")
    parser.add_argument("--program", action="append", choices=PROGRAMS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS", help="per line, default 600")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, temporary_home():
        weights = str(Path(scratch) / "ViT-B-16.pt")
        torch.save(make_weights(), weights)
        print(f"{torch.get_num_threads()} threads\n")
        print_table(weights, options)


if __name__ == "__main__":
    main()
