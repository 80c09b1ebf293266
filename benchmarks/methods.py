"""Time of one 224 x 224 window with every method, compared with CLIP's unmodified last block.

    python -m benchmarks.methods [--repeats N]

Random weights of ViT-B/16's size, float32, 30 texts, one window at a time, one thread. Each repeat times a
method right after `clip`; the table shows the median ratios. "Alone" runs the whole tower; "added" is the
cost of a method, as a share of such a run, when the blocks before the last have been run for another method
(`Segmenter.compare`).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.inputs import make_inputs
from tagmask.catalogue import dense_rule, method, method_names
from tagmask.dense.features import extract_features
from tagmask.dense.positions import POSITIONS
from tagmask.dense.rule import SecondPassContext, patch_cosines


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        clip = make_inputs(Path(scratch)).clips[0]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, 224, 224, generator=generator)
    texts = F.normalize(torch.randn(30, clip.geometry.embed, generator=generator), dim=-1)
    context = SecondPassContext(pixels, texts, 40.0)
    layers = len(clip.vision.blocks)

    def alone(name: str) -> None:
        rule = dense_rule(name, layers)
        tower = extract_features(clip.vision, pixels, POSITIONS[rule.positions], capture=rule.capture)
        patch_cosines(tower, rule, context)

    alone("clip")
    print("| method | alone | added |\n|---|---|---|")
    for name in method_names("masks"):
        entry = method(name, "masks")
        if entry.rule is None or entry.check is not None:
            continue  # needs tags or a file
        rule = dense_rule(name, layers)
        alone(name)
        ratios, shares = [], []
        for _ in range(repeats):
            baseline = seconds(lambda: alone("clip"))
            ratios.append(seconds(lambda each=name: alone(each)) / baseline)
            tower = extract_features(clip.vision, pixels, POSITIONS[rule.positions], capture=rule.capture)
            shares.append(seconds(lambda x=tower, each=rule: patch_cosines(x, each, context)) / baseline)
        print(f"| `{name}` | {statistics.median(ratios):.2f} | {statistics.median(shares):.2f} |", flush=True)


if __name__ == "__main__":
    main()
