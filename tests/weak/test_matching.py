import math

import numpy as np
import pytest
import torch

from tagmask.weak.matching import CoAttention, MatchLayer, cosines


def norm(module, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * module.weight.detach().numpy() + module.bias.detach().numpy()


def linear(module, x):
    out = x @ module.weight.detach().numpy().T
    return out if module.bias is None else out + module.bias.detach().numpy()


def attention(module, x, memory):
    """Attention, one head and one query at a time."""
    q, k, v = linear(module.q_proj, x), linear(module.k_proj, memory), linear(module.v_proj, memory)
    width = q.shape[1] // module.heads
    mixed = np.zeros_like(q)
    for head in range(module.heads):
        part = slice(head * width, (head + 1) * width)
        for row in range(len(q)):
            logits = k[:, part] @ q[row, part] / math.sqrt(width)
            weights = np.exp(logits - logits.max())
            mixed[row, part] = weights / weights.sum() @ v[:, part]
    return linear(module.proj, mixed)


def gelu(x):
    return np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))(x)


def layer(module, x, memory):
    normed = norm(module.norm1, x)
    x = x + attention(module.self_attn, normed, normed)
    x = x + attention(module.cross_attn, norm(module.norm2, x), memory)
    hidden = gelu(linear(module.mlp[0], norm(module.norm3, x)))
    return x + linear(module.mlp[3], hidden)


@pytest.fixture
def moved():
    torch.manual_seed(3)
    module = CoAttention(12, 8, 2, 3, 0.1, dead_layers=True).eval().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("dead", [True, False])
def test_both_branches_match_naive_loops(moved, dead):
    moved.dead_layers = dead
    texts, memory = torch.randn(2, 3, 12).double(), torch.randn(2, 7, 12).double()
    found = moved(texts, memory)
    for image in range(2):
        raw = linear(moved.memory_proj[1], norm(moved.memory_proj[0], memory[image].numpy()))
        m = norm(moved.memory_proj[2], raw)
        t = linear(moved.text_proj[1], norm(moved.text_proj[0], texts[image].numpy()))
        for start, other, layers, out, result in (
            (t, m, moved.decoder, moved.out_proj, found[0]),
            (m, t, moved.anti_decoder, moved.anti_out_proj, found[1]),
        ):
            x = start
            for one in list(layers)[-1:] if dead else layers:
                x = layer(one, x, other)
            x = linear(out[1], norm(out[0], x))
            np.testing.assert_allclose(result[image].detach(), x, atol=1e-5)


def test_dead_layers_learn_nothing_and_chained_ones_do(moved):
    texts, memory = torch.randn(1, 3, 12).double(), torch.randn(1, 7, 12).double()
    unused = moved.unused_parameters()
    assert sum(p.numel() for p in unused) == 4 * sum(p.numel() for p in moved.decoder[0].parameters())
    sum(part.sum() for part in moved(texts, memory)).backward()
    assert all(parameter.grad is None for parameter in unused)
    moved.dead_layers = False
    assert moved.unused_parameters() == []
    sum(part.square().sum() for part in moved(texts, memory)).backward()
    assert all(parameter.grad is not None for parameter in moved.parameters())


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    one = MatchLayer(8, 2, 0.5)
    x, memory = torch.randn(1, 4, 8), torch.randn(1, 5, 8)
    assert not torch.equal(one(x, memory), one(x, memory))
    one.eval()
    assert torch.equal(one(x, memory), one(x, memory))


def test_cosines_match_naive_loops():
    pixels, texts = torch.randn(2, 6, 5), torch.randn(2, 3, 5)
    found = cosines(pixels, texts, (2, 3))
    for b in range(2):
        for k in range(3):
            for p in range(6):
                a, c = pixels[b, p], texts[b, k]
                wanted = float(a @ c / (a.norm() * c.norm()))
                assert float(found[b, k, p // 3, p % 3]) == pytest.approx(wanted, abs=1e-6)
