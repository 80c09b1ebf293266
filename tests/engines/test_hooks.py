"""Where an engine takes over from torch: the results stay, and it gets every block that it can run."""

import numpy as np
import pytest
import torch

import tagmask
from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec, class_token_features, extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.runs.describe import segmenter_identity, tagger_identity
from tagmask.runs.identity import differences
from tests.dense_methods import DENSE, NEED_A_FILE, SMALL, WIDE, WORDS
from tests.engines.torch_blocks import with_torch_blocks

PIXELS = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("capture", "asked"),
    [
        (CaptureSpec(), {10}),
        (CaptureSpec(states=frozenset({2, 5}), last_blocks=3), {2, 5, 8, 9, 10}),
        (CaptureSpec(attention=frozenset({7, 9}), states=frozenset({3, 8})), {3, 6}),
        (CaptureSpec(heads=frozenset({frozenset({4, 5}), frozenset({9})})), {3}),
        (CaptureSpec(attention=frozenset({0})), None),
        (CaptureSpec(running=frozenset({"all heads"})), None),
    ],
)
@torch.inference_mode()
def test_features_are_those_of_torch(
    variants_model: Clip, capture: CaptureSpec, asked: set[int] | None
) -> None:
    clip, engine = with_torch_blocks(variants_model)
    expected, found = (
        extract_features(each.vision, PIXELS, bilinear_half, capture=capture)
        for each in (variants_model, clip)
    )
    assert engine.calls == ([] if asked is None else [(asked, False)])
    assert torch.equal(found.tokens, expected.tokens)
    for name in ("states", "attention", "heads", "running"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("masked", [False, True])
@torch.inference_mode()
def test_class_tokens_are_those_of_torch(variants_model: Clip, masked: bool) -> None:
    clip, engine = with_torch_blocks(variants_model)
    side = clip.vision.grid * clip.vision.patch
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    hidden = torch.zeros(2, clip.vision.grid**2)
    hidden[:, ::3] = -100.0
    expected, found = (
        class_token_features(each.vision, pixels, hidden if masked else None)
        for each in (variants_model, clip)
    )
    assert engine.calls == [({10}, masked)]
    assert torch.equal(found, expected)


@pytest.mark.parametrize("method", [name for name in DENSE if name not in NEED_A_FILE])
def test_every_dense_method_runs_on_an_engine(variants_model: Clip, method: str) -> None:
    clip, engine = with_torch_blocks(variants_model)
    expected, found = (
        tagmask.Segmenter(each, WORDS, method=method, **SMALL)(WIDE, scores=True)
        for each in (variants_model, clip)
    )
    np.testing.assert_array_equal(found.scores, expected.scores)
    blocks = dense_rule(method, 12).capture.blocks_before_attention(12)
    assert blocks >= 3  # else it would not be worth it
    assert {max(layers) for layers, _ in engine.calls} == {blocks - 1}
    assert (expected.precision, found.precision) == ("float32", "int8")


def test_tagclip_runs_its_second_pass_on_an_engine(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    clip, engine = with_torch_blocks(tagclip_model)
    expected, found = (
        tagmask.Tagger(each, ["cat", "dog", "boat"], background=["sky"])(shapes[0])
        for each in (tagclip_model, clip)
    )
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert engine.calls
    assert all(masked for _, masked in engine.calls)
    assert found.precision == "int8"


def test_an_engine_is_part_of_what_decides_a_run_and_torch_is_not(sclip_model: Clip) -> None:
    clip, _ = with_torch_blocks(sclip_model)
    settings = {"words": ["cat"], "background": []}
    plain, engine = (segmenter_identity(tagmask.Segmenter(each, **settings)) for each in (sclip_model, clip))
    assert "engine" not in plain.fields
    assert engine.fields["engine"] == {"name": "test", "precision": "int8"}
    assert plain.fingerprint != engine.fingerprint
    named = differences(plain, engine)
    assert "engine.name was not set, is test" in named
    back = clip.with_engine(None)
    assert back.fingerprint == sclip_model.fingerprint != clip.fingerprint
    assert segmenter_identity(tagmask.Segmenter(back, **settings)).fingerprint == plain.fingerprint
    assert "engine" in tagger_identity(tagmask.Tagger(clip, ["cat"], background=["sky"])).fields


def test_an_engine_shares_the_parameters_and_leaves_the_model_as_it_was(sclip_model: Clip) -> None:
    clip, engine = with_torch_blocks(sclip_model)
    assert clip.engine is engine
    assert sclip_model.engine is None
    assert clip.vision.proj is sclip_model.vision.proj
    assert clip.text_fingerprint == sclip_model.text_fingerprint  # so that texts are not encoded again
    assert tagmask.Segmenter(clip, ["cat"], background=[]).clip.engine is engine
    assert tagmask.Segmenter(clip, ["cat"], background=[], engine="torch").clip.engine is None
