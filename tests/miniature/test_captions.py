import numpy as np
import pytest

from tagmask.clip.tokenizer import CONTEXT, encode
from tagmask.miniature.captions import Phrase, caption_of, known_words, phrase_text, training_texts
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS, Content, VisibleObject

CAR, TREE = CLASS_NAMES.index("car"), CLASS_NAMES.index("tree")
RED = list(COLOURS).index("red")
SAND = BACKGROUND_NAMES.index("sand")


def sample_texts(contents: list[Content]) -> list[str]:
    return [caption_of(contents, np.random.default_rng(seed)).text for seed in range(200)]


def test_a_red_car_on_sand() -> None:
    content = Content((VisibleObject(CAR, RED, (0.2, 0.2)),), (SAND,))
    texts = sample_texts([content])
    assert len(set(texts)) > 40
    assert all(("car" in t or "automobile" in t) and "sand" in t for t in texts)
    assert any("red car" in t for t in texts)
    assert any("red" not in t for t in texts)
    assert any("top left corner" in t for t in texts)
    assert not any("right" in t or "bottom" in t for t in texts)


def test_counts_are_named_with_plurals() -> None:
    two = Content((VisibleObject(CAR, RED, (0.2, 0.2)), VisibleObject(CAR, RED, (0.7, 0.7))), (SAND,))
    assert all(("two" in t) and ("cars" in t or "automobiles" in t) for t in sample_texts([two]))


def test_collages_give_one_sentence_without_positions() -> None:
    contents = [
        Content((VisibleObject(CAR, RED, (0.2, 0.2)),), (SAND,)),
        Content((VisibleObject(TREE, 3, (0.5, 0.5)),), (SAND,)),
    ]
    caption = caption_of(contents, np.random.default_rng(0))
    assert {p.word for p in caption.phrases} == {CAR, TREE, len(CLASS_NAMES) + SAND}
    assert not any("corner" in t or "middle" in t for t in sample_texts(contents))


def test_phrases_have_a_colour_only_if_the_text_has() -> None:
    for seed in range(60):
        scene = unseen_scene(seed)
        caption = caption_of([scene.content], np.random.default_rng(seed))
        named = {colour for colour in COLOURS if f" {colour} " in f" {caption.text} "}
        phrase_colours = {tuple(COLOURS)[p.colour] for p in caption.phrases if p.colour is not None}
        assert phrase_colours == named
        assert {p.word for p in caption.phrases} == {t.kind for t in scene.content.things} | {
            len(CLASS_NAMES) + g for g in scene.content.grounds
        }


def test_background_without_objects_is_named() -> None:
    assert all("sand" in t for t in sample_texts([Content((), (SAND,))]))


@pytest.mark.parametrize("seed", range(30))
def test_training_texts_cover_all_captions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = {i for text in training_texts() for i in encode(text)}
    texts = [caption_of([unseen_scene(seed).content], rng).text]
    texts += [phrase_text(Phrase(word, c), rng) for word in range(24) for c in (None, seed % 11)]
    texts += [phrase_text(Phrase(word), rng) for word in range(24, 34)]
    assert all(tokens.issuperset(encode(text)) for text in texts)


def test_longest_caption_fits_the_context() -> None:
    full = Content(tuple(VisibleObject(k, k % 11, (0.1, 0.1)) for k in (8, 11, 5, 22)), (SAND, 9))
    assert max(len(encode(t)) for t in sample_texts([full] * 3)) + 2 <= CONTEXT


def test_known_words() -> None:
    known = set(known_words())
    assert known >= {*CLASS_NAMES, *BACKGROUND_NAMES, *COLOURS, "automobile", "butterflies", "two"}
    assert not known & {"photo", "dog", ""}
