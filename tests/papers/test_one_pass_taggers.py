"""CLIP, DPT and CLIP Surgery as taggers, compared with their formulas written as loops."""

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
    computed = clip_tags.softmax(c, 20.0)
    for b in range(3):
        total = sum(math.exp(20 * float(c[b, k])) for k in range(5))
        for k in range(5):
            assert float(computed[b, k]) == pytest.approx(math.exp(20 * float(c[b, k])) / total, abs=1e-6)


def test_local_score_is_softmax_weighted_over_positions() -> None:
    positions, s = units(2, 2, 7, 64), 12.0
    computed = dpt.local_logits(3 * positions, TEXTS, s)  # features are normalised first
    for b in range(2):
        for k in range(5):
            z = [s * float(positions[b, i] @ TEXTS[k]) for i in range(7)]
            total = sum(math.exp(each) for each in z)
            expected = sum(math.exp(each) / total * each for each in z)
            assert float(computed[b, k]) == pytest.approx(expected, abs=1e-5)


def test_dpt_softmax_placement() -> None:
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


def test_feature_surgery_subtracts_the_mean_over_texts() -> None:
    tokens = units(5, 2, 6, 64)
    computed = feature_surgery(tokens, TEXTS)
    for b in range(2):
        c = [[float(tokens[b, i] @ TEXTS[k]) for k in range(5)] for i in range(6)]
        total = sum(math.exp(2 * each) for each in c[0])
        w = [5 * math.exp(2 * each) / total for each in c[0]]
        for i in range(6):
            shared = sum(w[j] * c[i][j] for j in range(5)) / 5
            for k in range(5):
                assert float(computed[b, i, k]) == pytest.approx(w[k] * c[i][k] - shared, abs=1e-6)


# -- The second stream -------------------------------------------------------------------------------------


@torch.inference_mode()
def test_second_stream_equals_naive_loops(tagclip_model: Clip) -> None:
    """Loop over heads and tokens, with the stored tensors."""
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
            values = v[:, 64 * head : 64 * head + 64]
            for i in range(len(values)):
                logits = torch.stack([values[i] @ values[j] / 8 for j in range(len(values))])
                weights = torch.softmax(logits, dim=0)
                mixed[i, 64 * head : 64 * head + 64] = sum(weights[j] * values[j] for j in range(len(values)))
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
def test_second_streams_class_token_equals_the_towers(tagclip_model: Clip) -> None:
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


# -- With a tower ------------------------------------------------------------------------------------------

TAGGERS: dict[str, Callable[[Clip, Tensor], Tensor]] = {
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


@pytest.mark.parametrize("method", TAGGERS)
@torch.inference_mode()
def test_batch_equals_single_images(tagclip_model: Clip, method: str) -> None:
    pixels = images(8, b=3)
    together = TAGGERS[method](tagclip_model, pixels)
    alone = torch.cat([TAGGERS[method](tagclip_model, each[None]) for each in pixels])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert together.std(dim=0).min() > 1e-5  # different images, else the test shows nothing


@torch.inference_mode()
def test_dpt_local_features_are_the_value_path(tagclip_model: Clip) -> None:
    pixels, s = images(9, b=1), tagclip_model.logit_scale
    tower = encode_image(tagclip_model, pixels)
    positions = F.normalize(tower.project_last_block(None)[:, 1:], dim=-1)
    z = s * class_token(tower) @ TEXTS.T
    local = (torch.softmax(s * positions @ TEXTS.T, dim=1) * (s * positions @ TEXTS.T)).sum(dim=1)
    torch.testing.assert_close(TAGGERS["dpt"](tagclip_model, pixels), (z + local) / 2, rtol=0, atol=1e-4)
