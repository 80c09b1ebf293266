"""Sentences with shared beginnings against whole sentences, one at a time."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tagmask.clip import prefixes
from tagmask.clip.load import Clip, _cast_products
from tagmask.clip.model import ACTIVATIONS, Text
from tagmask.clip.prefixes import SentenceEncoder
from tagmask.clip.state_dict import Geometry
from tagmask.clip.tokenizer import END, START, encode, tokenize
from tagmask.settings.presets.own_words import own_masks

TEMPLATES = ("a photo of a {}.", "a photo of the {}.", "the {} in a video game.", "{}", "{}!", "a anti-{}.")
WORDS = ("cat", "traffic light", "dog", "a very long and winding river", "", "don't", "<|endoftext|>")


def sentences_of(words: tuple[str, ...], templates: tuple[str, ...]) -> list[str]:
    return [template.replace("{}", word) for word in words for template in templates]


def beginnings_of(templates: tuple[str, ...]) -> list[tuple[int, ...]]:
    return [(START, *encode(template.partition("{}")[0])) for template in templates]


def encode_all(text: Text, words: tuple[str, ...], templates: tuple[str, ...]) -> torch.Tensor:
    rows = torch.arange(len(templates)).repeat(len(words))
    return SentenceEncoder(text, beginnings_of(templates))(tokenize(sentences_of(words, templates)), rows)


@torch.no_grad()
def one_by_one(text: Text, words: tuple[str, ...], templates: tuple[str, ...]) -> torch.Tensor:
    return torch.cat([text(ids[None]) for ids in tokenize(sentences_of(words, templates))])


@pytest.fixture(scope="module")
def full_size() -> Text:
    """A made-up text tower of ViT-B/16."""
    sizes = {
        "text_width": 512,
        "text_layers": 12,
        "text_heads": 8,
        "vocab": 49408,
        "context": 77,
        "embed": 512,
    }
    tower = Text(replace(Geometry(*[0] * 11), **sizes), ACTIVATIONS["quickgelu"])
    generator = torch.Generator().manual_seed(0)
    for name, parameter in tower.named_parameters():
        scale = 0.02 if parameter.ndim < 2 or "embedding" in name else parameter.shape[1] ** -0.5
        parameter.data.normal_(float("ln_" in name and name.endswith("weight")), scale, generator=generator)
    return tower.requires_grad_(False)


def test_features_equal_those_of_whole_sentences(sclip_model: Clip) -> None:
    got = encode_all(sclip_model.text, WORDS, TEMPLATES)
    torch.testing.assert_close(got, one_by_one(sclip_model.text, WORDS, TEMPLATES), rtol=0, atol=1e-5)


def test_features_at_full_size(full_size: Text) -> None:
    templates = own_masks(("a",), ()).templates
    got = encode_all(full_size, ("cat", "potted plant"), templates)
    expected = one_by_one(full_size, ("cat", "potted plant"), templates)
    assert expected.std() > 0.5
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)  # the rounding of float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_feature_does_not_depend_on_the_other_sentences(full_size: Text, dtype: torch.dtype) -> None:
    tower = copy.deepcopy(full_size)
    _cast_products(tower, dtype, Path("made-up"))
    words = ("cat", "potted plant", "dog", "person", "a very long and winding river")
    together = encode_all(tower, words, TEMPLATES)
    lone = torch.cat([encode_all(tower, (word,), TEMPLATES) for word in words])
    # The products of other numbers of rows may round differently.
    torch.testing.assert_close(together, lone, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)


def test_only_the_rest_of_a_sentence_is_computed(sclip_model: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder(sclip_model.text, beginnings_of(TEMPLATES[:2]))
    shapes: list[tuple[int, ...]] = []
    embed = Text.embed
    monkeypatch.setattr(
        Text, "embed", lambda self, ids, at: shapes.append(tuple(ids.shape)) or embed(self, ids, at)
    )
    encoder(tokenize(sentences_of(("cat", "dog", "traffic light"), TEMPLATES[:2])), torch.arange(2).repeat(3))
    assert sorted(shapes) == [(2, 4), (4, 3)]  # traffic light . END, and cat . END or dog . END


@pytest.mark.parametrize("why", ["another beginning", "many beginnings", "the end token in it"])
def test_other_sentences_are_encoded_whole(
    sclip_model: Clip, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    beginnings = beginnings_of(TEMPLATES[:2])
    if why == "many beginnings":
        monkeypatch.setattr(prefixes, "_MAX_TOKENS", 9)
    elif why == "another beginning":
        beginnings = [(*beginning, 1) for beginning in beginnings]
    else:
        beginnings = [(START, END)]
    ids = tokenize(
        ["<|endoftext|>, a cat"] if len(beginnings) == 1 else ["a photo of a cat.", "a photo of the cat."]
    )
    encoder = SentenceEncoder(sclip_model.text, beginnings)
    monkeypatch.setattr(encoder, "_encode_rest", lambda *_: pytest.fail("not whole"))
    with torch.no_grad():
        expected = torch.cat([sclip_model.text(row[None]) for row in ids])
    torch.testing.assert_close(encoder(ids, torch.arange(len(ids))), expected, rtol=0, atol=1e-5)
