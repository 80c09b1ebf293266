"""Effect of lower precision in the miniature world: labels and tags compared with float32, mIoU and mAP.

python -m benchmarks.precision [--scenes N]
"""

import argparse

import numpy as np

import tagmask
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.bootstrap import bootstrap_samples, mean_ap
from tagmask.bench.miniature.ground_truth import objects_only, present, scenes
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, Scene
from tagmask.settings.engine import EngineSettings

PRECISIONS = ("float32", "bfloat16", "float16", "auto")
METHODS = ("clip", "maskclip", "sclip", "naclip", "sc-clip")


class Predictions:
    """All labels and tags at one precision, of one engine."""

    def __init__(self, precision: str, evaluated: list[Scene], engine: EngineSettings | None = None) -> None:
        clip = tagmask.load("miniature", precision=precision)
        segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, engine=engine)
        clip = segmenter.clip  # with the engine
        self.precision = clip.lowest_precision
        tags_first = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, method="cls-seg")
        tagger = tagmask.Tagger(clip, CLASS_NAMES, background=BACKGROUND_NAMES)
        self.labels: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, "cls-seg")}
        for scene in evaluated:
            for name, seg in segmenter.compare(scene.image, METHODS).items():
                self.labels[name].append(seg.labels)
            self.labels["cls-seg"].append(tags_first(scene.image).labels)
        self.tags = [tagger(scene.image) for scene in evaluated]

    def same_labels(self, name: str, other: "Predictions") -> float:
        """Return the share of pixels with the same label as in other predictions."""
        pairs = zip(self.labels[name], other.labels[name], strict=True)
        return float(np.mean(np.concatenate([(a == b).ravel() for a, b in pairs])))

    def same_tags(self, other: "Predictions") -> float:
        """Return the share of scenes with the same tags as in other predictions."""
        return float(np.mean([a.chosen == b.chosen for a, b in zip(self.tags, other.tags, strict=True)]))

    def miou(self, name: str, evaluated: list[Scene]) -> float:
        """Return the mIoU in percent."""
        matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
        for labels, scene in zip(self.labels[name], evaluated, strict=True):
            matrix.update(labels, objects_only(scene.labels))
        return 100 * matrix.miou()

    def mean_ap(self, evaluated: list[Scene]) -> float:
        """Return the mAP in percent."""
        scores = np.stack([tags.scores for tags in self.tags])
        return float(mean_ap(scores, present(evaluated), bootstrap_samples(len(evaluated), count=0))[0])


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=60)
    evaluated = scenes(parser.parse_args().scenes)
    exact = Predictions("float32", evaluated)
    by_precision = {precision: Predictions(precision, evaluated) for precision in PRECISIONS[1:]}
    print(f"| {len(evaluated)} scenes | ran as | scenes with the same tags | mAP | float32's |")
    print("|---|---|---|---|---|")
    float32_ap = f"{exact.mean_ap(evaluated):.2f}"
    for precision, predictions in by_precision.items():
        same = predictions.same_tags(exact)
        ap = f"{predictions.mean_ap(evaluated):.2f}"
        print(f"| {precision} | {predictions.precision} | {same:.1%} | {ap} | {float32_ap} |")
    print()
    print("| pixels with the same label, and mIoU | " + " | ".join(exact.labels) + " |")
    print("|---|" + "---|" * len(exact.labels))
    reference = " | ".join(f"{exact.miou(name, evaluated):.2f}" for name in exact.labels)
    print(f"| float32 | {reference} |")
    for precision, predictions in by_precision.items():
        cells = []
        for name in predictions.labels:
            same = predictions.same_labels(name, exact)
            cells.append(f"{same:.2%}, {predictions.miou(name, evaluated):.2f}")
        print(f"| {precision} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
