"""WeakCLIP's ablations in the miniature world: its parts and its losses, each trained with several seeds.

    nohup python -m benchmarks.weak_ablation FOLDER [--images 400] [--steps 1600] [--seeds 3] &
    python -m benchmarks.weak_ablation FOLDER --table        # of what is finished

It takes hours: a training per row and seed. A run that was stopped or killed goes on where it was; finished
rows are not repeated. All rows see the same crops (four fixed ones per image), whose features from the frozen
CLIP are computed once and kept in FOLDER/features. Ground-truth masks are used for scoring only: the masks
that a row predicts of its training images, at one scale, are scored every eighth of the steps, and after the
last also with a CRF and by how many of the seeds' wrong pixels they repeat: from few images a row learns the
seeds by heart, mistakes included. FOLDER/table.md is written anew after each row.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

import tagmask
from benchmarks.figures.stamps import weights_hash
from benchmarks.weak import Tags, count_folder, settings, write_all_masks, write_images
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.validation import DataSetValidation
from tagmask.data.miniature import scene_image, scene_mask, scene_tags
from tagmask.data.sample import Dataset, Sample
from tagmask.files import write_bytes
from tagmask.masks import read_index_png
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.runtime.folders import FoundImage
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.seeds import from_segmenter
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_weakclip
from tagmask.weak.train_log import read_log
from tagmask.weak.validation import VALIDATION_FILE

__all__ = ["ROWS", "TABLES", "Measured", "Row", "main", "markdown", "order_of"]

FIRST_SEED = 504
VIEWS = 4
"""Fixed crops of an image."""
CACHE_GB = 8
VALIDATIONS = 8
"""Times that a row is scored during its training."""
_NO_DECODER = 'model.decoder="none"'
_DIRECT = ("model.contexts=0", "model.co_attention=false", _NO_DECODER)


@dataclass(frozen=True)
class Row:
    """A variant of WeakCLIP."""

    label: str
    changes: tuple[str, ...]
    """Its settings, compared with the whole model's."""
    trained: bool = True
    """False: nothing is trained, so there is one result for all seeds."""


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "fixed": Row("CLIP fixed", _DIRECT, trained=False),
        # The paper does not say with which loss and rate. A CLIP that is fine-tuned takes the paper's rate;
        # the miniature's, five times as high, is for decoders that start from random weights.
        "unfixed": Row(
            "CLIP unfixed, seed loss",
            (*_DIRECT, "model.freeze=none", "loss.crf=0", "loss.contrast=0", "optimiser.lr=1e-4"),
        ),
        "matching": Row("CLIP fixed + co-attention", ("model.contexts=0", _NO_DECODER)),
        "prompts": Row("+ learnable prompts", (_NO_DECODER,)),
        "plain": Row("+ pyramid adapter, plain decoder", ('model.decoder="plain"',)),
        "whole": Row("+ scores shown to the decoder (the whole)", ()),
        "seed": Row("seed loss", ("loss.crf=0", "loss.contrast=0")),
        "crf": Row("+ divergence from the CRF", ("loss.contrast=0",)),
    }
)

SEEDS = "seeds"
"""Key of the row with the seeds' own score."""

TABLES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "Parts": {
            SEEDS: 60.0, "unfixed": 58.1, "fixed": 12.3, "matching": 67.4, "prompts": 68.9, "plain": 70.3,
            "whole": 72.6,
        },
        "Losses": {"seed": 68.7, "crf": 71.3, "whole": 74.0},
    }
)  # fmt: skip
"""The rows of each table and the paper's figures for PASCAL VOC's train images, which are unverified."""


@dataclass(frozen=True)
class Measured:
    """The scores of a row, in percent, one per random seed."""

    plain: tuple[float, ...]
    """mIoU of the masks at one scale."""
    crf: tuple[float, ...]
    """The same after a CRF."""
    repeated: tuple[float, ...] = ()
    """Share of the seeds' wrong pixels that the masks repeat."""
    change: tuple[float, ...] = ()
    """Change of `plain` in the last quarter of the steps."""


# -- Measuring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """What all rows share."""

    folder: Path
    images: tuple[FoundImage, ...]
    steps: int
    seeds: int
    changes: tuple[str, ...]

    @property
    def conditions(self) -> dict[str, object]:
        """What results of one folder have in common."""
        return {
            "images": len(self.images),
            "steps": self.steps,
            "changes": list(self.changes),
            "weights": weights_hash(),
        }

    def runs(self) -> list[tuple[str, int]]:
        """Rows and random seeds, seed by seed, so that a table with one seed each comes first."""
        return [
            (key, FIRST_SEED + i)
            for i in range(self.seeds)
            for key, row in ROWS.items()
            if row.trained or i == 0
        ]


def measure_seeds(experiment: Experiment) -> None:
    """Make the seeds, without a CRF (they are trained on) and with one, and score both."""
    if read_result(experiment, SEEDS, 0) is not None:
        return
    clip = tagmask.load("miniature")
    tags: Tags = {image.path.stem: scene_tags(int(image.path.stem)) for image in experiment.images}
    scores = []
    for crf, name in ((None, "seeds"), ("cls-seg", "seeds-crf")):
        segmenter = tagmask.Segmenter(
            clip, CLASS_NAMES, background=BACKGROUND_NAMES, method="cls-seg", crf=crf
        )
        write_all_masks(experiment.images, from_segmenter(segmenter, tags), experiment.folder / name)
        scores.append(miou(experiment, name))
    write_result(experiment, SEEDS, 0, {"plain": scores[0], "crf": scores[1]})


def measure_row(experiment: Experiment, key: str, seed: int) -> None:
    """Train a row with one random seed and score its masks, unless that is done."""
    if read_result(experiment, key, seed) is not None:
        return
    here, name = experiment.folder, f"{key}-{seed}"
    shared = (
        f"run.seed={seed}", f"views={VIEWS}", f"cache_gb={CACHE_GB}", f"cache_dir={here / 'features'}",
        "picture_every=0",
    )  # fmt: skip
    changes = (*shared, *experiment.changes, *ROWS[key].changes)
    config = settings("weakclip/miniature", changes, here / "images", here / SEEDS, experiment.steps)
    every = max(experiment.steps // VALIDATIONS, 1)
    train_weakclip(config, here / name, validation=training_images(experiment, every))
    scores = []
    for crf, ending in ((None, "masks"), ("weakclip/voc", "masks-crf")):
        views = PseudoSettings(scales=(1.0,), flip=False, crf=crf)
        write_all_masks(experiment.images, pseudo_source(here / name, views), here / f"{name}-{ending}")
        scores.append(miou(experiment, f"{name}-{ending}"))
    curve = [[row["step"], row["miou"]] for row in read_log(here / name, VALIDATION_FILE)]
    found = {"repeated": repeated(experiment, f"{name}-masks"), "curve": curve}
    write_result(experiment, key, seed, {"plain": scores[0], "crf": scores[1], **found})


def training_images(experiment: Experiment, every: int) -> DataSetValidation:
    """The training images with their ground truth, to score a row during its training."""

    def sample(image: FoundImage) -> Sample:
        seed = int(image.path.stem)
        return Sample(image.path.stem, lambda: scene_image(seed), read_mask=lambda: scene_mask(seed))

    samples = [sample(image) for image in experiment.images]
    dataset = Dataset("miniature", ("background", *CLASS_NAMES), CLASS_NAMES, samples)
    return DataSetValidation(dataset, "its training images", every, samples)


def miou(experiment: Experiment, folder: str) -> float:
    """Score a folder of masks, in percent."""
    matrix: ConfusionMatrix = count_folder(experiment.images, experiment.folder / folder)
    return 100 * matrix.miou()


def repeated(experiment: Experiment, folder: str) -> float:
    """Share of the seeds' wrong pixels that a folder of masks repeats, in percent."""
    wrong = same = 0
    for image in experiment.images:
        name = f"{image.path.stem}.png"
        seeds = read_index_png(experiment.folder / SEEDS / "masks" / name)
        masks = read_index_png(experiment.folder / folder / "masks" / name)
        errors = (seeds != scene_mask(int(image.path.stem))) & (seeds != IGNORE_INDEX)
        wrong += np.count_nonzero(errors)
        same += np.count_nonzero(errors & (masks == seeds))
    return 100 * same / wrong if wrong else 0.0


def write_result(experiment: Experiment, key: str, seed: int, scores: Mapping[str, object]) -> None:
    """Keep the result of a row and seed."""
    record = {"conditions": experiment.conditions, **scores}
    path = experiment.folder / "results" / f"{key}-{seed}.json"
    write_bytes(path, (json.dumps(record, indent=2) + "\n").encode())


def read_result(experiment: Experiment, key: str, seed: int) -> dict[str, object] | None:
    """Read the result of a row and seed; None if there is none yet."""
    path = experiment.folder / "results" / f"{key}-{seed}.json"
    if not path.exists():
        return None
    record: dict[str, object] = json.loads(path.read_bytes())
    if record["conditions"] != experiment.conditions:
        raise SystemExit(
            f"{path} was measured with {record['conditions']}, not with {experiment.conditions}. "
            "Give the same options, or another folder."
        )
    return record


# -- The table ----------------------------------------------------------------------------------------------


def collect(experiment: Experiment) -> dict[str, Measured]:
    """The finished rows."""
    found = {}
    for key in (SEEDS, *ROWS):
        seeds = [0] if key == SEEDS else [FIRST_SEED + i for i in range(experiment.seeds)]
        records = [record for seed in seeds if (record := read_result(experiment, key, seed)) is not None]
        if records:
            found[key] = Measured(
                tuple(float(str(record["plain"])) for record in records),
                tuple(float(str(record["crf"])) for record in records),
                tuple(float(str(record["repeated"])) for record in records if "repeated" in record),
                tuple(change for record in records if (change := _change(record)) is not None),
            )
    return found


def _change(record: Mapping[str, object]) -> float | None:
    """Change of the score in the last quarter of the steps."""
    curve = record.get("curve")
    if not isinstance(curve, list) or len(curve) < 2:
        return None
    last_step, last = curve[-1]
    before = [score for step, score in curve if step <= 0.75 * last_step]
    return last - before[-1] if before else None


def order_of(key: str, paper: Mapping[str, float], found: Mapping[str, Measured]) -> str:
    """Compare a row's rank with the paper's.

    Two rows are in order if the difference has the paper's sign for every random seed that both have, in
    reversed order if it has the other for every seed, and not separated otherwise. A row without seeds of its
    own is compared with each seed of the other. With one seed nothing is separated.

    Returns:
        "yes", "no: under X, over Y", "open: X", or "" if the row or all others are not finished.

    Example:
        >>> two = {"a": Measured((1.0, 2.0), ()), "b": Measured((3.0, 4.0), ())}
        >>> order_of("a", {"a": 10.0, "b": 20.0}, two), order_of("b", {"a": 20.0, "b": 10.0}, two)
        ('yes', 'no: over a')
    """
    others = {other: figure for other, figure in paper.items() if other in found and other != key}
    if key not in found or not others:
        return ""
    wrong, undecided = [], []
    for other, figure in others.items():
        above = paper[key] > figure
        one, two = _paired(found[key].plain, found[other].plain)
        signs = {(a > b) == above for a, b in zip(one, two, strict=True)}
        if len(one) < 2 or len(signs) > 1:
            undecided.append(_label(other))
        elif signs == {False}:
            wrong.append(f"{'under' if above else 'over'} {_label(other)}")
    if wrong:
        return "no: " + ", ".join(wrong)
    return "open: " + ", ".join(undecided) if undecided else "yes"


def _paired(one: Sequence[float], two: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    """The values of the random seeds that both have; a single value stands for all seeds."""
    count = max(len(one), len(two)) if 1 in (len(one), len(two)) else min(len(one), len(two))
    return tuple((list(values) * count)[:count] for values in (one, two))  # type: ignore[return-value]


def _label(key: str) -> str:
    return "seeds" if key == SEEDS else ROWS[key].label.removeprefix("+ ") if key in ROWS else key


def markdown(found: Mapping[str, Measured], conditions: Mapping[str, object]) -> list[str]:
    """Both tables as lines of Markdown; rows that are not finished are marked."""
    changes = conditions["changes"]
    others = f", {' '.join(map(str, changes))}" if isinstance(changes, list) and changes else ""
    lines = [
        f"{conditions['images']} images, {conditions['steps']} steps{others}. mIoU of the masks of the",
        "training images, mean ± standard deviation over the random seeds (their number in brackets),",
        f"with the bundled model `{conditions['weights']}`.",
    ]
    for title, paper in TABLES.items():
        lines += [
            "",
            f"### {title}",
            "",
            "| | mIoU | with a CRF | seeds' wrong pixels repeated | change in the last quarter "
            "| paper [unverified] | the paper's order |",
            "|---|---|---|---|---|---|---|",
        ]
        rows = paper if SEEDS in paper else {SEEDS: None, **paper}
        for key, figure in rows.items():
            label = "seeds: CLIP-ES, true tags" if key == SEEDS else ROWS[key].label
            if key not in found:
                lines.append(f"| {label} | not finished | | | | {_figure(figure)} | |")
                continue
            row = found[key]
            order = order_of(key, paper, found) if figure is not None else ""
            lines.append(
                f"| {label} | {_spread(row.plain, counted=True)} | {_spread(row.crf)} "
                f"| {_spread(row.repeated, unit=' %')} | {_spread(row.change, sign='+')} "
                f"| {_figure(figure)} | {order} |"
            )
    return lines


def _figure(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.1f}"


def _spread(values: Sequence[float], *, sign: str = "", unit: str = "", counted: bool = False) -> str:
    if not values:
        return ""
    text = f"{statistics.fmean(values):{sign}.1f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.1f}"
    text += unit
    return f"{text} ({len(values)})" if counted and len(values) > 1 else text


# -- The command --------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all rows, and write the table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seeds", type=int, default=3, help="random seeds")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="only print the table of what is finished")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    images = tuple(write_images(folder / "images", options.images))
    experiment = Experiment(folder, images, options.steps, options.seeds, tuple(options.changes))
    if options.table:
        print("\n".join(_table(experiment)))
        return
    start = time.monotonic()
    measure_seeds(experiment)
    runs = experiment.runs()
    for done, (key, seed) in enumerate(runs, start=1):
        measure_row(experiment, key, seed)
        _table(experiment)
        minutes = (time.monotonic() - start) / 60
        print(f"{done} of {len(runs)}: {ROWS[key].label}, seed {seed}; {minutes:.0f} minutes", flush=True)
    print("\n".join(_table(experiment)))


def _table(experiment: Experiment) -> list[str]:
    """Write FOLDER/table.md and return its lines."""
    lines = markdown(collect(experiment), experiment.conditions)
    write_bytes(experiment.folder / "table.md", ("\n".join(lines) + "\n").encode())
    return lines


if __name__ == "__main__":
    main()
