import numpy as np
import pytest

from tagmask import confidence
from tagmask.confidence import summarise_mask
from tagmask.errors import InputError, ShapeError


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("labels_dtype", [np.uint8, np.uint16])
def test_means_and_shares_are_those_of_the_formula(monkeypatch, dtype, labels_dtype):
    monkeypatch.setattr(confidence, "_BAND", 1000)  # several bands
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (101, 67)).astype(labels_dtype)
    labels[rng.random(labels.shape) < 0.1] = np.iinfo(labels_dtype).max
    winning = rng.random(labels.shape).astype(dtype)
    words = ["background", "a", "b", "c", "d", "e"]
    summary = summarise_mask(labels, winning, words, background=True, greatest_foreground=1.0)
    for c, word in enumerate(words[:5]):
        assert summary.shares[word] == (labels == c).sum()
        assert summary.class_confidence[word] == pytest.approx(winning[labels == c].mean(dtype=np.float64))
    assert summary.confidence == min(summary.class_confidence[word] for word in "abcd")
    assert summary.absent == ("e",)


def test_an_image_with_no_class_found_is_as_sure_as_the_nearest_class_was_far():
    labels, winning = np.zeros((2, 2), np.uint8), np.full((2, 2), 0.9, np.float32)
    summary = summarise_mask(labels, winning, ["sky", "cat"], background=True, greatest_foreground=0.25)
    assert summary.confidence == 0.75
    assert summary.absent == ("cat",)
    nothing = summarise_mask(labels + 255, winning, ["cat"], background=False, greatest_foreground=0.25)
    assert (nothing.confidence, nothing.shares) == (0.75, {})


def test_without_a_background_the_first_class_counts():
    labels, winning = np.array([[0, 1]], np.uint8), np.array([[0.25, 0.5]], np.float32)
    assert (
        summarise_mask(labels, winning, ["a", "b"], background=False, greatest_foreground=1.0).confidence
        == 0.25
    )


def test_scores_that_are_no_numbers_and_other_sizes_are_refused():
    labels = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match="NaN"):
        summarise_mask(
            labels, np.full((2, 2), np.nan, np.float32), ["a"], background=False, greatest_foreground=1.0
        )
    with pytest.raises(ShapeError):
        summarise_mask(labels, np.zeros((2, 3), np.float32), ["a"], background=False, greatest_foreground=1.0)
