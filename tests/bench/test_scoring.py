import time

import numpy as np
import pytest

from tagmask import Segmenter, Tagger, load
from tagmask.bench.journal import Record
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.scoring import evaluate, mask_scorer, tag_scorer
from tagmask.clip.load import Clip
from tagmask.data.sample import Sample
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
        assert score(sample(seed)) == Record(id=f"image-{seed}", pixels=tuple(matrix.cells()))


def test_recorded_scores_are_exact(clip: Clip) -> None:
    tagger = Tagger(clip, recipe=tagging())
    record = tag_scorer(tagger, world())(sample(2))
    tags = tagger(picture(2))
    np.testing.assert_array_equal(np.float32(record.scores), tags.scores)
    assert record.chosen == tags.chosen
    assert max(len(str(s)) for s in record.scores or ()) < 16


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
def test_failures_of_one_image_are_recorded(
    clip: Clip, changed: dict[str, object], kind: str, reason: str
) -> None:
    score = mask_scorer(Segmenter(clip, recipe=mask_recipe()), world())
    record = score(sample(0, **changed))
    assert (record.failed, record.pixels) == (kind, None)
    assert reason in (record.reason or "")


def test_tag_scorer_records_failures(clip: Clip) -> None:
    score = tag_scorer(Tagger(clip, recipe=tagging()), world())
    assert score(sample(0, tags=None)).failed == "tags"
    assert score(sample(0, read_image=broken())).failed == "image"


def test_recipes_of_other_data_sets_are_refused(clip: Clip) -> None:
    segmenter = Segmenter(clip, words=["tree"], background=["sky"])
    with pytest.raises(InputError, match=r"have 2 classes .* drawn has 4"):
        mask_scorer(segmenter, world())
    with pytest.raises(InputError, match=r"have 1 classes .* drawn has 3"):
        tag_scorer(Tagger(clip, words=["tree"], background=["sky"]), world())
    four = Segmenter(clip, words=["tree", "flower", "fish", "bird"], background=[])
    with pytest.raises(InputError, match="drawn has a background class"):
        mask_scorer(four, world())


@pytest.mark.parametrize("workers", [1, 3])
def test_records_keep_the_order_of_the_samples(workers: int) -> None:
    def score(sample: Sample) -> Record:
        time.sleep(0.002 if sample.id.endswith(("0", "3")) else 0)
        return Record(id=sample.id)

    records = evaluate((sample(seed) for seed in range(12)), score, workers=workers)
    assert [record.id for record in records] == [f"image-{i}" for i in range(12)]


def test_bugs_are_raised_and_out_of_memory_is_recorded() -> None:
    def out_of_memory(sample: Sample) -> Record:
        raise RuntimeError("CUDA out of memory")

    assert [r.failed for r in evaluate(world(2).samples, out_of_memory)] == ["memory", "memory"]

    def faulty(sample: Sample) -> Record:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        list(evaluate(world(2).samples, faulty))

    def refusing(sample: Sample) -> Record:
        raise InputError("no")

    assert [r.failed for r in evaluate(world(1).samples, refusing)] == ["method"]
    with pytest.raises(InputError, match="workers is 0"):
        list(evaluate([], out_of_memory, workers=0))
