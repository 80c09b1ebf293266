from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tagmask
from tagmask.errors import InputError, ShapeError, WeightsError
from tagmask.weak import trunk
from tagmask.weak.model import WeakClip, WeakClipOutput
from tagmask.weak.model_settings import WeakSettings, widths_of
from tagmask.weak.training_state import frozen_hash
from tagmask.weak.trunk import Trunk, extract_trunk_features, name_ids, positions
from tests.weak.models import SMALL, VIT_B, WORDS, meta_model, small_model


@pytest.fixture(scope="module")
def miniature():
    return tagmask.load("miniature")


def pixels(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("classes", "counts"), [(21, (21_240_853, 171_464_725)), (91, (21_330_523, 171_554_395))]
)
def test_parameter_counts_match_the_paper(classes, counts):
    assert meta_model(classes).counts() == counts


def test_derived_widths_match_the_paper():
    widths = widths_of(WeakSettings(), VIT_B)
    assert (widths.taps, widths.match, widths.fpn, widths.head) == ((4, 6, 8, 12), 256, 256, 256)
    large = replace(VIT_B, vision_layers=24, vision_width=1024, embed=768)
    assert widths_of(WeakSettings(), large).taps == (8, 12, 16, 24)


@pytest.mark.parametrize("as_", ["published", "corrected"])
@pytest.mark.parametrize("size", [(64, 64), (80, 115), (16, 16), (33, 200)])
def test_any_size_gives_logits_at_a_quarter_and_scores_on_the_patch_grid(miniature, as_, size):
    model = WeakClip.of(miniature, WORDS, as_=as_).eval()
    with torch.no_grad():
        found = model(pixels(2, 3, *size))
    gh, gw = size[0] // 16, size[1] // 16
    assert found.scores.shape == (2, 3, gh, gw)
    assert found.logits.shape == (2, 3, 4 * gh, 4 * gw)
    assert found.logits.isfinite().all()
    assert found.scores.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("as_", ["published", "corrected"])
def test_a_batch_equals_its_images_one_at_a_time(sclip_model, as_):
    model = small_model(sclip_model, as_=as_)
    batch = pixels(3, 3, 80, 115)
    with torch.no_grad():
        together = model(batch)
        for index in range(3):
            alone = model(batch[index : index + 1])
            torch.testing.assert_close(together.logits[index], alone.logits[0], atol=2e-5, rtol=0)
            torch.testing.assert_close(together.scores[index], alone.scores[0], atol=1e-5, rtol=0)


def test_each_quirk_changes_the_output(sclip_model):
    image = pixels(1, 3, 96, 80)
    base = replace(SMALL, stored_side=12)

    def answer(settings):
        with torch.no_grad():
            return small_model(sclip_model, settings)(image).scores

    published = answer(base)
    for change in ({"dead_layers": False}, {"class_embedding_twice": False}, {"stored_side": None}):
        assert (answer(replace(base, **change)) - published).abs().max() > 1e-5, change
    clean = WeakSettings().as_("corrected")
    assert clean.drop_path_of == "samples"
    assert clean.normalisation == "clip"
    assert not clean.dead_layers
    assert not clean.class_embedding_twice
    assert clean.stored_side is None
    assert clean.as_("published") == WeakSettings()


def test_pixels_are_normalised_as_the_settings_say(miniature):
    image = np.full((1, 2, 2, 3), 200, np.uint8)
    for as_, mean, std in (
        ("published", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ("corrected", [255 * m for m in miniature.mean], [255 * s for s in miniature.std]),
    ):
        found = WeakClip.of(miniature, WORDS, as_=as_).normalise(image)
        wanted = [(200 - m) / s for m, s in zip(mean, std, strict=True)]
        np.testing.assert_allclose(found[0, :, 0, 0], wanted, rtol=1e-5)


def test_positions_are_resized_and_add_the_class_embedding_twice():
    table, embedding = torch.randn(17, 8), torch.randn(8)
    found = positions(table, embedding, (3, 5), twice=True)
    once = positions(table, embedding, (3, 5), twice=False)
    assert torch.equal(found[0], table[0] + embedding)
    assert torch.equal(once[0], table[0])
    assert torch.equal(found[1:], once[1:])
    square = table[1:].reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=(3, 5), mode="bilinear")[0].flatten(1).T
    torch.testing.assert_close(once[1:], wanted)
    assert torch.equal(positions(table, embedding, (4, 4), twice=False), table)


def test_maps_are_captured_after_the_given_numbers_of_blocks(sclip_model):
    vision, image = sclip_model.vision, pixels(1, 3, 64, 48)
    trunk = extract_trunk_features(vision, image, (1, 2, 2, 4), twice=False)
    x = vision.embed(
        image, positions(vision.positional_embedding, vision.class_embedding, (4, 3), twice=False)
    )
    for number, block in enumerate(vision.blocks, start=1):
        x = block(x)
        for tap, kept in zip((1, 2, 2, 4), trunk.maps, strict=True):
            if tap == number:
                assert torch.equal(kept[0, :, 1, 2], x[0, 1 + 1 * 3 + 2])
    assert torch.equal(trunk.memory, vision.project(x))


def test_cached_features_give_the_same_output(sclip_model):
    model = small_model(sclip_model)
    image = pixels(2, 3, 64, 64)
    with torch.no_grad():
        trunk = model.features(image)
        again = Trunk.of({name: x.clone() for name, x in trunk.tensors().items()})
        found = model.head(again, model.encode_texts())
        assert torch.equal(found.logits, model(image).logits)
    with pytest.raises(ShapeError, match="Expected memory, map0"):
        Trunk.of({"memory": trunk.memory})
    with pytest.raises(ShapeError, match="do not match"):
        Trunk.of({**trunk.tensors(), "memory": trunk.memory[:, 1:]})


def test_texts_are_cached_until_weights_change(sclip_model, monkeypatch):
    model = small_model(sclip_model)
    calls = []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda: calls.append(1) or encode())
    with torch.no_grad():
        first = model.encode_texts()
        assert model.encode_texts() is first
        assert len(calls) == 1
        model.contexts += 0.5
        changed = model.encode_texts()
    assert len(calls) == 2
    assert not torch.equal(first, changed)
    assert model.encode_texts().requires_grad  # in training they are part of the graph
    with torch.inference_mode():
        assert torch.equal(model.encode_texts(), changed)


def test_a_name_is_encoded_at_its_own_end_token(sclip_model):
    """Padding and the other names do not change the result."""
    model = small_model(sclip_model)
    with torch.no_grad():
        together = model.encode_texts()
        for index, word in enumerate(WORDS):
            alone = WeakClip.of(sclip_model, [word], SMALL)
            alone.contexts.copy_(model.contexts)
            torch.testing.assert_close(alone.encode_texts()[0], together[index], atol=1e-5, rtol=0)


@pytest.mark.parametrize("sequence", [1, 24, 512])
@pytest.mark.parametrize("contexts", [8, 0])
def test_texts_and_gradients_are_those_of_each_name_after_its_own_contexts(
    sclip_model, monkeypatch, contexts, sequence
):
    """However many names share a sequence; the plain formula repeats start and contexts for every name."""
    monkeypatch.setattr(trunk, "_SEQUENCE", sequence)
    text = sclip_model.text
    ids = name_ids(["cat", "a very long name of a class", "potted plant", "dog", "sky"])
    shared = pixels(1, contexts, text.positional_embedding.shape[1]).requires_grad_()
    words = text.token_embedding(ids)
    x = torch.cat([words[:, :1], shared.expand(len(ids), -1, -1), words[:, 1:]], dim=1)
    x = x + text.positional_embedding[: x.shape[1]]
    for block in text.transformer.resblocks:
        x = block(x, causal=True)
    ends = x[torch.arange(len(ids)), ids.argmax(dim=1) + contexts]
    wanted = text.ln_final(ends) @ text.text_projection
    found = trunk.contextual_texts(text, ids, shared)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    if contexts:
        gradients = [torch.autograd.grad(each.square().sum(), shared)[0] for each in (found, wanted)]
        torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_long_names_get_the_columns_they_need():
    assert name_ids(["cat"]).shape == (1, 5)
    assert name_ids(["a very long name of a class", "cat"]).shape == (2, 9)


def test_without_contexts_the_plain_names_are_encoded(sclip_model):
    model = WeakClip.of(sclip_model, WORDS, replace(SMALL, contexts=0))
    ids = F.pad(name_ids(WORDS), (0, 72))
    torch.testing.assert_close(model.encode_texts(), sclip_model.text(ids), atol=1e-5, rtol=0)


def test_the_plain_decoder_and_no_decoder_work(sclip_model):
    image = pixels(1, 3, 64, 64)
    none = small_model(sclip_model, replace(SMALL, decoder="none", co_attention=False, contexts=0))
    with torch.no_grad():
        found = none(image)
        wanted = F.interpolate(found.scores / 0.07, scale_factor=4, mode="bilinear")
        trunk, texts = none.features(image), none.encode_texts()
    torch.testing.assert_close(found.logits, wanted)
    direct = F.normalize(trunk.memory[:, 1:], dim=-1) @ F.normalize(texts, dim=-1).T
    torch.testing.assert_close(found.scores.flatten(2), direct.transpose(1, 2))
    assert none.parameter_groups("paper") == []
    plain = small_model(sclip_model, replace(SMALL, decoder="plain"))
    assert plain.fpn.lateral_convs[0].conv.weight.shape[1] == 128
    with torch.no_grad():
        before = plain(image).logits
        plain.gamma += 1
        assert torch.equal(plain(image).logits, before)  # the scores do not reach this decoder
        assert not torch.equal(small_model(sclip_model)(image).logits, before)


def names_of(model, groups):
    ids = {id(p): name for name, p in model.named_parameters()}
    return {group.name: {ids[id(p)] for p in group.parameters} for group in groups}


@pytest.mark.parametrize("freeze", ["paper", "repo", "none"])
def test_every_effective_weight_is_in_its_group(sclip_model, freeze):
    model = small_model(sclip_model)
    groups = model.parameter_groups(freeze)
    found = names_of(model, groups)
    every = {name for name, _ in model.named_parameters()}
    unused = {
        n
        for n in every
        if n.startswith(("matching.decoder", "matching.anti_decoder")) and ".2." not in n[:27]
    }
    clip = {name for name in every if name.startswith(("vision.", "text."))}
    adapter = {name for name in every if name.startswith("pyramid.")}
    slow = {"paper": set(), "repo": clip | adapter, "none": clip}[freeze]
    assert found.get("clip", set()) == slow
    assert found["head"] == every - unused - clip - slow
    scales = {group.name: group.factor for group in groups}
    assert scales == {"head": 1.0} | {"paper": {}, "repo": {"clip": 0.0}, "none": {"clip": 1.0}}[freeze]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == set().union(*found.values())
    assert model.clip_frozen == (freeze == "paper")


@pytest.mark.parametrize("freeze", ["paper", "repo"])
@pytest.mark.parametrize("as_", ["published", "corrected"])
def test_gradients_reach_exactly_the_trained_weights(sclip_model, freeze, as_):
    model = WeakClip.of(sclip_model, WORDS, SMALL, as_).train()
    groups = model.parameter_groups(freeze)
    found = model(pixels(2, 3, 64, 64))
    assert isinstance(found, WeakClipOutput)
    (found.logits.square().mean() + found.scores.square().mean()).backward()
    trained = [p for group in groups for p in group.parameters]
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad is None for p in model.parameters() if not any(p is t for t in trained))
    assert model.vision.training == (freeze == "repo")


def test_the_given_clip_is_not_changed(sclip_model):
    before = sclip_model.vision.proj.clone()
    model = WeakClip.of(sclip_model, WORDS, SMALL)
    model.parameter_groups("repo")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(sclip_model.vision.proj, before)
    assert not sclip_model.vision.proj.requires_grad


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator(sclip_model):
    torch.manual_seed(9)
    wanted = torch.rand(1)
    torch.manual_seed(9)
    one, two, other = (WeakClip.of(sclip_model, WORDS, SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), wanted)
    assert torch.equal(one.contexts, two.contexts)
    assert torch.equal(one.decode_head.conv_seg.weight, two.decode_head.conv_seg.weight)
    assert not torch.equal(one.contexts, other.contexts)
    assert one.contexts.abs().max() <= 2
    assert one.contexts.std() > 0.7


@pytest.mark.parametrize("tokens", [True, False])
def test_stochastic_depth_drops_positions_or_images(sclip_model, tokens):
    vision = sclip_model.vision
    torch.manual_seed(0)
    same = pixels(1, 3, 64, 64).expand(4, -1, -1, -1)
    plain = extract_trunk_features(vision, same, (1, 2, 3, 4))
    dropped = extract_trunk_features(vision, same, (1, 2, 3, 4), drop=0.5, drop_tokens=tokens)
    torch.testing.assert_close(dropped.maps[0], plain.maps[0])  # the first block is never skipped
    apart = (dropped.memory - dropped.memory[:1]).abs().amax()
    assert (dropped.memory - plain.memory).abs().amax() > 1e-2
    # Positions are dropped for all images alike, so equal images stay equal.
    assert (apart < 1e-5) == tokens


def test_stochastic_depth_acts_only_if_the_tower_is_trained(sclip_model):
    model = WeakClip.of(sclip_model, WORDS, SMALL).train()
    image = pixels(1, 3, 64, 64)
    assert torch.equal(model.features(image).memory, model.features(image).memory)
    model.parameter_groups("repo")
    assert not torch.equal(model.features(image).memory, model.features(image).memory)
    model.eval()
    assert torch.equal(model.features(image).memory, model.features(image).memory)


def test_bfloat16_is_close(sclip_weights, sclip_model):
    clip = tagmask.load(sclip_weights, device="cpu", precision="bfloat16")
    image = pixels(1, 3, 96, 96)
    with torch.inference_mode():
        exact = small_model(sclip_model)(image)
        short = small_model(clip)(image)
    assert short.logits.dtype == torch.float32
    assert 0 < (short.scores - exact.scores).abs().max() < 0.03
    assert (short.logits - exact.logits).abs().max() < 0.05 * exact.logits.abs().max()
    with pytest.raises(InputError, match="precision='float32'"):
        WeakClip.of(clip, WORDS, SMALL).parameter_groups("repo")


def test_a_packed_tower_is_no_part_of_the_model(sclip_weights):
    clip = tagmask.load(sclip_weights, device="cpu", precision="bfloat16")
    model, other = small_model(clip), small_model(clip)
    image = pixels(1, 3, 64, 64)
    counts, names, frozen = model.counts(), list(model.state_dict()), frozen_hash(model)
    with torch.no_grad():
        first = model.features(image)
        assert (model.counts(), list(model.state_dict()), frozen_hash(model)) == (counts, names, frozen)
        copied = deepcopy(model).features(image)
        assert torch.equal(copied.memory, first.memory)
        for each in (model, other):  # one with a packed copy of the old weights, one without
            each.vision.blocks[0].mlp.c_fc.weight *= 1.5
        assert torch.equal(model.features(image).memory, other.features(image).memory)
    assert not torch.equal(model.features(image).memory, first.memory)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"taps": (1, 2, 3)}, "taps"),
        ({"taps": (1, 2, 3, 9)}, "has 4 blocks"),
        ({"match_width": 30}, "multiple"),
        ({"decoder": "deep"}, "decoder"),
        ({"dropout": 2.0}, "dropout"),
        ({"contexts": 65}, "contexts"),
    ],
)
def test_invalid_settings_are_refused(sclip_model, settings, message):
    with pytest.raises(InputError, match=message):
        WeakClip.of(sclip_model, WORDS, replace(SMALL, **settings))


def test_images_smaller_than_a_patch_and_missing_words_are_refused(sclip_model):
    with pytest.raises(ShapeError, match="at least 16"):
        small_model(sclip_model)(pixels(1, 3, 15, 64))
    with pytest.raises(InputError, match="at least one"):
        WeakClip.of(sclip_model, [])
    with pytest.raises(InputError, match="from 1 to 254"):
        WeakClip.of(sclip_model, torch.zeros(300, 5, dtype=torch.int64))
    with pytest.raises(InputError, match="fewer contexts"):
        WeakClip.of(sclip_model, ["cat " * 40], replace(SMALL, contexts=64)).encode_texts()


def test_both_towers_are_trained_without_a_decoder(sclip_model):
    model = WeakClip.of(sclip_model, WORDS, replace(SMALL, decoder="none", co_attention=False, contexts=0))
    [group] = model.train().parameter_groups("none")
    model(pixels(2, 3, 64, 64)).logits.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert sum(p.requires_grad for p in model.parameters()) == len(group.parameters)


def test_scores_that_are_no_numbers_are_reported_where_nothing_else_does(miniature):
    model = WeakClip.of(miniature, WORDS).eval()
    model.decode_head.conv_seg.bias.data[0] = torch.nan
    with torch.no_grad(), pytest.raises(WeightsError, match="The model's scores are NaN or infinite"):
        model(pixels(1, 3, 64, 64))
    model.train()(pixels(1, 3, 64, 64))  # training reports its loss
