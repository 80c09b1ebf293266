"""Every dense method against its formula, written naively; and that batches change nothing."""

import math

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.dense.attention import METHODS, dense_method
from tagmask.dense.features import Pass, one_pass
from tagmask.dense.positions import bicubic_nudged
from tagmask.errors import InputError

ROW_SUMS = {"clip": 1.0, "sclip": 2.0, "sclip-q": 1.0, "sclip-k": 1.0, "sclip-identity": 1.0}


def naive(method: str, z: np.ndarray, weight: np.ndarray, bias: np.ndarray, head: int) -> np.ndarray:
    """softmax(s x yT) of one head, entry by entry, in float64."""
    width = z.shape[1]
    rows = slice(64 * head, 64 * head + 64)
    q, k = (
        (z @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width])[:, rows]
        for i in (0, 1)
    )
    pairs = {
        "clip": [(q, k)],
        "sclip": [(q, q), (k, k)],
        "sclip-q": [(q, q)],
        "sclip-k": [(k, k)],
        "sclip-identity": [(z[:, rows], z[:, rows])],
    }[method]
    total = np.zeros((len(z), len(z)))
    for x, y in pairs:
        for i in range(len(z)):
            row = [math.exp(float(x[i] @ y[j]) / 8) for j in range(len(z))]
            total[i] += np.array(row) / sum(row)
    return total


@pytest.fixture(scope="module")
def state(sclip_model: Clip) -> Pass:
    generator = torch.Generator().manual_seed(3)
    return one_pass(sclip_model.vision, torch.randn(2, 3, 48, 64, generator=generator), bicubic_nudged)


@pytest.mark.parametrize("method", ROW_SUMS)
def test_weights_equal_the_formula(method: str, state: Pass) -> None:
    weights = METHODS[method].weights(state)
    assert weights is not None
    attention = state.block.attn
    weight, bias = attention.in_proj_weight.numpy(), attention.in_proj_bias.numpy()
    for image in range(2):
        for head in range(2):
            expected = naive(
                method, state.z[image].double().numpy(), weight.astype(float), bias.astype(float), head
            )
            np.testing.assert_allclose(weights[image, head].numpy(), expected, rtol=0, atol=1e-5)
            np.testing.assert_allclose(expected.sum(axis=1), ROW_SUMS[method], rtol=1e-9)


def test_value_only_equals_attention_to_oneself(state: Pass) -> None:
    n = state.tokens.shape[1]
    itself = torch.eye(n).expand(2, 2, n, n)
    assert METHODS["maskclip"].weights(state) is None
    torch.testing.assert_close(state.finish(None), state.finish(itself), rtol=0, atol=1e-6)


def test_value_only_never_forms_queries_and_keys(sclip_model: Clip) -> None:
    fresh = one_pass(sclip_model.vision, torch.zeros(1, 3, 32, 32), bicubic_nudged)
    fresh.finish(METHODS["maskclip"].weights(fresh))
    assert "v" in vars(fresh)
    assert not {"q", "k"} & vars(fresh).keys()


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_one_at_a_time(method: str, sclip_model: Clip) -> None:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(3, 3, 48, 80, generator=generator)

    def features(batch: torch.Tensor) -> torch.Tensor:
        state = one_pass(sclip_model.vision, batch, bicubic_nudged)
        return state.finish(METHODS[method].weights(state))

    together = features(pixels)
    for i in range(3):
        torch.testing.assert_close(features(pixels[i : i + 1])[0], together[i], rtol=0, atol=1e-5)


def test_only_the_attention_asked_for_is_kept(sclip_model: Clip) -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    assert one_pass(sclip_model.vision, pixels, bicubic_nudged).attention == {}
    kept = one_pass(sclip_model.vision, pixels, bicubic_nudged, attention=frozenset({1})).attention
    assert set(kept) == {1}
    torch.testing.assert_close(kept[1].sum(dim=-1), torch.ones(1, 5))


def test_watching_changes_no_token(sclip_model: Clip) -> None:
    pixels = torch.randn(1, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    plain = one_pass(sclip_model.vision, pixels, bicubic_nudged)
    seen = one_pass(sclip_model.vision, pixels, bicubic_nudged, attention=frozenset(range(3)))
    torch.testing.assert_close(plain.tokens, seen.tokens, rtol=0, atol=1e-5)


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(InputError, match="'slip' is unknown; give one of clip, maskclip, sclip"):
        dense_method("slip")
