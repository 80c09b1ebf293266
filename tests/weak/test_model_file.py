import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tagmask
from tagmask.errors import InputError, OutputError, WeightsError
from tagmask.weak import model_file
from tests.weak.models import SMALL, WORDS, small_model


def answer(model):
    image = torch.randn(1, 3, 80, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(image)


def same(one, other):
    return torch.equal(answer(one).logits, answer(other).logits)


@pytest.fixture
def model(sclip_model):
    return small_model(sclip_model)


def published_names(model, tmp_path):
    torch.save({"state_dict": model_file.published_tensors(model)}, tmp_path / "whole.pth")
    return torch.load(tmp_path / "whole.pth", weights_only=True)["state_dict"]


def test_save_and_load_round_trip(model, sclip_model, tmp_path):
    model_file.save(model, tmp_path / "a.safetensors")
    found = model_file.load(tmp_path / "a.safetensors", sclip_model)
    assert found.words == WORDS
    assert found.settings == SMALL
    assert not found.training
    assert same(found, model)
    names = load_file(tmp_path / "a.safetensors")
    assert not any(name.startswith(("vision.", "text.")) for name in names)


def test_a_trained_clip_is_saved_too(model, sclip_model, tmp_path):
    model.parameter_groups("repo")
    with torch.no_grad():
        model.vision.proj += 0.1
        model.text.ln_final.weight += 0.1
    model_file.save(model, tmp_path / "a.safetensors")
    assert same(model_file.load(tmp_path / "a.safetensors", sclip_model), model)


def test_a_clip_in_another_precision_is_the_same_clip(model, sclip_weights, tmp_path):
    model_file.save(model, tmp_path / "a.safetensors")
    clip = tagmask.load(sclip_weights, device="cpu", precision="bfloat16")
    found = model_file.load(tmp_path / "a.safetensors", clip)
    assert (answer(found).scores - answer(model).scores).abs().max() < 0.03


@pytest.mark.parametrize("activation", ["quickgelu", "gelu"])
def test_a_trained_clip_is_converted_as_clips_own_weights_are(sclip_weights, tmp_path, activation):
    """A trained CLIP with the values of the frozen one, saved with the model, is the frozen one."""
    clips = [
        tagmask.load(sclip_weights, device="cpu", precision=precision, activation=activation)
        for precision in ("float32", "bfloat16")
    ]
    model = small_model(clips[0])
    model_file.save(model, tmp_path / "frozen.safetensors")
    model.has_own_clip = True
    model_file.save(model, tmp_path / "own.safetensors")
    frozen, own = (model_file.load(tmp_path / f"{name}.safetensors", clips[1]) for name in ("frozen", "own"))
    assert frozen.vision.proj.dtype == torch.bfloat16
    assert same(own, frozen)


def test_another_clip_is_refused(model, tagclip_model, tmp_path):
    model_file.save(model, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="another CLIP"):
        model_file.load(tmp_path / "a.safetensors", tagclip_model)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": "other"}, "not a WeakCLIP file of this package"),
        ({"words": "[1"}, "invalid header"),
        ({"words": '["a"]'}, "1 words and ids"),
        ({"settings": '{"depth": 3}'}, "unknown settings depth"),
        ({"settings": '{"decoder": "deep"}'}, "invalid header"),
        ({"settings": '{"fpn_width": 100000}'}, "invalid header .*fpn_width is 100000"),
        ({"settings": '{"fpn_width": 8000}'}, "does not fit the model"),
        ({"settings": '{"match_layers": 1000000000}'}, "invalid header"),
        ({"settings": '{"stored_side": 100000}'}, "invalid header"),
        ({"settings": '{"taps": ["a", "b", "c", "d"]}'}, "invalid header"),
        ({"settings": '{"taps": [1, 2, 3, 99]}'}, "describes no model: taps are"),
        ({"settings": '{"tau": Infinity}'}, "invalid header"),
        ({"settings": "[" * 5000 + "]" * 5000}, "invalid header"),
        ({"ids": f"[[{2**70}], [1], [2]]"}, "invalid header"),
        ({"ids": "[[99999], [1], [2]]"}, "ids outside the vocabulary"),
        ({"ids": "[[-1], [1], [2]]"}, "ids outside the vocabulary"),
        ({"ids": "[[], [], []]"}, "words and ids of shape"),
        ({"ids": str([list(range(80))] * 3)}, "describes no model"),
        ({"format": "x" * 5000}, "not a WeakCLIP file"),
    ],
)
def test_invalid_headers_are_refused(model, sclip_model, tmp_path, header, message):
    file = tmp_path / "a.safetensors"
    model_file.save(model, file)
    with safe_open(file, "pt") as opened:
        kept = dict(opened.metadata())
    save_file(load_file(file), file, {**kept, **header})
    with pytest.raises(WeightsError, match=message) as error:
        model_file.load(file, sclip_model)
    assert "a.safetensors" in str(error.value)
    assert len(str(error.value).replace(str(file), "")) < 400


def test_missing_unexpected_and_misshapen_tensors_are_named_together(model, sclip_model, tmp_path):
    file = tmp_path / "a.safetensors"
    model_file.save(model, file)
    with safe_open(file, "pt") as opened:
        kept = dict(opened.metadata())
    tensors = load_file(file)
    del tensors["gamma"]
    tensors["delta"] = torch.zeros(2)
    tensors["beta"] = torch.zeros(3)
    save_file(tensors, file, kept)
    before = answer(model).logits
    with pytest.raises(
        WeightsError, match=r"missing: gamma; unexpected: delta; .*beta is \(3,\) instead of \(64,\)"
    ):
        model_file.load(file, sclip_model)
    assert torch.equal(answer(model).logits, before)


def test_the_authors_layout_loads_without_a_clip(model, tmp_path):
    names = published_names(model, tmp_path)
    assert names["text_encoder.positional_embedding"].shape == (13, 128)
    assert names["backbone.positional_embedding"].shape == (37, 128)
    for name in (
        "backbone.conv1.weight",
        "backbone.transformer.resblocks.3.attn.in_proj_weight",
        "backbone.fpn1.4.bias",
        "backbone.fpn3.weight",
        "backbone.fpn4.0.weight",
        "text_encoder.token_embedding.weight",
        "context_decoder.memory_proj.2.weight",
        "context_decoder.anti_decoder.2.cross_attn.q_proj.weight",
        "context_decoder.decoder.0.mlp.3.bias",
        "neck.lateral_convs.3.conv.bias",
        "neck.fpn_convs.0.conv.weight",
        "decode_head.scale_heads.3.4.bn.running_var",
        "decode_head.conv_seg.bias",
        "contexts",
        "gamma",
        "beta",
    ):
        assert name in names
    found = model_file.load_published(tmp_path / "whole.pth", WORDS)
    assert found.settings == SMALL
    assert same(found, model)


def test_the_authors_file_may_carry_more_than_tensors(model, tmp_path):
    names = published_names(model, tmp_path)
    wrapped = {
        "meta": {"epoch": 1, "CLASSES": list(WORDS)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "state_dict": {n: t for n, t in names.items() if not n.endswith("num_batches_tracked")},
    }
    torch.save(wrapped, tmp_path / "b.pth")
    assert same(model_file.load_published(tmp_path / "b.pth", WORDS), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": None}, "missing: beta"),
        ({"gamma": torch.zeros(5)}, r"gamma is \(5,\) instead of \(64,\)"),
        ({"backbone.extra": torch.zeros(5)}, "unexpected: backbone.extra"),
        ({"decode_head.conv_seg.weight": None}, "not in the authors' layout"),
        ({"contexts": torch.zeros(3, 3)}, "contexts is missing or does not have 3 dimensions"),
        ({"backbone.fpn2.0.weight": torch.zeros(9)}, r"backbone.fpn2.0.weight is \(9,\) instead of \(128,\)"),
        ({"beta": torch.full((64,), torch.nan)}, r"c\.pth holds NaN or infinite values, in beta"),
        ({"beta": torch.zeros(64, dtype=torch.int64)}, "beta is torch.int64 instead of torch.float32"),
        ({"backbone.conv1.weight": torch.zeros(100, 3, 16, 16)}, "towers of width 100"),
        ({"backbone.conv1.weight": torch.zeros(128, 3, 0, 0)}, "patches of 0 pixels"),
        # empty tensors that claim a model of hundreds of gigabytes
        ({"neck.lateral_convs.0.conv.weight": torch.zeros(8000, 0, 1, 1)}, "does not fit the model"),
        ({"neck.lateral_convs.0.conv.weight": torch.zeros(10**6, 0, 1, 1)}, "describes no model: fpn_width"),
        ({"text_encoder.token_embedding.weight": torch.zeros(10**12, 0)}, "does not fit the model"),
    ],
)
def test_mismatched_layouts_are_refused(model, tmp_path, change, message):
    names = {**published_names(model, tmp_path), **change}
    torch.save({n: t for n, t in names.items() if t is not None}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=message):
        model_file.load_published(tmp_path / "c.pth", WORDS)


def test_number_and_length_of_words_are_checked(model, tmp_path):
    published_names(model, tmp_path)
    with pytest.raises(InputError, match="3 classes, but 2 words"):
        model_file.load_published(tmp_path / "whole.pth", WORDS[:2])
    with pytest.raises(InputError, match="13 position rows"):
        model_file.load_published(tmp_path / "whole.pth", ["a", "b", "a name of many words in a row"])


def test_code_in_a_file_is_never_run(tmp_path):
    class Bad:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "bad.pth").write_bytes(pickle.dumps({"state_dict": Bad()}, protocol=2))
    with pytest.raises(WeightsError):
        model_file.load_published(tmp_path / "bad.pth", WORDS)


def test_models_that_the_authors_layout_cannot_hold_are_refused(sclip_model, sclip_weights):
    plain = small_model(sclip_model, replace(SMALL, decoder="plain"))
    with pytest.raises(InputError, match="guided decoder"):
        model_file.published_tensors(plain)
    short = small_model(tagmask.load(sclip_weights, device="cpu", precision="bfloat16"))
    with pytest.raises(InputError, match="float32"):
        model_file.published_tensors(short)


def test_an_unwritable_path_is_an_error(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        model_file.save(model, tmp_path / "file" / "a.safetensors")


def test_the_header_has_the_words(model, tmp_path):
    model_file.save(model, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        assert json.loads(opened.metadata()["words"]) == list(WORDS)
