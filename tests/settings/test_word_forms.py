"""What the letters of words tell, and the lists behind it."""

import pytest

from tagmask.settings.word_forms import contains, function_words, general_lines, is_kind_of, same_word
from tagmask.settings.words import read_list


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("cat", "CATS"),
        ("bus", "buses"),
        ("box", "boxes"),
        ("butterfly", "butterflies"),
        ("leaf", "leaves"),
        ("police man", "police men"),
        ("person", "people"),
        ("hot dogs", "hot dog"),
    ],
)
def test_singular_and_plural_are_one_word(one: str, two: str) -> None:
    assert same_word(one, two)
    assert same_word(two, one)


@pytest.mark.parametrize(
    ("one", "two"), [("glas", "glass"), ("cat", "car"), ("bus", "bush"), ("mas", "mass"), ("skis", "sky")]
)
def test_other_words_are_not(one: str, two: str) -> None:
    assert not same_word(one, two)
    assert not same_word(two, one)


def test_general_words_contain_what_is_listed() -> None:
    assert contains("animal", "cat")
    assert contains("Animals", "dogs")
    assert not contains("cat", "animal")
    assert not contains("animal", "car")
    assert contains("object", "cat")
    assert not contains("object", "thing")
    assert not contains("object", "cat", everything=False)
    assert not contains("people", "person")
    assert is_kind_of("swivel chair", "chair")
    assert not is_kind_of("teddy bear", "bear")
    assert not is_kind_of("chair", "swivel chair")


def test_the_general_list_is_well_formed() -> None:
    for names, members in general_lines():
        assert all(names)
        assert all(members)
        assert len(set(members)) == len(members)
        assert not set(names) & set(members), names
    assert {"the", "red", "two", "left"} <= function_words()


def test_background_names_are_those_of_coco_stuff_and_ade20k() -> None:
    def letters(name: str) -> str:
        return "".join(sorted(name.replace(" ", "").replace("-", "")))

    ours = read_list("coco_stuff_ade20k")
    assert len(set(ours)) == len(ours)
    suffixes = ("-other", "-stuff")
    theirs = {
        letters(next((name.removesuffix(s) for s in suffixes if name.endswith(s)), name))
        for name in (*read_list("cocostuff171_tag"), *read_list("sclip_ade20k"))
    }
    spelled = {"structure": "structural", "hair dryer": "hair drier"}
    spelled["conveyor belt"] = "conveyerbelt"
    assert {letters(spelled.get(name, name)) for name in ours} == theirs
