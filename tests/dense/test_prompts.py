from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tagmask.clip.load import Clip
from tagmask.clip.prefixes import SentenceEncoder
from tagmask.clip.tokenizer import tokenize
from tagmask.dense import prompts
from tagmask.dense.prompts import merge_names, split_names, text_features
from tagmask.errors import InputError, TextTooLongError, WeightsError
from tagmask.files import cache_dir

TEMPLATES = ("a photo of a {}.", "the {}.", "itap of a very very large {} in the evening.")


def test_comma_without_space_is_part_of_the_name() -> None:
    names = split_names(["person with clothes,people,human", "dog, puppy"])
    assert names.texts == ("person with clothes,people,human", "dog", "puppy")


@pytest.mark.parametrize("line", ["", " ", "dog, ", ", dog"])
def test_empty_names_are_refused(line: str) -> None:
    with pytest.raises(InputError, match="Word 2 is"):
        split_names(["cat", line])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 2**31))
def test_merge_names_is_the_maximum_over_a_class(sizes: list[int], seed: int) -> None:
    lines = [", ".join(f"c{c}n{n}" for n in range(size)) for c, size in enumerate(sizes)]
    names = split_names(lines)
    scores = torch.rand(sum(sizes), 3, 2, generator=torch.Generator().manual_seed(seed))
    merged = merge_names(scores, names)
    start = 0
    for c, size in enumerate(sizes):
        for y in range(3):
            for x in range(2):
                assert merged[c, y, x] == max(float(scores[i, y, x]) for i in range(start, start + size))
        start += size


def test_features_are_the_unit_mean_of_unit_sentences(sclip_model: Clip) -> None:
    features = text_features(sclip_model, ["cat", "traffic light"], TEMPLATES)
    for row, word in zip(features, ["cat", "traffic light"], strict=True):
        total = np.zeros(64)
        for template in TEMPLATES:
            # One sentence at a time over all 77 tokens: no trimming, no batching.
            vector = (
                sclip_model.text(torch.as_tensor(tokenize([template.replace("{}", word)])))[0]
                .double()
                .numpy()
            )
            total += vector / np.linalg.norm(vector)
        np.testing.assert_allclose(row.numpy(), total / np.linalg.norm(total), rtol=0, atol=1e-6)


def test_second_call_reads_the_cache(
    sclip_model: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path))
    first = text_features(sclip_model, ["cat", "dog"], TEMPLATES)
    assert len(list((cache_dir() / "text").glob("*.npy"))) == 2
    monkeypatch.setattr(prompts, "SentenceEncoder", None)
    assert torch.equal(text_features(sclip_model, ["dog", "cat"], TEMPLATES), first.flip(0))
    with pytest.raises(TypeError):
        text_features(sclip_model, ["cat", "bird"], TEMPLATES)


def test_cache_depends_on_templates_and_weights(
    sclip_model: Clip, tagclip_model: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path))
    features = text_features(sclip_model, ["cat"], TEMPLATES)
    assert not torch.equal(text_features(sclip_model, ["cat"], TEMPLATES[:1]), features)
    assert not torch.equal(text_features(tagclip_model, ["cat"], TEMPLATES), features)


def test_unwritable_cache_folder_is_not_an_error(
    sclip_model: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path / "file"))
    assert text_features(sclip_model, ["cat"], TEMPLATES).shape == (1, 64)


def test_text_over_77_tokens_is_refused(sclip_model: Clip) -> None:
    with pytest.raises(TextTooLongError, match="77"):
        text_features(sclip_model, ["very " * 80 + "cat"], TEMPLATES)


def test_templates_need_a_placeholder(sclip_model: Clip) -> None:
    with pytest.raises(InputError, match=r"has no \{\}\. Put"):
        text_features(sclip_model, ["cat"], ["a photo."])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Six sentences, two words, a block; an empty cache."""
    monkeypatch.setattr(prompts, "_BLOCK", 6)
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path / "home"))


WORDS = ["cat", "traffic light", "a very long winding river", "dog", "hat"]


def test_a_stopped_run_keeps_the_words_that_are_done(
    sclip_model: Clip, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = SentenceEncoder.__call__, []

    def stopped(*arguments: object) -> torch.Tensor:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SentenceEncoder, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            text_features(sclip_model, WORDS, TEMPLATES)
    assert len(list((cache_dir() / "text").glob("*.npy"))) == 4
    encoded: list[int] = []
    monkeypatch.setattr(prompts, "tokenize", lambda texts: encoded.append(len(texts)) or tokenize(texts))
    text_features(sclip_model, WORDS, TEMPLATES)
    assert encoded == [3]  # only the last word's sentences


def test_blocks_bound_what_is_encoded_at_once_and_change_no_feature(
    sclip_model: Clip, small_blocks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(prompts, "tokenize", lambda texts: sizes.append(len(texts)) or tokenize(texts))
    in_blocks = text_features(sclip_model, WORDS, TEMPLATES)
    assert sizes == [6, 6, 3]
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path / "lone"))
    lone = torch.cat([text_features(sclip_model, [word], TEMPLATES) for word in WORDS])
    np.testing.assert_allclose(in_blocks.numpy(), lone.numpy(), rtol=0, atol=1e-7)


def test_progress_is_logged_after_each_block(
    sclip_model: Clip, small_blocks: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tagmask")
    text_features(sclip_model, WORDS, TEMPLATES)
    assert caplog.messages[0] == "encoding 5 new words with 3 sentences each"
    progress = [record.progress for record in caplog.records[1:]]
    assert progress == [(2, 5), (4, 5), (5, 5)]


def test_a_text_that_is_too_long_is_refused_before_the_first_block(
    sclip_model: Clip, small_blocks: None
) -> None:
    # Too long only together with the longest template.
    word = "very " * 66 + "cat"
    with pytest.raises(TextTooLongError, match="77"):
        text_features(sclip_model, [*WORDS, word], TEMPLATES)
    assert not (cache_dir() / "text").exists()
    assert text_features(sclip_model, [word], ("{}",)).shape == (1, 64)


def test_a_text_tower_that_gives_nan_is_refused(
    sclip_model: Clip, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SentenceEncoder, "__call__", lambda _, ids, rows: torch.full((len(ids), 64), torch.nan)
    )
    with pytest.raises(WeightsError, match="gives NaN or infinity"):
        text_features(sclip_model, ["cat"], TEMPLATES)
    assert not (cache_dir() / "text").exists()
