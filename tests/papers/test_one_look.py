"""CLIP, DPT and CLIP Surgery as taggers, against their formulas written as loops."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.dense.positions import bilinear_half
from tagmask.errors import InputError
from tagmask.papers import clip_surgery_tags, clip_tags, dpt
from tagmask.papers.preprocessing import encode_image
from tagmask.variants.clip_surgery import feature_surgery, surgery_tokens


def units(seed: int, *shape: int) -> Tensor:
    return F.normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float(), dim=-1)


TEXTS = units(0, 5, 64)


def images(seed: int, b: int = 2, h: int = 64, w: int = 96) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(b, 3, h, w)).astype(np.float32))


# -- Formulas ----------------------------------------------------------------------------------------------


def test_softmax_is_over_the_words_of_an_image() -> None:
    c = clip_tags.cosines(units(1, 3, 64), TEXTS)
    found = clip_tags.softmax(c, 20.0)
    for b in range(3):
        total = sum(math.exp(20 * float(c[b, k])) for k in range(5))
        for k in range(5):
            assert float(found[b, k]) == pytest.approx(math.exp(20 * float(c[b, k])) / total, abs=1e-6)


def test_local_scores_are_weighted_by_where_a_word_is_strongest() -> None:
    places, s = units(2, 2, 7, 64), 12.0
    found = dpt.local_logits(3 * places, TEXTS, s)  # lengths do not matter
    for b in range(2):
        for k in range(5):
            z = [s * float(places[b, i] @ TEXTS[k]) for i in range(7)]
            total = sum(math.exp(each) for each in z)
            wanted = sum(math.exp(each) / total * each for each in z)
            assert float(found[b, k]) == pytest.approx(wanted, abs=1e-5)


def test_the_softmax_of_dpt_has_its_place() -> None:
    z, local = 9 * units(3, 2, 5), 9 * units(4, 2, 5)
    plain, each, merged = (
        dpt.merge(z, local, dpt.DptSettings(softmax=how)) for how in ("none", "each", "merged")
    )
    torch.testing.assert_close(plain, (z + local) / 2)
    torch.testing.assert_close(each, (z.softmax(-1) + local.softmax(-1)) / 2)
    torch.testing.assert_close(merged, ((z + local) / 2).softmax(-1))
    assert torch.equal(dpt.merge(z, local, dpt.DptSettings(local_weight=1.0)), local)
    with pytest.raises(InputError, match="Unknown softmax 'both'"):
        dpt.DptSettings(softmax="both")


def test_feature_surgery_takes_away_what_all_texts_share() -> None:
    tokens = units(5, 2, 6, 64)
    found = feature_surgery(tokens, TEXTS)
    for b in range(2):
        c = [[float(tokens[b, i] @ TEXTS[k]) for k in range(5)] for i in range(6)]
        total = sum(math.exp(2 * each) for each in c[0])
        w = [5 * math.exp(2 * each) / total for each in c[0]]
        for i in range(6):
            shared = sum(w[j] * c[i][j] for j in range(5)) / 5
            for k in range(5):
                assert float(found[b, i, k]) == pytest.approx(w[k] * c[i][k] - shared, abs=1e-6)


# -- The second stream -------------------------------------------------------------------------------------


@torch.inference_mode()
def test_the_second_stream_by_hand(tagclip_model: Clip) -> None:
    """Head by head, token by token, from the stored tensors."""
    vision, pixels = tagclip_model.vision, images(6, b=1, h=32, w=48)
    o = vision.embed(pixels, bilinear_half(vision.positional_embedding, (2, 3)))
    for block in vision.blocks[:6]:
        o = block(o)
    n = o.clone()
    for block in vision.blocks[6:]:
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
        v = (block.ln_1(o) @ weight.T + bias)[0, :, 2 * weight.shape[1] :]
        mixed = torch.zeros_like(v)
        for head in range(block.attn.heads):
            own = v[:, 64 * head : 64 * head + 64]
            for i in range(len(own)):
                weights = torch.softmax(torch.stack([own[i] @ own[j] / 8 for j in range(len(own))]), dim=0)
                mixed[i, 64 * head : 64 * head + 64] = sum(weights[j] * own[j] for j in range(len(own)))
        n = n + block.attn.out_proj(mixed)
        o = block(o)
    n[:, 0] = o[:, 0]
    torch.testing.assert_close(
        surgery_tokens(vision, pixels, bilinear_half),
        F.normalize(vision.project(n), dim=-1),
        rtol=0,
        atol=2e-5,
    )


@torch.inference_mode()
def test_the_second_streams_class_token_is_the_towers_own(tagclip_model: Clip) -> None:
    pixels = images(7)
    token = F.normalize(surgery_tokens(tagclip_model.vision, pixels, bilinear_half)[:, 0], dim=-1)
    torch.testing.assert_close(token, class_token(encode_image(tagclip_model, pixels)), rtol=0, atol=2e-6)
    by_class = clip_surgery_tags.score(
        tagclip_model, pixels, TEXTS, clip_surgery_tags.SurgeryTagSettings(pool="class")
    )
    whole = feature_surgery(
        F.normalize(surgery_tokens(tagclip_model.vision, pixels, bilinear_half), dim=-1), TEXTS
    )
    torch.testing.assert_close(by_class, whole[:, 0], rtol=0, atol=1e-5)
    by_patch = clip_surgery_tags.score(
        tagclip_model, pixels, TEXTS, clip_surgery_tags.SurgeryTagSettings(pool="patches")
    )
    torch.testing.assert_close(by_patch, whole[:, 1:].amax(dim=1))


# -- On a tower --------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Clip, Tensor], Tensor]] = {
    "clip": lambda clip, x: clip_tags.score(clip, x, TEXTS, clip_tags.ClipTagSettings(softmax=False)),
    "clip-softmax": lambda clip, x: clip_tags.score(clip, x, TEXTS, clip_tags.ClipTagSettings()),
    "dpt": lambda clip, x: dpt.score(clip, x, TEXTS, dpt.DptSettings()),
    "dpt-softmax": lambda clip, x: dpt.score(clip, x, TEXTS, dpt.DptSettings(softmax="each")),
    "clip-surgery": lambda clip, x: clip_surgery_tags.score(
        clip, x, TEXTS, clip_surgery_tags.SurgeryTagSettings()
    ),
    "patches": lambda clip, x: clip_surgery_tags.score(
        clip, x, TEXTS, clip_surgery_tags.SurgeryTagSettings(pool="patches")
    ),
}


@pytest.mark.parametrize("way", WAYS)
@torch.inference_mode()
def test_a_batch_is_its_images_one_at_a_time(tagclip_model: Clip, way: str) -> None:
    pixels = images(8, b=3)
    together = WAYS[way](tagclip_model, pixels)
    alone = torch.cat([WAYS[way](tagclip_model, each[None]) for each in pixels])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert together.std(dim=0).min() > 1e-5  # images that differ, or nothing would be shown


@torch.inference_mode()
def test_dpt_reads_places_by_their_values_alone(tagclip_model: Clip) -> None:
    pixels, s = images(9, b=1), tagclip_model.logit_scale
    tower = encode_image(tagclip_model, pixels)
    places = F.normalize(tower.finish(None)[:, 1:], dim=-1)
    z = s * class_token(tower) @ TEXTS.T
    local = (torch.softmax(s * places @ TEXTS.T, dim=1) * (s * places @ TEXTS.T)).sum(dim=1)
    torch.testing.assert_close(WAYS["dpt"](tagclip_model, pixels), (z + local) / 2, rtol=0, atol=1e-4)
