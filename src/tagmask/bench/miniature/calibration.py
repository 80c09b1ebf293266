"""What thresholds from a few labelled scenes are worth (`Tagger.calibrate`)."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from tagmask.bench.miniature.ground_truth import present
from tagmask.bench.miniature.measurements import tag_scores
from tagmask.bench.miniature.setups import Scores, TagSetup, recipe_of
from tagmask.bench.tag_metrics import f1_of_decisions
from tagmask.clip.load import Clip
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.pipelines.thresholding import best_thresholds, choose
from tagmask.settings.recipes import TagRecipe

__all__ = ["FIRST", "LABELLED", "METHODS", "TESTED", "calibration_lines"]

METHODS: tuple[TagSetup, ...] = (
    TagSetup((("method", "dpt"),)),
    TagSetup((("method", "clip"),)),
    TagSetup((("method", "piaa"),), adapted=True),
    TagSetup((("method", "tagclip"),)),
    TagSetup((("method", "clip-softmax"),)),
)
LABELLED = (20, 40, 100)
"""Numbers of labelled scenes that thresholds are learned from."""
TESTED = 150
"""Number of other scenes on which tags are scored."""
FIRST = 300
"""Seed of the first labelled scene; none is a scene of the other tables."""


def calibration_lines(
    clip: Clip, setups: Sequence[TagSetup] = METHODS, labelled: Sequence[int] = LABELLED, tested: int = TESTED
) -> Iterator[str]:
    """Yield a Markdown table: F1 over all decisions / mean of the classes, by default and calibrated.

    Args:
        clip: the weights to measure.
        setups: taggers, a row each; those that must see a set of images first are adapted to all scenes.
        labelled: numbers of labelled scenes, a column each.
        tested: number of the scenes after them, which are scored.
    """
    scenes = [unseen_scene(FIRST + i) for i in range(max(labelled) + tested)]
    truth, rest = present(scenes), slice(max(labelled), None)
    yield f"| method | default | {' | '.join(f'{count} scenes' for count in labelled)} |"
    yield f"|---|---|{'---|' * len(labelled)}"
    for setup, scores in tag_scores(clip, scenes, {setup: setup for setup in setups}).items():
        recipe = recipe_of(setup)
        assert isinstance(recipe, TagRecipe)
        cells = [_f1(scores[rest], truth[rest], recipe.tag_tau)]
        for count in labelled:
            thresholds = best_thresholds(scores[:count], truth[:count])
            cells.append(_f1(scores[rest], truth[rest], recipe.tag_tau, thresholds))
        yield f"| `{recipe.method}` | {' | '.join(cells)} |"
    yield ""


def _f1(
    scores: Scores, truth: Bool[ndarray, "n c"], tau: float, thresholds: Sequence[float | None] = ()
) -> str:
    """F1 over all decisions and as the mean of the classes, in whole percent."""
    chosen = np.zeros_like(truth)
    for row, each in zip(chosen, scores, strict=True):
        row[list(choose(each, tau, thresholds))] = True
    found = f1_of_decisions(chosen, truth)
    return f"{100 * found.overall.f1:.0f} / {100 * found.per_class.f1:.0f}"
