from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tagmask.clip.load import Clip
from tagmask.clip.tokenizer import tokenize
from tagmask.dense.prompts import merge_names, split_names, text_features
from tagmask.errors import InputError, TextTooLongError
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
    monkeypatch.setattr(type(sclip_model.text), "forward", None)
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


@pytest.mark.parametrize("damage", [b"", b"not numpy", "truncate", "other"])
def test_damaged_cache_is_recomputed(
    damage: bytes | str, sclip_model: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path))
    before = text_features(sclip_model, ["cat"], TEMPLATES)
    (file,) = (cache_dir() / "text").glob("*.npy")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "other":
        np.save(file, np.zeros(3, np.float32))
    else:
        assert isinstance(damage, bytes)
        file.write_bytes(damage)
    assert torch.equal(text_features(sclip_model, ["cat"], TEMPLATES), before)


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
