from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tagmask.clip import attention


def heads(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, as views of one product."""
    b, h, n = shape
    generator = torch.Generator().manual_seed(0)
    qkv = 2 * torch.randn(b, n, 3 * h * 64, generator=generator)
    q, k, v = (part.reshape(b, n, h, 64).transpose(1, 2).to(dtype) for part in qkv.chunk(3, dim=-1))
    return q, k, v


def formula(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The output and the weights averaged over heads, in float64."""
    logits = q.double() @ k.double().transpose(-2, -1) / 8
    weights = (logits if bias is None else logits + bias.double()).softmax(dim=-1)
    return weights @ v.double(), weights.mean(dim=1)


@pytest.fixture
def in_groups(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Compute attention in groups of a size, in any precision."""

    def use(weights: int, rows: int) -> None:
        monkeypatch.setattr(attention, "_in_groups", lambda q: True)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        monkeypatch.setattr(attention, "_GROUP_WEIGHTS", weights)
        monkeypatch.setattr(attention, "_GROUP_ROWS", rows)

    return use


# All images; one image; two of three heads; one head; one head in blocks of rows.
@pytest.mark.parametrize(("weights", "rows"), [(10**6, 99), (3 * 121, 99), (2 * 121, 99), (1, 99), (1, 4)])
@pytest.mark.parametrize("biased", [False, True])
def test_groups_are_the_formula(
    in_groups: Callable[[int, int], None], weights: int, rows: int, biased: bool
) -> None:
    in_groups(weights, rows)
    q, k, v = heads(2, 3, 11)
    bias = torch.randn(2, 1, 11, 11, generator=torch.Generator().manual_seed(1)) if biased else None
    expected, mean = formula(q, k, v, bias)
    torch.testing.assert_close(attention.attend(q, k, v, bias).double(), expected, rtol=1e-4, atol=5e-6)
    if bias is None:
        outputs, averaged = attention.attend_with_mean(q, k, v)
        torch.testing.assert_close(outputs.double(), expected, rtol=1e-4, atol=5e-6)
        torch.testing.assert_close(averaged.double(), mean, rtol=1e-4, atol=5e-6)


def test_groups_cover_every_row_of_every_head_once(in_groups: Callable[[int, int], None]) -> None:
    for weights, rows in ((1, 1), (300, 7), (5000, 7), (10**6, 64)):
        in_groups(weights, rows)
        counts = torch.zeros(5, 12, 23)
        for group in attention._groups(5, 12, 23):
            counts[group] += 1
        assert (counts == 1).all()


def test_memory_of_groups_is_limited() -> None:
    for tokens in (197, 3001, 100_001):
        images, part, rows = next(attention._groups(16, 12, tokens))
        sizes = (min(images.stop, 16), part.stop, min(rows.stop, tokens), tokens)
        assert torch.Size(sizes).numel() <= attention._MAX_WEIGHTS


@pytest.mark.parametrize(("b", "tokens"), [(6, 197), (1, 769)])
def test_bfloat16_at_real_size(monkeypatch: pytest.MonkeyPatch, b: int, tokens: int) -> None:
    q, k, v = heads(b, 12, tokens, dtype=torch.bfloat16)
    expected, mean = formula(q, k, v)
    # Logits of 4 to 8, which decide, are rounded to 1/32, so a weight is off by up to 1.6 %.
    for groups in (False, True):
        monkeypatch.setattr(attention, "_in_groups", lambda q, groups=groups: groups)
        with torch.inference_mode():
            outputs, averaged = attention.attend_with_mean(q, k, v)
            alone = attention.attend(q, k, v)
        for got, want in ((outputs, expected), (alone, expected), (averaged, mean)):
            error = (got.double() - want).square().mean().sqrt() / want.square().mean().sqrt()
            assert error < 0.016, groups
        torch.testing.assert_close(averaged.sum(dim=-1), torch.ones(b, tokens), rtol=0, atol=5e-3)


def test_attention_keeps_its_gradient() -> None:
    q, k, v = (part.requires_grad_() for part in heads(1, 2, 5, dtype=torch.bfloat16))
    attention.attend(q, k, v).sum().backward()
    assert q.grad is not None
    assert v.grad is not None
    assert bool(v.grad.any())
