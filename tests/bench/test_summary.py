import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.bench.groups import coco_stuff_from_raw, grouping
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.protocol import Protocol
from tagmask.bench.summary import Failure, summarise
from tagmask.bench.tag_metrics import average_precision
from tagmask.data.sample import Dataset
from tagmask.errors import ImageError, InputError
from tagmask.resolve import recipe
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.rows import ImageResult
from tagmask.settings.recipes import MaskRecipe
from tests.bench.worlds import mask_recipe, sample, tagging, world

MASKS, TAGS = Protocol(recipe=mask_recipe()), Protocol(recipe=tagging(), metric="map")


Row = tuple[str, Mapping[str, object]]


def run_of(folder: Path, *rows: Row) -> Path:
    """A run folder with these records, in this order."""
    with RunFolder.open(folder, RunIdentity("bench", {})) as run:
        for task, (_, record) in zip(run.plan_keys([key for key, _ in rows]), rows, strict=True):
            if "failed" in record:
                run.fail(task, ImageError("gone"), record=record)
            else:
                run.done(task, ImageResult(record=record))
    return folder


def tags(seed: int, *scores: float) -> Row:
    return f"image-{seed}", {"scores": scores, "chosen": (int(np.argmax(scores)),)}


def test_average_truth_counts_only_classes_in_the_ground_truth(tmp_path: Path) -> None:
    path = run_of(tmp_path, ("image-0", {"pixels": ((0, 0, 6), (0, 2, 2), (1, 1, 4))}))
    summary = summarise(path, MASKS, world(1))
    assert summary.scores["miou"] == pytest.approx(100 * (0.75 + 1 + 0) / 3)
    truth = summarise(path, replace(MASKS, average="truth"), world(1))
    assert truth.scores["miou"] == pytest.approx(100 * (0.75 + 1) / 2)
    assert math.isnan(summary.classes["fish"])


def test_unsure_classes_are_left_out(tmp_path: Path) -> None:
    data = world(2, sample(7, tags=(0,), unsure=(2,)))
    path = run_of(tmp_path, tags(0, 0.9, 0.1, 0.2), tags(1, 0.4, 0.6, 0.1), tags(7, 0.2, 0.3, 0.8))
    summary = summarise(path, TAGS, data)
    assert (summary.scores["precision"], summary.scores["recall"]) == (100, 50)


def test_average_precision_ranks_ties_by_index_in_the_data_set(tmp_path: Path) -> None:
    records = [tags(seed, 0.5, 0.1 * seed, 0.3) for seed in range(6)]
    truth = np.zeros((6, 3), bool)
    for seed in range(6):
        truth[seed, [seed % 3, (seed // 3) % 3]] = True
    expected = average_precision(np.float32([record["scores"] for _, record in records]), truth)
    summary = summarise(run_of(tmp_path, *records[::-1]), TAGS, world(6))
    np.testing.assert_allclose(list(summary.classes.values()), 100 * expected)
    assert summary.scores["map"] == pytest.approx(100 * expected.mean())


def test_classes_in_no_image_are_left_out_of_the_mean(tmp_path: Path) -> None:
    path = run_of(tmp_path, tags(0, 0.9, 0.1, 0.2), tags(1, 0.8, 0.1, 0.2))
    data = replace(world(0), samples=[sample(0, tags=(0,)), sample(1, tags=(0,))])
    summary = summarise(path, TAGS, data)
    assert summary.scores["map"] == 100
    assert math.isnan(summary.classes["fish"])


def test_nothing_scored_is_nan(tmp_path: Path) -> None:
    path = run_of(tmp_path, ("image-0", {"failed": "image"}))
    for protocol in (MASKS, TAGS):
        summary = summarise(path, protocol, world(1))
        assert math.isnan(summary.scores[protocol.metric])
        assert summary.partial == ("1 of 1 images failed: 1 unreadable image",)
        assert summary.failures == (Failure("image-0", "image", "gone"),)


def test_invalid_records_are_refused(tmp_path: Path) -> None:
    record = tags(0, 0.1, 0.2, 0.3)
    for i, (records, match) in enumerate(
        [
            ((tags(99, 0.1, 0.2, 0.3),), "'image-99', which is not in drawn"),
            ((tags(0, 0.1),), "lacks its 3 scores"),
            ((("image-0", {"pixels": ()}),), "lacks its 3 scores"),
        ]
    ):
        with pytest.raises(InputError, match=match):
            summarise(run_of(tmp_path / str(i), *records), TAGS, world(1))
    for i, pixels in enumerate((7, "abc", [[1]], [["a", "b", "c"]], [[0, 0, 2**70]], [[0, 0.5, 1]])):
        damaged = run_of(tmp_path / f"pixels{i}", ("image-0", {"pixels": pixels}))
        with pytest.raises(InputError, match=r"'image-0'.* is damaged"):
            summarise(damaged, MASKS, world(1))
    for i, chosen in enumerate(([99], "abc", [[0], [1, 2]], {"a": 1})):
        damaged = run_of(tmp_path / f"tags{i}", ("image-0", {"scores": [0.1, 0.2, 0.3], "chosen": chosen}))
        with pytest.raises(InputError, match=r"'image-0'.* is damaged"):
            summarise(damaged, TAGS, world(1))
    with pytest.raises(InputError, match="no pixel counts"):
        summarise(run_of(tmp_path / "masks", record), MASKS, world(1))
    with RunFolder.open(tmp_path / "other", RunIdentity("mask", {})):
        pass
    with pytest.raises(InputError, match="a run of mask, not of bench"):
        summarise(tmp_path / "other", MASKS, world(1))


def test_groups_are_scored_as_mapped_labels(tmp_path: Path) -> None:
    groups = grouping("coco-stuff-27")
    stuff = recipe("sclip/coco-stuff")
    assert isinstance(stuff, MaskRecipe)
    rng = np.random.default_rng(5)
    labels, truth = rng.integers(0, 171, (2, 40, 40))
    fine, coarse = ConfusionMatrix(171), ConfusionMatrix(27)
    fine.update(labels, truth)
    table = np.array(groups.members)
    coarse.update(table[labels], table[truth])
    data = Dataset(name="stuff", classes=stuff.words, tag_classes=(), samples=[sample(0)])
    path = run_of(tmp_path, ("image-0", {"pixels": fine.cells()}))
    summary = summarise(path, Protocol(recipe=stuff, groups="coco-stuff-27"), data)
    assert list(summary.classes) == list(groups.names)
    assert summary.scores["miou"] == pytest.approx(100 * coarse.miou())


def test_groups_of_coco_stuff() -> None:
    groups = grouping("coco-stuff-27")
    assert len(groups.names) == 27
    assert set(groups.members) == set(range(27))
    raw = coco_stuff_from_raw()
    assert sorted(raw.values()) == list(range(171))
    assert (raw[0], raw[181], 11 in raw) == (0, 170, False)


def test_duplicate_class_names_get_their_index(tmp_path: Path) -> None:
    data = replace(world(1), classes=("background", "bed", "bed", "fish"))
    summary = summarise(run_of(tmp_path, ("image-0", {"pixels": ((1, 1, 1),)})), MASKS, data)
    assert list(summary.classes) == ["background", "bed (1)", "bed (2)", "fish"]
