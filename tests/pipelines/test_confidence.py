"""Confidence of masks, which is counted strip by strip, against brute force over all scores."""

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.labels import label_pixels
from tagmask.dense.prompts import split_names
from tagmask.dense.sliding import SlidingSettings
from tests.segmenters import make_segmenter, scores_of

WORDS = ["a", "b", "c", "d"]
ALL = {"among": "words"}
CASES: Mapping[str, tuple[str, Mapping[str, object], list[int] | None]] = {
    "background": ("dense", ALL, None),
    "no background": ("dense", {**ALL, "background": []}, None),
    "ignored pixels": ("dense", {**ALL, "background": [], "prob_thd": 0.3}, None),
    "thresholds": ("dense", {**ALL, "prob_thd": 0.25, "area_thd": 0.2}, None),
    "area without background": ("dense", {**ALL, "background": [], "area_thd": 0.25}, None),
    "only background": ("dense", {**ALL, "prob_thd": 1.0}, None),
    "pamr": ("dense", {**ALL, "pamr_steps": 2}, None),
    "crf": ("dense", {**ALL, "crf": "cls-seg"}, None),
    "tags found": ("dense", {}, None),
    "tags given": ("dense", {}, [2, 0]),
    "tags given without background": ("dense", {"background": []}, [3]),
    "no tags": ("dense", {}, []),
    "no candidates": ("dense", {"background": []}, []),
    "crf among tags": ("dense", {"crf": "cls-seg"}, [1, 3]),
    "cls-seg": ("cls-seg", {}, None),
    "cls-seg, tags given": ("cls-seg", {}, [1, 2]),
    "cls-seg, no tags": ("cls-seg", {}, []),
    "cls-seg, crf": ("cls-seg", {"crf": "cls-seg"}, [0, 3]),
}


@pytest.fixture(scope="module")
def image(shapes: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(shapes[0][::3, ::3])


@pytest.mark.parametrize("case", CASES)
def test_confidence_is_that_of_all_scores(
    case: str, sclip_model: Clip, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.dense.labels._STRIP", 5 * 111 * 30)  # several strips
    kind, settings, tags = CASES[case]
    segmenter = make_segmenter(sclip_model, kind, words=WORDS, **settings)
    seg = segmenter(image, tags=tags, confidence=True)
    full = segmenter(image, tags=tags, scores=True)
    np.testing.assert_array_equal(seg.labels, full.labels)
    assert seg.scores is None
    assert (full.confidence, full.class_confidence) == (None, None)
    check(seg, scores_of(full))


def check(seg: tagmask.Segmentation, scores: np.ndarray) -> None:
    height, width = seg.labels.shape
    pixels: dict[str, list[float]] = {}
    for y in range(height):
        for x in range(width):
            if seg.labels[y, x] < len(seg.words):
                pixels.setdefault(seg.words[seg.labels[y, x]], []).append(float(scores[:, y, x].max()))
    means = {word: sum(values) / len(values) for word, values in pixels.items()}
    assert seg.class_confidence == pytest.approx(means, abs=1e-6)
    asked = seg.words[int(seg.background) :]
    found = [means[word] for word in asked if word in means]
    nearest = 1 - float(scores[int(seg.background) :].max())
    assert seg.confidence == pytest.approx(min(found) if found else nearest, abs=1e-6)
    assert seg.absent == tuple(word for word in asked if word not in means)
    assert seg.pixels() == {word: len(pixels[word]) for word in seg.words if word in pixels}


def test_cases_differ_in_what_is_found(sclip_model: Clip, image: np.ndarray) -> None:
    """Else the cases above would compare little."""
    found = {}
    for case, (kind, settings, tags) in CASES.items():
        seg = make_segmenter(sclip_model, kind, words=WORDS, **settings)(image, tags=tags)
        found[case] = (set(seg.pixels()), bool((seg.labels == 255).any()))
    assert found["only background"] == ({"background"}, False)
    assert found["no candidates"] == (set(), True)
    assert found["ignored pixels"][1]
    assert len(found["no background"][0]) > 1


def test_confidence_keeps_one_plane_of_scores_however_many_words() -> None:
    words, side = 300, 600
    cosines = torch.rand(words, 8, 8, generator=torch.Generator().manual_seed(0))
    resize = torch.rand(side, 8, generator=torch.Generator().manual_seed(1))
    maps = CosineMaps(cosines, resize, resize, torch.zeros(3, 64, 64))
    names = split_names([f"word {i}" for i in range(words)])
    settings = SlidingSettings(logit_scale=40.0)
    tracemalloc.start()  # of NumPy's arrays; the strips are torch's, and bounded by their size
    try:
        pixels = label_pixels(maps, names, settings, background=True, ignore_index=65535, keep_winning=True)
        assert pixels.winning is not None
        pixels.winning.summarise(pixels.labels.astype(np.uint16), names.classes, background=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * side * side  # bytes; the planes of all words would take 1200 a pixel
