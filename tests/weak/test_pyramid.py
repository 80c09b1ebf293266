import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.weak.pyramid import Pyramid, halved, upsampled, upsampling


def doubled(x, weight, bias):
    """A transposed convolution of kernel 2, stride 2, cell by cell."""
    b, _, gh, gw = x.shape
    out = np.zeros((b, weight.shape[1], 2 * gh, 2 * gw))
    for i in range(2 * gh):
        for j in range(2 * gw):
            out[:, :, i, j] = x[:, :, i // 2, j // 2] @ weight[:, :, i % 2, j % 2] + bias
    return out


def test_upsampling_matches_naive_loops():
    norm, double = torch.nn.GroupNorm(1, 5), torch.nn.ConvTranspose2d(5, 4, 2, stride=2)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, weight, bias = torch.randn(2, 5, 3, 2), torch.randn(6, 4), torch.randn(6)

    def found(affine):
        return upsampled(x.permute(0, 2, 3, 1), affine).permute(0, 3, 1, 2).detach()

    parameters = [p.detach().numpy() for p in (double.weight, double.bias)]
    naive = doubled(x.numpy(), *parameters)
    np.testing.assert_allclose(found(upsampling(double)), naive, atol=1e-5)
    convolved = np.einsum("bdhw,od->bohw", naive, weight.numpy()) + bias.numpy()[:, None, None]
    np.testing.assert_allclose(found(upsampling(double).then(weight, bias)), convolved, atol=1e-5)
    scaled = x * norm.weight.detach()[:, None, None] + norm.bias.detach()[:, None, None]
    naive = doubled(scaled.numpy(), *parameters)
    np.testing.assert_allclose(found(upsampling(double).after(norm)), naive, atol=1e-5)


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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_lateral_matches_the_convolved_pyramid(training, frozen, memory_format):
    torch.manual_seed(0)
    # In float64: the gradient of the bias before the batch norm is 0 up to rounding.
    pyramid = Pyramid(8).double().train(training)
    with torch.no_grad():
        for parameter in pyramid.parameters():
            if parameter.ndim == 1:
                parameter += torch.randn(parameter.shape, dtype=parameter.dtype)
    maps = tuple(
        torch.randn(2, 8, 5, 7, dtype=torch.float64)
        .contiguous(memory_format=memory_format)
        .requires_grad_(not frozen)
        for _ in range(4)
    )
    weights = [torch.randn(3, 8, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    convolutions = [(weight, torch.randn(3, dtype=torch.float64)) for weight in weights]
    thin = pyramid.lateral(maps, convolutions)
    whole = [
        F.conv2d(level, weight[..., None, None], bias)
        for level, (weight, bias) in zip(pyramid(maps), convolutions, strict=True)
    ]
    assert [tuple(level.shape[2:]) for level in whole] == [(20, 28), (10, 14), (5, 7), (2, 3)]
    leaves = [*pyramid.parameters(), *(() if frozen else maps), *weights]
    gradients = [
        torch.autograd.grad(sum((level.square().sum() for level in levels), torch.zeros(())), leaves)
        for levels in (thin, whole)
    ]
    for one, other in zip(thin, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
