"""What a lower precision changes in the miniature world: labels and tags against float32, and the figures.

python -m benchmarks.precision [--scenes N]
"""

import argparse

import numpy as np

import tagmask
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.bootstrap import bootstrap_samples, mean_ap
from tagmask.bench.miniature.ground_truth import objects_only, present, scenes
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, Scene

PRECISIONS = ("float32", "bfloat16", "float16", "auto")
METHODS = ("clip", "maskclip", "sclip", "naclip", "sc-clip")


class Answers:
    """All labels and tags at one precision."""

    def __init__(self, precision: str, found: list[Scene]) -> None:
        clip = tagmask.load("miniature", precision=precision)
        self.precision = clip.precision
        segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES)
        tags_first = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, method="cls-seg")
        tagger = tagmask.Tagger(clip, CLASS_NAMES, background=BACKGROUND_NAMES)
        self.labels: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, "cls-seg")}
        for scene in found:
            for name, seg in segmenter.compare(scene.image, METHODS).items():
                self.labels[name].append(seg.labels)
            self.labels["cls-seg"].append(tags_first(scene.image).labels)
        self.tags = [tagger(scene.image) for scene in found]

    def miou(self, name: str, found: list[Scene]) -> float:
        """Percent."""
        matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
        for labels, scene in zip(self.labels[name], found, strict=True):
            matrix.update(labels, objects_only(scene.labels))
        return 100 * matrix.miou()

    def mean_ap(self, found: list[Scene]) -> float:
        """Percent."""
        scores = np.stack([tags.scores for tags in self.tags])
        return float(mean_ap(scores, present(found), bootstrap_samples(len(found), count=0))[0])


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=60)
    found = scenes(parser.parse_args().scenes)
    exact = Answers("float32", found)
    every = {precision: Answers(precision, found) for precision in PRECISIONS[1:]}
    print(f"| {len(found)} scenes | ran as | scenes with the same tags | mAP | float32's |")
    print("|---|---|---|---|---|")
    precise = f"{exact.mean_ap(found):.2f}"
    for precision, answers in every.items():
        same = np.mean([a.chosen == b.chosen for a, b in zip(answers.tags, exact.tags, strict=True)])
        print(
            f"| {precision} | {answers.precision} | {same:.1%} | {answers.mean_ap(found):.2f} | {precise} |"
        )
    print()
    print("| pixels with the same label, and mIoU | " + " | ".join(exact.labels) + " |")
    print("|---|" + "---|" * len(exact.labels))
    usual = " | ".join(f"{exact.miou(name, found):.2f}" for name in exact.labels)
    print(f"| float32 | {usual} |")
    for precision, answers in every.items():
        cells = []
        for name, labels in answers.labels.items():
            pairs = zip(labels, exact.labels[name], strict=True)
            same = np.mean(np.concatenate([(a == b).ravel() for a, b in pairs]))
            cells.append(f"{same:.2%}, {answers.miou(name, found):.2f}")
        print(f"| {precision} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
