"""PIAA compared with its definition, row by row, and the effect of the safe default."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.errors import InputError
from tagmask.papers import piaa
from tagmask.papers.piaa import PiaaSettings
from tagmask.papers.piaa_encoders import ENCODERS, encode
from tagmask.papers.preprocessing import encode_image

WIDTH, WORDS = 16, 4


def units(seed: int, *shape: int) -> Tensor:
    return F.normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float(), dim=-1)


TEXTS = units(0, WORDS, WIDTH)


def patches(seed: int, n: int) -> Tensor:
    """Patches near the words but not at them, like real patches."""
    rng = np.random.default_rng(seed)
    centres = TEXTS[torch.from_numpy(rng.integers(0, WORDS - 1, n))] + 0.6 * units(99, WORDS, WIDTH)[0]
    return F.normalize(centres + 0.9 * units(seed + 1, n, WIDTH), dim=-1)


SETTINGS = PiaaSettings(bank_size=20, bank_scale=10.0, refine_scale=0.5)


def bank_of(x: Tensor, at_a_time: int = 1000, settings: PiaaSettings = SETTINGS) -> piaa.Bank:
    bank = piaa.empty_bank(TEXTS)
    for part in x.split(at_a_time):
        bank = piaa.grow(bank, part, TEXTS, settings)
    return bank


# -- Bank ----------------------------------------------------------------------------------------------------


def naive_bank(x: Tensor, size: int, scale: float) -> list[int]:
    """Rows of the most confident patches of each word, sorted naively."""
    chosen: list[int] = []
    cosines = (x @ TEXTS.T).double()
    for word in range(WORDS):
        candidates = []
        for i, row in enumerate(cosines.tolist()):
            if row.index(max(row)) == word:
                total = sum(math.exp(scale * c) for c in row)
                p = [math.exp(scale * c) / total for c in row]
                candidates.append((-sum(each * math.log(max(each, 1e-10)) for each in p), i))
        chosen += [i for _, i in sorted(candidates)[:size]]
    return chosen


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
def test_bank_keeps_the_most_confident_patches_in_any_batches(at_a_time: int) -> None:
    x = patches(1, 150)
    bank = bank_of(x, at_a_time)
    torch.testing.assert_close(bank.features, x[naive_bank(x, 20, 10.0)], rtol=0, atol=0)
    p = torch.softmax(10 * bank.features @ TEXTS.T, dim=-1)
    torch.testing.assert_close(bank.probabilities, p)
    assert bank.owners.tolist() == sorted(bank.owners.tolist())
    assert 3 not in bank.owners  # a word that is no patch's most similar word has no entry


# -- Fit -----------------------------------------------------------------------------------------------------


def naive_fit(
    x: np.ndarray, p: np.ndarray, owners: np.ndarray, fallback: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The definition: weighted means, unbiased covariance, a pseudo-inverse."""
    means = []
    for word in range(WORDS):
        rows = [i for i in range(len(x)) if owners[i] == word]
        total = sum(p[i, word] for i in rows)
        means.append(sum(p[i, word] * x[i] for i in rows) / total if rows else fallback[word])
    z = np.stack([x[i] - means[owners[i]] for i in range(len(x))])
    sigma = np.cov(z.T)
    precision = WIDTH * np.linalg.pinv((len(x) - 1) * sigma + np.trace(sigma) * np.eye(WIDTH))
    weight = precision @ np.stack(means).T
    bias = [math.log(1 / WORDS) - 0.5 * mean @ precision @ mean for mean in means]
    return weight, np.array(bias)


def test_fit_equals_the_definition() -> None:
    bank = bank_of(patches(3, 200))
    actual = piaa.fit(bank.features, bank.probabilities, bank.owners, TEXTS)
    arrays = (part.double().numpy() for part in (bank.features, bank.probabilities))
    weight, bias = naive_fit(*arrays, bank.owners.numpy(), TEXTS.double().numpy())
    np.testing.assert_allclose(actual.adapter.weight, weight, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(actual.adapter.bias, bias, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(actual.means[3].float(), TEXTS[3])  # no rows: its text


@pytest.mark.parametrize(
    ("rows", "message"), [(1, "Got 1 patches"), (3, "The 3 patches to fit to are all the same")]
)
def test_too_few_patches_are_refused(rows: int, message: str) -> None:
    x = TEXTS[:1].repeat(rows, 1)
    with pytest.raises(InputError, match=message):
        piaa.fit(x, torch.ones(rows, WORDS), torch.zeros(rows).long(), TEXTS)


# -- Refinement ----------------------------------------------------------------------------------------------


def test_refinement_keeps_rows_one_deviation_above_their_words_mean() -> None:
    bank = bank_of(patches(4, 200))
    first = piaa.fit(bank.features, bank.probabilities, bank.owners, TEXTS).adapter
    kept, q, owners = piaa.refine_bank(bank, first, SETTINGS)
    logits = (bank.features @ first.weight + first.bias).numpy()
    assert owners.tolist() == logits.argmax(axis=1).tolist()
    sure = q.numpy().max(axis=1)
    for word in set(owners.tolist()):
        rows = [i for i in range(len(sure)) if int(owners[i]) == word]
        mean = sum(float(sure[i]) for i in rows) / len(rows)
        sd = math.sqrt(sum((float(sure[i]) - mean) ** 2 for i in rows) / (len(rows) - 1))
        for i in rows:
            if abs(sure[i] - mean - sd) > 1e-6:
                assert bool(kept[i]) == (sure[i] >= mean + sd)
    assert 0 < kept.sum() < len(kept)


def test_emptied_word_falls_back_to_its_first_mean_or_as_coded_to_its_text() -> None:
    """With a large factor most probabilities round to 1, and words with other rows lose all of them."""
    bank = bank_of(patches(5, 60))
    steep = replace(SETTINGS, refine_scale=3.0)
    first = piaa.fit(bank.features, bank.probabilities, bank.owners, TEXTS)
    kept, q, owners = piaa.refine_bank(bank, first.adapter, steep)
    safe, coded = (piaa.adapt(bank, TEXTS, replace(steep, compat=compat)) for compat in (False, True))
    emptied = [int(word) for word in owners.unique() if not kept[owners == word].any()]
    assert emptied
    assert kept.sum() > 1
    assert [word for word in range(WORDS) if safe.seen[word] and not safe.kept[word]] == emptied
    for fitted, fallback in ((safe, first.means.float()), (coded, TEXTS)):
        expected = piaa.fit(bank.features[kept], q[kept], owners[kept], fallback)
        for word in emptied:
            torch.testing.assert_close(expected.means[word].float(), fallback[word])
        torch.testing.assert_close(fitted.adapter.weight, expected.adapter.weight)
    assert (safe.adapter.weight - coded.adapter.weight).abs().max() > 0.1


def test_empty_refinement_keeps_the_first_fit_or_as_coded_raises() -> None:
    """Of two rows the greater is 0.5 of their difference above the mean; their deviation is 0.7 of it."""
    x = F.normalize(TEXTS[[0, 0, 1, 1]] + 0.3 * units(6, 4, WIDTH), dim=-1)
    bank = bank_of(x)
    assert bank.owners.tolist() == [0, 0, 1, 1]
    gentle = replace(SETTINGS, refine_scale=1e-3)  # far from where probabilities are rounded to 1
    first = piaa.fit(bank.features, bank.probabilities, bank.owners, TEXTS).adapter
    actual = piaa.adapt(bank, TEXTS, gentle)
    assert actual.kept.sum() == 0
    assert torch.equal(actual.adapter.weight, first.weight)
    with pytest.raises(InputError, match="Got 0 patches to fit to"):
        piaa.adapt(bank, TEXTS, replace(gentle, compat=True))


# -- Scores --------------------------------------------------------------------------------------------------


def test_scores_weight_best_patch_and_class_token_nine_to_one() -> None:
    bank = bank_of(patches(7, 200))
    adapter = piaa.adapt(bank, TEXTS, SETTINGS).adapter
    x, token = patches(8, 12).reshape(2, 6, WIDTH), units(9, 2, WIDTH)
    settings = PiaaSettings(score_divisor=50.0, patch_scale=30.0, class_scale=7.0)
    actual = piaa.score(x, token, TEXTS, adapter, settings).numpy()
    for b in range(2):
        best = [0.0] * WORDS
        for i in range(6):
            g = (x[b, i] @ adapter.weight + adapter.bias).double().tolist()
            total = sum(math.exp(each / 50) for each in g)
            best = [max(old, math.exp(each / 50) / total) for old, each in zip(best, g, strict=True)]
        local = [math.exp(30 * each) / sum(math.exp(30 * other) for other in best) for each in best]
        c = (TEXTS @ token[b]).double().tolist()
        global_ = [math.exp(7 * each) / sum(math.exp(7 * other) for other in c) for each in c]
        expected = [0.9 * a + 0.1 * b for a, b in zip(local, global_, strict=True)]
        np.testing.assert_allclose(actual[b], expected, rtol=0, atol=1e-5)


# -- Encoders ------------------------------------------------------------------------------------------------


def correlative_weights(block: object, x: Tensor) -> Tensor:
    """softmax(qq) + softmax(kk) of a block, head by head."""
    attn = block.attn  # type: ignore[attr-defined]
    q, k, _ = attn.qkv(block.ln_1(x))  # type: ignore[attr-defined]
    heads = []
    for head in range(attn.heads):
        parts = [torch.softmax(u[0, head] @ u[0, head].T / 8, dim=-1) for u in (q, k)]
        heads.append(parts[0] + parts[1])
    return torch.stack(heads)[None]


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.inference_mode()
def test_encoders_equal_their_definition(tagclip_model: Clip, encoder: str) -> None:
    clip = tagclip_model
    pixels = torch.from_numpy(np.random.default_rng(10).normal(size=(1, 3, 224, 224)).astype(np.float32))
    x = clip.vision.embed(pixels, clip.vision.positional_embedding)
    middle = []
    *blocks, last = clip.vision.blocks
    for layer, block in enumerate(blocks):
        if layer in (6, 7, 9):
            middle.append(correlative_weights(block, x))
        x = block(x)
    weights = correlative_weights(last, x)
    if encoder == "itaclip":
        weights = 0.5 * weights + 0.5 * (middle[0] + middle[1] + middle[2]) / 3
    _, _, v = last.attn.qkv(last.ln_1(x))
    y = x + last.attn.merge(weights @ v)
    y = y + last.mlp(last.ln_2(y)) if encoder == "sclip" else y
    encoded = encode(clip, pixels, encoder)
    expected = F.normalize(clip.vision.project(y)[:, 1:], dim=-1)
    torch.testing.assert_close(encoded.patches, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(
        encoded.class_tokens, class_token(encode_image(clip, pixels)), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.inference_mode()
def test_batch_equals_single_images(tagclip_model: Clip, encoder: str) -> None:
    pixels = torch.from_numpy(np.random.default_rng(11).normal(size=(3, 3, 64, 80)).astype(np.float32))
    together = encode(tagclip_model, pixels, encoder).patches
    alone = torch.cat([encode(tagclip_model, each[None], encoder).patches for each in pixels])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match=r"Unknown encoder 'vit'. Give one of sclip, itaclip"):
        PiaaSettings(encoder="vit")
    with pytest.raises(InputError, match="bank_size is 0"):
        PiaaSettings(bank_size=0)
