"""SPARC compared with its steps written as loops, and the matching of sentences."""

from dataclasses import replace

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.papers import sparc
from tagmask.papers.sparc import Cosines, SparcSettings

NAMES = ["cat", "dog", "mouse", "hot dog"]
SENTENCES = ["a cat and a dog", "dogs with mice", "a hot dog near a cat", "a cat and a dog on a mat"]


def cosines(seed: int, images: int = 12) -> Cosines:
    rng = np.random.default_rng(seed)
    return Cosines(
        0.2 + 0.05 * rng.normal(size=(images, 4)),
        0.2 + 0.05 * rng.normal(size=(images, 4)),
        0.2 + 0.05 * rng.normal(size=(images, 4)),
    )


def naive_sparc(given: Cosines, mentions: np.ndarray) -> np.ndarray:
    """The paper's steps on one set of images."""
    e, a, m = (np.array(x) for x in (given.ensemble, given.plain, given.compound))
    for n in range(len(e)):
        m[n] = (m[n] - a[n].mean()) / a[n].std(ddof=1)
        e[n] = (e[n] - e[n].mean()) / e[n].std(ddof=1)
    for x in (e, m):
        for c in range(x.shape[1]):
            x[:, c] = (x[:, c] - x[:, c].mean()) / x[:, c].std(ddof=1)
    out = np.empty_like(e)
    for c in range(4):
        mentioning = [p for p in range(len(mentions)) if mentions[p, c]]
        z = np.array([[*sorted(m[n, p] for p in mentioning), e[n, c]] for n in range(len(e))])
        _, _, directions = np.linalg.svd(z - z.mean(axis=0))
        d = directions[0] if directions[0].mean() >= 0 else -directions[0]
        r = z @ (d / np.abs(d).sum())
        out[:, c] = 0.5 * r + 0.5 * e[:, c]
    return out


def test_applied_to_the_same_set_equals_the_papers_method() -> None:
    given, mentions = cosines(0), sparc.match(SENTENCES, NAMES)
    assert mentions.sum(axis=0).tolist() == [3, 3, 1, 1]
    scores = sparc.apply(given, mentions, sparc.learn(given, mentions), SparcSettings())
    np.testing.assert_allclose(scores, naive_sparc(given, mentions), rtol=0, atol=1e-12)


def test_score_does_not_depend_on_the_batch() -> None:
    mentions = sparc.match(SENTENCES, NAMES)
    reference = sparc.learn(cosines(1), mentions)
    others = cosines(2, images=3)
    together = sparc.apply(others, mentions, reference, SparcSettings())
    for i in range(3):
        single = Cosines(*(x[i : i + 1] for x in (others.ensemble, others.plain, others.compound)))
        np.testing.assert_allclose(
            sparc.apply(single, mentions, reference, SparcSettings()), together[i : i + 1], rtol=0, atol=1e-12
        )


def test_without_compounds_scores_are_only_normalised() -> None:
    given = replace(cosines(3), compound=np.zeros((12, 0)))
    mentions = np.zeros((0, 4), dtype=bool)
    reference = sparc.learn(given, mentions)
    scores = sparc.apply(given, mentions, reference, SparcSettings())
    singles, _ = sparc.normalised(given, reference)
    np.testing.assert_allclose(scores, singles, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scores.std(axis=0, ddof=1), 1, atol=1e-12)


def test_word_with_equal_scores_gets_zero() -> None:
    """Two images with the same standardised cosines: the deviation is 0, and must not be divided by."""
    rows = np.array([[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5]])
    given = Cosines(rows, rows, np.zeros((2, 0)))
    mentions = np.zeros((0, 4), dtype=bool)
    scores = sparc.apply(given, mentions, sparc.learn(given, mentions), SparcSettings())
    assert np.abs(scores).max() < 2


@pytest.mark.parametrize("shape", [(1, 4), (5, 1)])
def test_too_few_images_or_words_are_refused(shape: tuple[int, int]) -> None:
    rows = np.zeros(shape)
    with pytest.raises(InputError, match="sparc needs 2 or more images and 2 or more words"):
        sparc.learn(Cosines(rows, rows, rows[:, :0]), np.zeros((0, shape[1]), dtype=bool))


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("Cats!", ["cat"]),
        ("two buses", ["bus"]),
        ("a concatenation", []),
        ("people and a man", ["person", "man"]),
        ("a hot dog", ["hot dog"]),
        ("a hot dog and a dog", ["hot dog", "dog"]),
        ("leaves on shelves", ["leaf", "shelf"]),
        ("a cat and a cat", ["cat"]),
        ("a potted plant", ["pottedplant"]),
    ],
)
def test_match_finds_whole_words_in_singular_and_plural(sentence: str, names: list[str]) -> None:
    known = ["cat", "dog", "hot dog", "bus", "person", "man", "leaf", "shelf", "pottedplant"]
    [row] = sparc.match([sentence], known)
    assert {name for name, mentioned in zip(known, row, strict=True) if mentioned} == set(names)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 20])
def test_pairs_join_each_name_with_equally_many_others(count: int) -> None:
    names = [f"{chr(97 + i)}x" for i in range(count)]
    sentences = sparc.pairs(names, "a photo of a {}.", 4)
    mentions = sparc.match(sentences, names)
    assert len(set(sentences)) == len(sentences)
    assert (mentions.sum(axis=1) == 2).all()
    each = mentions.sum(axis=0)
    assert each.min() == each.max() == (min(8, (count - 1) // 2 * 2) or int(count == 2))


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match=r"plain is .a photo., without a \{\}"):
        SparcSettings(plain="a photo")
