"""Does CDA's affinity help CLS-SEG on drawn scenes, and with which settings?

    python -m benchmarks.cda_choice [--weights miniature] [--chosen-on 100] [--scenes 300]

tau, t and the way in which both affinities are combined are chosen on scenes of the miniature's training
split, with their true tags: a tagger's errors have no part in it. The choice is then scored on test scenes,
with true tags (CLIP-ES) and with those that a tagger finds (CLS-SEG), beside both without CDA, without and
with a dense CRF. Every value has its standard error (bootstrap over scenes); all rows share the same samples,
so that the difference to the row without CDA has its own.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from jaxtyping import Float
from numpy import ndarray

import tagmask
from tagmask.bench.miniature.bootstrap import bootstrap_interval, bootstrap_samples, miou, verdict
from tagmask.bench.miniature.ground_truth import scenes
from tagmask.bench.miniature.run import bootstrap_values, measure_setups
from tagmask.bench.miniature.setups import MaskSetup, Settings
from tagmask.bench.miniature.tables import CRF
from tagmask.clip.load import Clip
from tagmask.miniature.evaluation_scenes import SIZES
from tagmask.miniature.scenes import Scene, draw_scene, plan_scene
from tagmask.refine.cda import COMBINATIONS

__all__ = ["choices", "main", "training_scene"]

TAUS = (0.001, 0.003, 0.01, 0.03)
STEPS = (1, 2, 4)
_FIRST = 10**7
"""Seed of the first scene: none repeats an image that the bundled model was trained on."""


def training_scene(seed: int) -> Scene:
    """Draw a scene of the training split, at the sizes of the test scenes."""
    size = SIZES[seed % len(SIZES)]
    plan = plan_scene(_FIRST + seed, count=(1, 5), radius=(0.14, 0.42), aspect=size[1] / size[0])
    return draw_scene(plan, size)


def choices() -> list[Settings]:
    """Return every setting of CDA that is tried."""
    return [
        (("affinity", "cda"), ("cda_tau", tau), ("cda_steps", steps), ("cda_combination", combination))
        for combination, tau, steps in product(COMBINATIONS, TAUS, STEPS)
    ]


def chosen(clip: Clip, count: int) -> tuple[Settings, list[str]]:
    """Return the best choice on `count` training scenes, and a table of all."""
    drawn = [training_scene(seed) for seed in range(count)]
    setups = {settings: MaskSetup("cls-seg", settings, tags="true") for settings in ((), *choices())}
    counts = measure_setups(clip, drawn, setups.values()).counts
    samples = bootstrap_samples(count)
    values = {settings: miou(counts[setup], samples) for settings, setup in setups.items()}
    best = max(choices(), key=lambda settings: float(values[settings][0]))
    return best, list(_grid(values, best))


def _grid(values: Mapping[Settings, Float[ndarray, " r"]], best: Settings) -> Iterator[str]:
    yield f"| combination | tau | {' | '.join(f't = {steps}' for steps in STEPS)} |"
    yield f"|---|---|{'---|' * len(STEPS)}"
    for combination, tau in product(COMBINATIONS, TAUS):
        cells = []
        for settings in choices():
            each = dict(settings)
            if (each["cda_combination"], each["cda_tau"]) == (combination, tau):
                cell = f"{values[settings][0]:.1f} ± {bootstrap_interval(values[settings]):.1f}"
                cells.append(f"**{cell}**" if settings == best else cell)
        yield f"| {combination} | {tau} | {' | '.join(cells)} |"
    plain = values[()]
    yield f"| without CDA | | {plain[0]:.1f} ± {bootstrap_interval(plain):.1f} |{' |' * (len(STEPS) - 1)}"


def scored(clip: Clip, drawn: Sequence[Scene], best: Settings) -> Iterator[str]:
    """Yield a table of the choice on test scenes, beside the same without CDA."""
    rows = {
        "CLIP-ES (true tags)": ((), "true"),
        "CLIP-ES + CRF": (CRF, "true"),
        "CLS-SEG": ((), "found"),
        "CLS-SEG + CRF": (CRF, "found"),
    }
    setups = {
        (name, cda): MaskSetup("cls-seg", (*more, *cda), tags=tags)
        for name, (more, tags) in rows.items()
        for cda in ((), best)
    }
    measured = measure_setups(clip, drawn, setups.values())
    yield "| | mIoU without CDA | with CDA | difference | higher |"
    yield "|---|---|---|---|---|"
    for name in rows:
        plain, cda = (bootstrap_values(measured, setups[name, settings]) for settings in ((), best))
        gap = cda - plain
        yield (
            f"| {name} | {plain[0]:.1f} ± {bootstrap_interval(plain):.1f} "
            f"| {cda[0]:.1f} ± {bootstrap_interval(cda):.1f} "
            f"| {gap[0]:+.1f} ± {bootstrap_interval(gap):.1f} | {verdict(cda, plain)} |"
        )


def main() -> None:
    """Choose, score and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", default="miniature")
    parser.add_argument("--chosen-on", type=int, default=100, help="number of training scenes")
    parser.add_argument("--scenes", type=int, default=300, help="number of test scenes")
    options = parser.parse_args()
    clip = tagmask.load(options.weights, device="cpu")
    best, grid = chosen(clip, options.chosen_on)
    print(f"### {options.chosen_on} training scenes, true tags, mIoU\n")
    print("\n".join(grid))
    shown = ", ".join(f"{name} {value}" for name, value in best)
    print(f"\n### {options.scenes} test scenes; chosen: {shown}\n")
    print("\n".join(scored(clip, scenes(options.scenes), best)))


if __name__ == "__main__":
    main()
