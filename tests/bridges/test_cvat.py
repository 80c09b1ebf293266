"""The function for CVAT, run by cvat-sdk's own driver. Run by `make bridges`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tagmask
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.results import Segmentation, Tags
from tests.bridges.environments import read_answer, run_program
from tests.bridges.openings import Masks
from tests.regions.rings import filled

pytestmark = pytest.mark.bridges

WORDS = ["cat", "fish, goldfish", "car", "boat"]
SCENES = {f"scene {seed}.png": seed for seed in (1, 2)}


@pytest.fixture(scope="module")
def segmentations() -> dict[str, Segmentation]:
    segmenter = tagmask.Segmenter(tagmask.load("miniature", device="cpu"), WORDS)
    return {name: segmenter(unseen_scene(seed).image, confidence=True) for name, seed in SCENES.items()}


@pytest.fixture(scope="module")
def tags() -> dict[str, Tags]:
    tagger = tagmask.Tagger(tagmask.load("miniature", device="cpu"), WORDS)
    return {name: tagger(unseen_scene(seed).image) for name, seed in SCENES.items()}


def annotate(tmp_path: Path, **case: Any) -> tuple[dict[str, Any], Masks]:
    out = tmp_path / "masks.npz"
    printed = run_program("sdk", "annotate_cvat.py", json.dumps(case), out, tagmask=True)
    return json.loads(printed), read_answer(out)[1]


def truth(segmentations: dict[str, Segmentation]) -> Masks:
    return {
        name: {seg.words[region.label]: region.full(seg.labels.shape) for region in seg.regions("class")}  # type: ignore[arg-type]
        for name, seg in segmentations.items()
    }


def assert_same(read: Masks, expected: Masks) -> None:
    assert {name: sorted(words) for name, words in read.items()} == {
        name: sorted(words) for name, words in expected.items()
    }
    for name, words in expected.items():
        for word, mask in words.items():
            np.testing.assert_array_equal(read[name][word], mask, err_msg=f"{name}: {word}")


def test_masks_are_accepted_and_equal(tmp_path: Path, segmentations: dict[str, Segmentation]) -> None:
    printed, read = annotate(tmp_path)
    print(f"cvat-sdk {printed['version']}: {len(printed['shapes'])} masks")
    assert_same(read, truth(segmentations))
    assert {shape["type"] for shape in printed["shapes"]} == {"mask"}
    assert {shape["source"] for shape in printed["shapes"]} == {"auto"}
    parts = sum(len(list(seg.regions())) for seg in segmentations.values())
    assert len(printed["shapes"]) == parts > 2
    for shape in printed["shapes"]:
        confidence = segmentations[shape["image"]].class_confidence
        assert shape["score"] == pytest.approx((confidence or {})[shape["word"]], abs=1e-5)


def test_masks_become_polygons(tmp_path: Path, segmentations: dict[str, Segmentation]) -> None:
    printed, _ = annotate(tmp_path, driver={"conv_mask_to_poly": True}, parameters=["regions=str:class"])
    read: Masks = {name: {} for name in segmentations}
    for shape in printed["shapes"]:
        assert shape["type"] == "polygon"
        size = segmentations[shape["image"]].labels.shape
        mask = filled(np.array(shape["points"]).reshape(-1, 2), size)  # type: ignore[arg-type]
        words = read[shape["image"]]
        words[shape["word"]] = words.get(shape["word"], np.zeros(size, bool)) | mask
    assert_same(read, truth(segmentations))


def test_the_threshold_keeps_sure_classes(tmp_path: Path, segmentations: dict[str, Segmentation]) -> None:
    sure = sorted(
        value
        for seg in segmentations.values()
        for word, value in (seg.class_confidence or {}).items()
        if word != "background"
    )
    assert sure[0] < sure[-1]
    threshold = (sure[0] + sure[-1]) / 2
    printed, _ = annotate(tmp_path, driver={"conf_threshold": threshold})
    assert {(shape["image"], shape["word"]) for shape in printed["shapes"]} == {
        (name, word)
        for name, seg in segmentations.items()
        for word, value in (seg.class_confidence or {}).items()
        if word != "background" and value >= threshold
    }


def test_tags_are_accepted(tmp_path: Path, tags: dict[str, Tags]) -> None:
    printed, _ = annotate(tmp_path, annotations="tags", parameters=["annotations=str:tags"])
    assert printed["shapes"] == []
    assert {(tag["image"], tag["word"]) for tag in printed["tags"]} == {
        (name, word) for name, image in tags.items() for word in image.names
    }


def test_an_image_that_fails_leaves_the_others(
    tmp_path: Path, segmentations: dict[str, Segmentation]
) -> None:
    _, read = annotate(tmp_path, broken=True)
    assert_same(read, truth(segmentations) | {"broken.png": {}})


def test_words_without_a_label_in_the_task_can_be_left_out(tmp_path: Path) -> None:
    printed, _ = annotate(tmp_path, labels=["fish"], driver={"allow_unmatched_labels": True})
    assert {shape["word"] for shape in printed["shapes"]} == {"fish"}
