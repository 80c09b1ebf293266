"""Which words compete, and what to give instead."""

import logging
from dataclasses import replace

import pytest
import torch

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.prompts import TextQuery, split_names, text_query
from tagmask.pipelines import word_checks
from tagmask.pipelines.word_checks import WordCheck, check_words


@pytest.fixture(scope="module")
def clip() -> Clip:
    return tagmask.load("miniature")


@pytest.fixture(scope="module")
def all_words(clip: Clip) -> Clip:
    """The same weights, if they knew all words."""
    return replace(clip, known_words=None)


def query_of(words: list[str], background: list[str], cosines: dict[tuple[str, str], float]) -> TextQuery:
    """Features with given cosines, by their Cholesky factor."""
    names = split_names([*words, *background])
    gram = torch.eye(len(names.texts), dtype=torch.float64)
    for (one, two), value in cosines.items():
        i, j = names.texts.index(one), names.texts.index(two)
        gram[i, j] = gram[j, i] = value
    return TextQuery(names, torch.linalg.cholesky(gram).float(), len(words))


def found(checked: WordCheck) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.words) for finding in checked.findings]


def test_cosines_are_those_of_the_best_names(all_words: Clip) -> None:
    words = ["rug, mat", "lamp", "kite"]
    query = query_of(words, ["sky", "fog"], {("mat", "lamp"): 0.5, ("rug", "lamp"): 0.2, ("mat", "fog"): 0.4})
    checked = check_words(all_words, words, ["sky", "fog"], query)
    assert checked.cosines is not None
    assert checked.to_background is not None
    assert checked.cosines[0, 1].item() == pytest.approx(0.5, abs=1e-5)
    assert checked.cosines[1, 0].item() == pytest.approx(0.5, abs=1e-5)
    assert checked.to_background.shape == (3, 2)
    assert checked.to_background[0, 1].item() == pytest.approx(0.4, abs=1e-5)
    assert checked.findings == ()
    assert checked.suggestion == tuple(words)


def test_near_synonyms_are_joined(all_words: Clip) -> None:
    words = ["sofa", "rug", "couch", "settee"]
    cosines = {("sofa", "couch"): 0.96, ("couch", "settee"): 0.96, ("sofa", "settee"): 0.95}
    query = query_of(words, [], cosines)
    checked = check_words(all_words, words, [], query, same=0.955)
    assert found(checked) == [("synonyms", ("sofa", "couch")), ("synonyms", ("couch", "settee"))]
    assert checked.suggestion == ("sofa, couch, settee", "rug")
    assert "cosine 0.96" in checked.findings[0].text
    assert check_words(all_words, words, [], query, same=0.97).findings == ()
    # Words that are in one class already are not reported again.
    both = [("synonyms", ("sofa", "couch")), ("synonyms", ("sofa", "settee"))]
    assert found(check_words(all_words, words, [], query, same=0.94)) == both


def test_plural_and_kind_are_joined_and_general_words_left_out(all_words: Clip) -> None:
    words = ["animals, beasts", "dog", "office chair", "dogs", "chair", "cat"]
    checked = check_words(all_words, words, [], query_of(words, [], {}))
    assert found(checked) == [
        ("plural", ("dog", "dogs")),
        ("kind", ("chair", "office chair")),
        ("contains", ("animals", "dog", "dogs", "cat")),
    ]
    assert checked.suggestion == ("dog, dogs", "chair, office chair", "cat")


def test_general_words_are_joined_with_none(all_words: Clip) -> None:
    words = ["animal", "critters", "cat"]
    query = query_of(words, [], {("animal", "critters"): 0.97})
    checked = check_words(all_words, words, [], query)
    assert found(checked) == [("synonyms", ("animal", "critters")), ("contains", ("animal", "cat"))]
    assert checked.suggestion == ("critters", "cat")


def test_general_words_alone_stay(all_words: Clip) -> None:
    words = ["object", "animal"]
    checked = check_words(all_words, words, ["wall"], query_of(words, ["wall"], {}))
    assert found(checked) == [("contains", ("object", "animal"))]
    assert checked.suggestion == ("animal",)


def test_background_words_that_compete(all_words: Clip) -> None:
    words = ["stairs", "furniture", "street"]
    background = ["stair", "desk", "road", "sky"]
    query = query_of(words, background, {("street", "road"): 0.97, ("street", "sky"): 0.1})
    checked = check_words(all_words, words, background, query)
    assert found(checked) == [
        ("background", ("stairs", "stair")),
        ("background", ("furniture", "desk")),
        ("background", ("street", "road")),
    ]
    assert checked.suggestion == tuple(words)
    assert "leave road out" in checked.findings[2].advice


def test_names_that_are_not_listed_belong_where_the_nearest_does(
    all_words: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features(clip: Clip, texts: tuple[str, ...], templates: object) -> torch.Tensor:
        axes = {text: i for i, text in enumerate(texts)}
        rows = torch.eye(len(texts))
        for text, near, cosine in (("moggy", "cat", 0.93), ("jalopy", "car", 0.95), ("widget", "cat", 0.85)):
            rows[axes[text]] *= (1 - cosine**2) ** 0.5
            rows[axes[text], axes[near]] = cosine
        return rows

    monkeypatch.setattr(word_checks, "text_features", features)
    words = ["animal", "moggy", "jalopy", "widget"]
    checked = check_words(all_words, words, [], None)
    assert found(checked) == [("contains", ("animal", "moggy"))]
    assert found(check_words(all_words, words, [], None, inside=0.8)) == [
        ("contains", ("animal", "moggy", "widget"))
    ]
    assert (checked.cosines, checked.to_background) == (None, None)


def test_cosines_of_words_that_the_weights_never_read_do_not_count(clip: Clip, all_words: Clip) -> None:
    words = ["sofa", "couch"]  # of which this model knows none: their features are nearly the same
    query = text_query(clip, words, [], ["a {}."])
    assert found(check_words(all_words, words, [], query)) == [("synonyms", ("sofa", "couch"))]
    assert check_words(clip, words, [], query).findings == ()


def test_a_user_is_warned_once_and_a_paper_is_not(clip: Clip, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> list[str]:
        texts = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        caplog.clear()
        return [text for text in texts if text.startswith("Words that compete")]

    words = ["cat", "kitten", "car", "cars", "hat"]
    for build in (
        lambda: tagmask.Tagger(clip, words),
        lambda: tagmask.Segmenter(clip, words),
        lambda: tagmask.Segmenter(clip, words, method="cls-seg"),
    ):
        build()
        (warning,) = warnings()
        assert "cat and kitten mean nearly the same" in warning
        assert "car and cars are one word in singular and plural" in warning
        assert "`tagmask words check`" in warning
    tagmask.Segmenter(clip, words, method="clip-es")  # which compares other texts: the letters still count
    (warning,) = warnings()
    assert "kitten" not in warning
    assert "car and cars" in warning
    tagmask.Segmenter(clip, ["cat", "car", "hat"])
    tagmask.Segmenter(clip, recipe=tagmask.Segmenter(clip, words).recipe)
    assert len(warnings()) == 1  # of the one that was made with words
