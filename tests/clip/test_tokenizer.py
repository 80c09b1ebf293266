from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tagmask
from tagmask.clip.tokenizer import CONTEXT, END, START, VOCABULARY, clean, encode, tokenize
from tagmask.errors import InputError, TextTooLongError
from tests.oracles import bpe

GOLDEN = Path(__file__).parents[1] / "golden" / "tokens.npz"
WORDS = sorted(Path(tagmask.__file__).parent.glob("*/words/*.txt"))

CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    " \t\n\r\u00a0\u2003\u3000\u200b\u200d\ufeff\x00\x1c\x85",
    "'’`\"“”.,;:!?-–—…()[]{}<>|/\\@#$%^&*_+=~",
    "éèñçÅßøœÆİıΩσςЖяאبहा\u0301\u0308",
    "²½Ⅷ٣५①",
    "日本語漢字ひらカナ한국어",
    "😀👍🏽👩\u200d👧🇫🇷❤\ufe0f",
)
SNIPPETS = (
    *("it's", "we'll", "DON'T", "I'm", "they've", "you're", "he'd", "''s", "rock'n'roll", "'sss"),
    *("&amp;", "&amp;lt;", "&#39;s", "&eacute;", "schÃ¶n", "<|startoftext|>", "<|endoftext|>", "<|END"),
    *("a photo of a cat.", "thththe", "aaaaaaaa", "loooool", "2024"),
)
mixed = st.lists(
    st.sampled_from(CHARACTERS).flatmap(lambda pool: st.text(st.sampled_from(pool), max_size=4))
    | st.sampled_from(SNIPPETS),
    max_size=8,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(mixed)
def test_any_text_equals_the_naive_merges(text):
    assert list(encode(text)) == bpe.encode(text)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="latin-1"), max_size=20))
def test_any_latin_text_equals_the_naive_merges(text):
    assert list(encode(text)) == bpe.encode(text)


def names_and_templates():
    lines = [line for path in WORDS for line in path.read_text("utf-8").splitlines()]
    templates = sorted({line for line in lines if "{}" in line})
    return sorted({name for line in lines if "{}" not in line for name in line.split(", ")}), templates


def test_each_name_and_each_template_equals_the_naive_merges():
    names, templates = names_and_templates()
    assert len(names) > 300
    assert len(templates) > 80
    # every name with twenty templates and every template with many names, instead of the full product
    texts = [
        templates[(i * 7 + j) % len(templates)].replace("{}", name)
        for i, name in enumerate(names)
        for j in range(20)
    ]
    rows = tokenize(texts).tolist()
    for text, row in zip(texts, rows, strict=True):
        ids = [START, *bpe.encode(text), END]
        assert row == ids + [0] * (CONTEXT - len(ids)), text


def test_reference_values():
    with np.load(GOLDEN) as golden:
        texts, ids = golden["texts"].tolist(), golden["ids"]
    got = tokenize(texts)
    assert got.dtype == torch.int64
    np.testing.assert_array_equal(got.numpy(), ids)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (" \n\t ", []),
        ("it'\u017f", [585, 6, 129, 379]),  # the long s ends a word, as s does
        ("a\u0345b", [320, 321]),  # the iota below is dropped
        ("a <|endoftext|>b", [320, END, 321]),
        ("<|startoftext|><|endoftext|>", [START, END]),
        ("<|STARTOFTEXT|>", [START]),
        ("!!<|endoftext|>", [1443, 27, 347, 40786, 4160, 91, 285]),  # inside a run of punctuation
    ],
)
def test_corner_cases_as_in_openai_s_code(text, ids):
    assert list(encode(text)) == ids
    assert tokenize([text])[0, : len(ids) + 2].tolist() == [START, *ids, END]


def test_only_ftfy_normalises():
    assert encode("e\u0301") == encode("é")
    # next to a "<" ftfy does not decode entities, so this accent appears after ftfy has composed the others
    text = "<e&#x301;>"
    assert clean(text) == "<e\u0301>"
    assert list(encode(text)) == bpe.encode(text) != bpe.encode("<é>")


def test_no_texts_give_no_rows():
    assert tokenize([]).shape == (0, CONTEXT)


def test_special_ids_are_the_last_of_the_vocabulary():
    ids = bpe.tables()[1]
    assert len(ids) == VOCABULARY
    assert (ids["<|startoftext|>"], ids["<|endoftext|>"]) == (START, END)


def test_75_tokens_are_accepted():
    row = tokenize([" ".join(["cat"] * 75)])[0]
    assert row.tolist() == [START, *[2368] * 75, END]


def test_76_tokens_are_cut_on_request():
    row = tokenize(["a cat", " ".join(["cat"] * 76)], truncate=True)
    assert row[0, :4].tolist() == [START, 320, 2368, END]
    assert row[1].tolist() == [START, *[2368] * 75, END]


def test_76_tokens_are_refused_by_name():
    text = " ".join(["cat"] * 76)
    with pytest.raises(
        TextTooLongError, match=r"'cat cat .*…' has 78 tokens.* at most 77\. Shorten"
    ) as error:
        tokenize(["short", text])
    assert len(str(error.value)) < 250


def test_a_single_string_is_refused():
    with pytest.raises(InputError, match=r"single text 'cat'\. Write \[text\]"):
        tokenize("cat")
