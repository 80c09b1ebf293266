"""Frozen features: a redraw equals a new segmenter, and needs no tower."""

import numpy as np
import pytest

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense import sliding
from tagmask.errors import InputError
from tests.segmenters import BACKGROUND, WORDS, scores_of

BASE: dict[str, object] = {"templates": ("a {}.",), "short_side": 112, "crop": 64, "stride": 32}
CHANGES: list[dict[str, object]] = [
    {},
    {"words": ["hat", "cat"]},
    {"words": ["wall", "boat"], "background": ["sky"], "prob_thd": 0.3},
    {"background": []},
    {"pamr_steps": 2, "logit_scale": 100.0, "area_thd": 0.1},
]


@pytest.mark.parametrize("changed", CHANGES)
@pytest.mark.parametrize("method", ["sclip", "maskclip-smoothed", "resclip", "sc-clip", "clip-surgery"])
def test_a_redraw_equals_a_new_segmenter(
    tagclip_model: Clip, shapes: list[np.ndarray], method: str, changed: dict[str, object]
) -> None:
    """Bit for bit, also for methods whose last block reads the words or that read it after the comparison."""
    image = shapes[1][:120, :90]
    settings = {**BASE, "method": method, "prob_thd": 0.2}
    segmenter = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, **settings)
    fresh = tagmask.Segmenter(
        tagclip_model, **{"words": WORDS, "background": BACKGROUND, **settings, **changed}
    )
    frozen = segmenter.freeze(image)(scores=True, confidence=True, **changed)
    expected = fresh(image, scores=True, confidence=True)
    assert frozen.words == expected.words
    assert np.array_equal(frozen.labels, expected.labels)
    assert np.array_equal(scores_of(frozen), scores_of(expected))
    assert frozen.class_confidence == expected.class_confidence


@pytest.mark.parametrize("settings", [{"join": "tokens"}, {"pad_windows": True, "crop": 70}, {"crop": None}])
def test_every_kind_of_window(
    tagclip_model: Clip, shapes: list[np.ndarray], settings: dict[str, object]
) -> None:
    image = shapes[0][:150, :101]
    segmenter = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, **{**BASE, **settings})
    assert np.array_equal(
        scores_of(segmenter.freeze(image)(scores=True)), scores_of(segmenter(image, scores=True))
    )


def test_given_tags_and_a_final_crf(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    image = shapes[1][:80, :90]
    segmenter = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, crf="cls-seg", **BASE)
    assert np.array_equal(segmenter.freeze(image)(tags=[2]).labels, segmenter(image, tags=[2]).labels)


def test_the_tower_runs_once(
    tagclip_model: Clip, shapes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, **BASE)
    frozen = segmenter.freeze(shapes[2])

    def run(*_: object, **__: object) -> None:
        raise AssertionError("the tower ran again")

    monkeypatch.setattr(sliding, "extract_features", run)
    assert frozen(words=["hat"], background=BACKGROUND).words == ("background", "hat")
    # 9 windows of 4 x 4 patches of 64 numbers, the image twice, and the maps that stitch.
    patches = 9 * 16 * tagclip_model.geometry.embed * 4
    assert patches < frozen.nbytes < patches + 2_000_000


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"method": "maskclip"}, "another method: sclip, not maskclip"),
        ({"short_side": 128}, "another short_side: 112, not 128"),
        ({"method": "cls-seg", "short_side": 224}, "Unknown setting"),
        ({"colour": 1}, "Unknown setting colour"),
    ],
)
def test_what_needs_other_features_is_refused(
    tagclip_model: Clip, shapes: list[np.ndarray], changed: dict[str, object], said: str
) -> None:
    frozen = tagmask.Segmenter(tagclip_model, WORDS, background=BACKGROUND, **BASE).freeze(shapes[2])
    with pytest.raises(InputError, match=said):
        frozen(**changed)


def test_methods_that_mask_tags_keep_no_features(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    segmenter = tagmask.Segmenter(tagclip_model, WORDS, method="cls-seg")
    with pytest.raises(InputError, match="Give a dense method"):
        segmenter.freeze(shapes[2])
