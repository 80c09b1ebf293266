"""Background words chosen for a user's words."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.pipelines import background_choice
from tagmask.pipelines.background_choice import (
    CHOICE_TEMPLATES,
    background_candidates,
    choose_background,
    facility_location,
    with_chosen_background,
)
from tagmask.resolve import mask_recipe
from tagmask.settings.words import read_list


@pytest.fixture(scope="module")
def clip() -> Clip:
    return tagmask.load("miniature")


def naive(cosines: list[list[float]], count: int) -> list[int]:
    """The definition: try every candidate, and keep the first of the best."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(cosines)):
        sums = {
            j: sum(max(row[s] for s in [*chosen, j]) for row in cosines)
            for j in range(len(cosines))
            if j not in chosen
        }
        chosen.append(max(sums, key=lambda j: (sums[j], -j)))
    return chosen


def test_facility_location_equals_its_definition() -> None:
    features = F.normalize(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    cosines = (features @ features.T).double()
    for count in (1, 5, 29, 40):
        assert list(facility_location(cosines, count)) == naive(cosines.tolist(), count)


def test_ties_go_to_the_first() -> None:
    assert facility_location(torch.ones(4, 4), 3) == (0, 1, 2)


def synthetic(monkeypatch: pytest.MonkeyPatch, close: dict[str, float]) -> None:
    """Give every text its own direction, and some a cosine with "cat"."""
    axes = {
        name: i
        for i, name in enumerate(
            dict.fromkeys(("cat", "kitty", "cars", "buses", *read_list("coco_stuff_ade20k")))
        )
    }

    def features(clip: Clip, texts: tuple[str, ...], templates: tuple[str, ...]) -> torch.Tensor:
        assert templates == CHOICE_TEMPLATES
        rows = torch.zeros(len(texts), len(axes))
        for row, text in zip(rows, texts, strict=True):
            cosine = close.get(text, 0.0)
            row[axes[text]] = (1 - cosine**2) ** 0.5
            row[axes["cat"]] += cosine
        return rows

    monkeypatch.setattr(background_choice, "text_features", features)


def test_names_like_a_word_are_left_out(sclip_model: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic(monkeypatch, {"wall": 0.95, "sky": 0.91, "tree": 0.89})
    everything = choose_background(sclip_model, ["cat, kitty", "cars"], count=1000)
    assert len(everything) == len(set(everything))
    names = read_list("coco_stuff_ade20k")
    # cat and car are words, an animal contains a cat, and wall and sky are too close.
    assert set(names) - set(everything) == {"cat", "car", "animal", "wall", "sky"}
    assert {"sky"} == set(choose_background(sclip_model, ["cat", "cars"], count=1000, too_close=0.92)) - set(
        everything
    )
    first = choose_background(sclip_model, ["cat, kitty", "cars"])
    assert len(first) == len(set(first)) == 64
    # All are equally far from each other: ties go to the first.
    assert first == tuple(name for name in names if name in everything)[:64]


def test_all_names_of_a_class_count(sclip_model: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic(monkeypatch, {"kitty": 0.0})
    assert "bus" not in choose_background(sclip_model, ["kitty, buses"], count=1000)
    assert "bus" in choose_background(sclip_model, ["kitty"], count=1000)


def test_weights_with_few_words_choose_among_those(clip: Clip) -> None:
    candidates = background_candidates(clip)
    assert set(clip.background) <= set(candidates)
    assert {"star", "wall", "brick wall"} <= set(candidates)
    assert not {"the", "red", "two", "cats", "elephant", "stone wall"} & set(candidates)
    assert background_candidates(replace(clip, known_words=None)) == read_list("coco_stuff_ade20k")
    chosen = choose_background(clip, ["cat", "boat"])
    assert "grass" in chosen
    assert not {"cat", "kitten", "boat", "ship"} & set(chosen)
    assert chosen == choose_background(clip, ["cat", "boat"])


def test_nothing_left_is_an_error(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_choice, "background_candidates", lambda clip: ("cats", "kitten"))
    with pytest.raises(InputError, match="No background word is left"):
        choose_background(clip, ["cat"])
    with pytest.raises(InputError, match="name of label 0"):
        choose_background(clip, ["Background"])


def test_the_recipe_holds_the_chosen_names(clip: Clip, caplog: pytest.LogCaptureFixture) -> None:
    words = ["cat", "fish"]
    chosen = choose_background(clip, words)
    with caplog.at_level("INFO", logger="tagmask"):
        segmenter = tagmask.Segmenter(clip, words, background="auto")
    (message,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Background")]
    assert message.startswith(f"Background: {len(chosen)} words chosen among those that miniature knows: ")
    assert segmenter.recipe == tagmask.Segmenter(clip, words, background=chosen).recipe
    assert segmenter.recipe.background == chosen
    tagger = tagmask.Tagger(clip, words, background="auto")
    assert tagger.recipe == tagmask.Tagger(clip, words, background=chosen).recipe
    both = tagmask.Segmenter(clip, words, background="auto", method="cls-seg").recipe
    assert both == tagmask.Segmenter(clip, words, background=chosen, method="cls-seg").recipe


def test_a_recipes_own_words_are_used(clip: Clip) -> None:
    recipe = mask_recipe("sclip/voc21")
    chosen = with_chosen_background(clip, recipe, "auto")
    assert chosen.words == recipe.words
    assert chosen.background == choose_background(clip, recipe.words)
    assert with_chosen_background(clip, recipe, None) is recipe
    assert with_chosen_background(clip, recipe, ["auto"]) is recipe
