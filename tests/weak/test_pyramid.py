import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.weak.pyramid import Pyramid, fused_upsampling, halved


def doubled(x, weight, bias):
    """A transposed convolution of kernel 2, stride 2, cell by cell."""
    b, _, gh, gw = x.shape
    out = np.zeros((b, weight.shape[1], 2 * gh, 2 * gw))
    for i in range(2 * gh):
        for j in range(2 * gw):
            out[:, :, i, j] = x[:, :, i // 2, j // 2] @ weight[:, :, i % 2, j % 2] + bias
    return out


def test_fused_upsampling_matches_naive_loops():
    double = torch.nn.ConvTranspose2d(5, 4, 2, stride=2)
    x, weight, bias = torch.randn(2, 5, 3, 2), torch.randn(6, 4), torch.randn(6)
    naive = doubled(x.numpy(), *(p.detach().numpy() for p in (double.weight, double.bias)))
    np.testing.assert_allclose(double(x).detach(), naive, atol=1e-5)
    after = np.einsum("bdhw,od->bohw", naive, weight.numpy()) + bias.numpy()[:, None, None]
    np.testing.assert_allclose(fused_upsampling(x, double, weight, bias).detach(), after, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 6), (2, 1), (1, 1)])
def test_halving_floors_odd_sides_and_keeps_single_ones(size):
    x = torch.randn(1, 2, *size)
    h, w = (max(side // 2, 1) for side in size)
    found = halved(x)
    assert found.shape == (1, 2, h, w)
    for i in range(h):
        for j in range(w):
            block = x[..., 2 * i : 2 * i + min(2, size[0]), 2 * j : 2 * j + min(2, size[1])]
            assert torch.equal(found[..., i, j], block.amax(dim=(2, 3)))


@pytest.mark.parametrize("training", [False, True])
def test_lateral_matches_the_convolved_pyramid(training):
    torch.manual_seed(0)
    pyramid = Pyramid(8).train(training)
    maps = tuple(torch.randn(2, 8, 5, 7, requires_grad=True) for _ in range(4))
    convolutions = [(torch.randn(3, 8, requires_grad=True), torch.randn(3)) for _ in range(4)]
    thin = pyramid.lateral(maps, convolutions)
    whole = [
        F.conv2d(level, weight[..., None, None], bias)
        for level, (weight, bias) in zip(pyramid(maps), convolutions, strict=True)
    ]
    assert [tuple(level.shape[2:]) for level in whole] == [(20, 28), (10, 14), (5, 7), (2, 3)]
    leaves = [*pyramid.parameters(), *maps, *(weight for weight, _ in convolutions)]
    gradients = [
        torch.autograd.grad(sum((level.square().sum() for level in levels), torch.zeros(())), leaves)
        for levels in (thin, whole)
    ]
    for one, other in zip(thin, whole, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)
