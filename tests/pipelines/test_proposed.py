"""Regions from elsewhere, with every kind of mask method, compared with a naive version on whole maps."""

from typing import Any

import numpy as np
import pytest

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError, ShapeError
from tagmask.proposals.annotations import read_annotations
from tagmask.regions.proposals import Proposals
from tests.segmenters import BACKGROUND, KINDS, WORDS, make_segmenter, scores_of

SIZE = (60, 80)


@pytest.fixture
def image(shapes: list[np.ndarray]) -> np.ndarray:
    return shapes[0][40:100, 30:110]


@pytest.fixture
def masks() -> np.ndarray:
    """A large region, two that overlap it and each other, and an empty one."""
    masks = np.zeros((4, *SIZE), bool)
    masks[0, :9, :4] = True
    masks[1, :45, :60] = True
    masks[2, 8:30, 2:78:3] = True
    return masks


def naive(
    plain: tagmask.Segmentation, masks: np.ndarray, lowest: float = 0.0, otherwise: int = 0
) -> np.ndarray:
    """Each mask's best mean score over whole maps; the larger first, the smaller over it."""
    labels = plain.labels.astype(int)
    classes = range(len(plain.words))
    if plain.tags is not None:
        tags = [tag + plain.background for tag in plain.tags]
        classes = [0, *tags] if plain.background else tags
    for mask in sorted(masks, key=lambda mask: -mask.sum()):
        if mask.any():
            means = [scores_of(plain)[c][mask].mean(dtype=np.float64) for c in classes]
            labels[mask] = classes[int(np.argmax(means))] if max(means) >= lowest else otherwise
    return labels


SETTINGS: dict[str, dict[str, Any]] = {
    "dense": {"among": "words"},
    "dense, tags": {},
    "dense, threshold": {"among": "words", "prob_thd": 0.3},
    "dense, no background": {"among": "words", "background": [], "prob_thd": 0.3},
    "dense, pamr": {"among": "words", "pamr_steps": 2},
    "dense, crf": {"among": "words", "crf": "cls-seg", "prob_thd": 0.3},
    "cls-seg": {},
    "cls-seg, pamr": {"pamr_steps": 2},
    "cls-seg, crf": {"crf": "cls-seg"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_region_gets_the_class_of_its_mean_scores(
    name: str, sclip_model: Clip, image: np.ndarray, masks: np.ndarray
) -> None:
    kind = name.partition(",")[0]
    segmenter = make_segmenter(sclip_model, kind, **SETTINGS[name])
    tags = [2, 0] if kind == "cls-seg" or name == "dense, tags" else None
    plain = segmenter(image, tags=tags, scores=True)
    with_regions = segmenter(image, tags=tags, proposals=masks)
    lowest = 0.3 if name in ("dense, threshold", "dense, no background") else 0.0
    expected = naive(plain, masks, lowest, 0 if segmenter.background else 255)
    np.testing.assert_array_equal(with_regions.labels, expected)
    assert (with_regions.labels != plain.labels).any()
    uncovered = ~masks.any(axis=0)
    np.testing.assert_array_equal(with_regions.labels[uncovered], plain.labels[uncovered])


@pytest.mark.parametrize("kind", KINDS)
def test_strips_do_not_matter(
    kind: str, sclip_model: Clip, image: np.ndarray, masks: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = make_segmenter(sclip_model, kind)
    whole = segmenter(image, tags=[2, 0], proposals=masks)
    monkeypatch.setattr("tagmask.dense.labels._STRIP", 1)
    monkeypatch.setattr("tagmask.papers.clip_es._STRIP", 1)
    np.testing.assert_array_equal(segmenter(image, tags=[2, 0], proposals=masks).labels, whole.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_confidence_is_that_of_the_regions(
    kind: str, sclip_model: Clip, image: np.ndarray, masks: np.ndarray
) -> None:
    segmenter = make_segmenter(sclip_model, kind)
    plain = segmenter(image, tags=[2, 0], scores=True)
    found = segmenter(image, tags=[2, 0], scores=True, confidence=True, proposals=masks)
    np.testing.assert_array_equal(scores_of(found), scores_of(plain))
    best = scores_of(plain).max(axis=0)
    for mask in sorted(masks[:3], key=lambda mask: -mask.sum()):
        best[mask] = scores_of(plain)[:, mask].mean(axis=1, dtype=np.float64).max()
    assert found.class_confidence is not None
    for word, value in found.class_confidence.items():
        assert value == pytest.approx(best[found.labels == found.words.index(word)].mean(), rel=1e-5)


def test_all_forms_of_proposals_give_the_same(
    sclip_model: Clip, image: np.ndarray, masks: np.ndarray, tmp_path: Any
) -> None:
    segmenter = make_segmenter(sclip_model, "cls-seg")
    expected = segmenter(image, tags=[2, 0], proposals=masks).labels
    generated = [{"segmentation": mask, "area": int(mask.sum()), "bbox": [0, 0, 1, 1]} for mask in masks]
    np.savez(tmp_path / "a.npz", masks=masks)
    for form in (generated, tmp_path / "a.npz", str(tmp_path / "a.npz"), Proposals.of_masks(masks, SIZE)):
        np.testing.assert_array_equal(segmenter(image, tags=[2, 0], proposals=form).labels, expected)
    labels = Proposals.of_masks(masks, SIZE).index_map() + 1
    apart = [labels == value for value in (1, 2, 3)]
    expected = segmenter(image, tags=[2, 0], proposals=np.array(apart)).labels
    np.testing.assert_array_equal(segmenter(image, tags=[2, 0], proposals=labels).labels, expected)


def test_lists_of_images_have_a_list_of_proposals(
    sclip_model: Clip, image: np.ndarray, masks: np.ndarray
) -> None:
    segmenter = make_segmenter(sclip_model, "dense", among="words")
    first, second = segmenter([image, image[:50]], proposals=[None, masks[:, :50]])
    np.testing.assert_array_equal(first.labels, segmenter(image).labels)
    np.testing.assert_array_equal(second.labels, segmenter(image[:50], proposals=masks[:, :50]).labels)
    with pytest.raises(InputError, match="Invalid proposals for 2 images"):
        segmenter([image, image], proposals=[masks])


def test_images_without_tags_or_background_keep_their_labels(
    sclip_model: Clip, image: np.ndarray, masks: np.ndarray
) -> None:
    segmenter = tagmask.Segmenter(sclip_model, WORDS, background=[], templates=("a {}.",))
    assert (segmenter(image, tags=[], proposals=masks).labels == 255).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 5, 5), bool), r"the array is \(1, 5, 5\) of bool; expected bool \(n, 60, 80\)"),
        (np.zeros(SIZE), "of float64"),
        ([{"area": 3}], "region 1 is invalid: it is neither polygons nor run lengths"),
        ([{"segmentation": np.zeros((5, 5), bool)}], r"region 1 is invalid: its mask is \(5, 5\) of bool"),
        (3, "Invalid proposals: 'int'"),
    ],
)
def test_unusable_proposals_are_refused(
    given: Any, message: str, sclip_model: Clip, image: np.ndarray
) -> None:
    segmenter = tagmask.Segmenter(sclip_model, WORDS, background=BACKGROUND, templates=("a {}.",))
    with pytest.raises(InputError, match=message):
        segmenter(image, proposals=given)


def test_proposals_of_another_size_are_refused(sclip_model: Clip, image: np.ndarray) -> None:
    segmenter = tagmask.Segmenter(sclip_model, WORDS, background=BACKGROUND, templates=("a {}.",))
    with pytest.raises(ShapeError, match=r"are for \(5, 5\), but the image is \(60, 80\)"):
        segmenter(image, proposals=read_annotations([], (5, 5)))
