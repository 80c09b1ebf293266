import json
import re

import numpy as np
import pytest

from tagmask import Segmenter, Tagger, load
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.scoring import ScoringError, failure_kind, mask_scorer, tag_scorer
from tagmask.bench.summary import FAILURES
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tests.bench.worlds import broken, mask_recipe, picture, sample, tagging, truth, world


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load("miniature", device="cpu")


def test_mask_scorer_counts_pixels(clip: Clip) -> None:
    segmenter = Segmenter(clip, recipe=mask_recipe())
    score = mask_scorer(segmenter, world())
    for seed in range(3):
        matrix = ConfusionMatrix(4)
        matrix.update(segmenter(picture(seed)).labels, truth(seed))
        assert score(sample(seed)) == {"pixels": matrix.cells()}


def test_recorded_scores_are_exact(clip: Clip) -> None:
    tagger = Tagger(clip, recipe=tagging())
    record = tag_scorer(tagger, world())(sample(2))
    tags = tagger(picture(2))
    scores = json.loads(json.dumps(record["scores"]))
    np.testing.assert_array_equal(np.float32(scores), tags.scores)
    assert record["chosen"] == tags.chosen
    assert max(len(str(s)) for s in scores) < 16


@pytest.mark.parametrize(
    ("changed", "kind", "reason"),
    [
        ({"read_image": broken()}, "image", "bad.jpg is damaged or truncated"),
        ({"read_mask": None}, "mask", "no mask"),
        ({"read_mask": broken()}, "mask", "bad.jpg"),
        ({"read_mask": lambda: np.zeros((80, 64), np.uint8)}, "size", r"(80, 64) (h, w), the image (64, 80)"),
        ({"read_mask": lambda: np.full((64, 80), 17, np.uint8)}, "labels", "labels 17 to 17, with 4 classes"),
    ],
)
def test_failures_of_one_image_have_a_kind(
    clip: Clip, changed: dict[str, object], kind: str, reason: str
) -> None:
    score = mask_scorer(Segmenter(clip, recipe=mask_recipe()), world())
    with pytest.raises(ScoringError, match=re.escape(reason)) as failed:
        score(sample(0, **changed))
    assert failure_kind(failed.value) == kind


@pytest.mark.parametrize(("changed", "kind"), [({"tags": None}, "tags"), ({"read_image": broken()}, "image")])
def test_failures_of_one_image_have_a_kind_when_tagging(
    clip: Clip, changed: dict[str, object], kind: str
) -> None:
    score = tag_scorer(Tagger(clip, recipe=tagging()), world())
    with pytest.raises(ScoringError) as failed:
        score(sample(0, **changed))
    assert failure_kind(failed.value) == kind


def test_recipes_of_other_data_sets_are_refused(clip: Clip) -> None:
    segmenter = Segmenter(clip, words=["tree"], background=["sky"])
    with pytest.raises(InputError, match=r"have 2 classes .* drawn has 4"):
        mask_scorer(segmenter, world())
    with pytest.raises(InputError, match=r"have 1 classes .* drawn has 3"):
        tag_scorer(Tagger(clip, words=["tree"], background=["sky"]), world())
    four = Segmenter(clip, words=["tree", "flower", "fish", "bird"], background=[])
    with pytest.raises(InputError, match="drawn has a background class"):
        mask_scorer(four, world())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA out of memory"), "memory"),
        (InputError("no"), "method"),
        (RuntimeError("shapes do not fit"), "unexpected"),
        (ScoringError("labels", "17"), "labels"),
    ],
)
def test_kinds_of_other_failures(error: Exception, kind: str) -> None:
    assert failure_kind(error) == kind
    assert kind in FAILURES
