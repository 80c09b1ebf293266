import numpy as np
import pytest
import torch
from torch.nn import functional

from tagmask.weak.decoder import Fpn, SemanticHead
from tagmask.weak.pyramid import Pyramid
from tests.weak.models import meta_model


def conv(x, weight, bias=None):
    """Convolution with an odd square kernel and zero padding, pixel by pixel."""
    b, _, h, w = x.shape
    pad = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out = np.zeros((b, len(weight), h, w))
    for i in range(h):
        for j in range(w):
            cell = padded[:, :, i : i + 2 * pad + 1, j : j + 2 * pad + 1]
            out[:, :, i, j] = np.einsum("bcyx,ocyx->bo", cell, weight)
    return out if bias is None else out + bias[:, None, None]


def bilinear(x, size, corners):
    out = np.zeros((*x.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            weights = []
            for at, old, new in ((i, x.shape[2], size[0]), (j, x.shape[3], size[1])):
                if corners:
                    place = at * (old - 1) / (new - 1) if new > 1 else 0.0
                else:
                    place = max((at + 0.5) * old / new - 0.5, 0.0)
                low = min(int(place), old - 1)
                weights.append((low, min(low + 1, old - 1), place - low))
            (y0, y1, fy), (x0, x1, fx) = weights
            top = x[:, :, y0, x0] * (1 - fx) + x[:, :, y0, x1] * fx
            bottom = x[:, :, y1, x0] * (1 - fx) + x[:, :, y1, x1] * fx
            out[:, :, i, j] = top * (1 - fy) + bottom * fy
    return out


def nearest(x, size):
    rows = [i * x.shape[2] // size[0] for i in range(size[0])]
    columns = [j * x.shape[3] // size[1] for j in range(size[1])]
    return x[:, :, rows][:, :, :, columns]


def plain(parameter):
    return parameter.detach().numpy()


def naive_fpn(fpn, levels, scores):
    """Resize and concatenate the scores to each level, then run the network layer by layer."""
    if fpn.scores:
        levels = [np.concatenate([x, bilinear(scores, x.shape[2:], True)], axis=1) for x in levels]
    lateral = [
        conv(x, plain(part.conv.weight), plain(part.conv.bias))
        for x, part in zip(levels, fpn.lateral_convs, strict=True)
    ]
    for fine in (2, 1, 0):
        lateral[fine] = lateral[fine] + nearest(lateral[fine + 1], lateral[fine].shape[2:])
    return [
        conv(x, plain(part.conv.weight), plain(part.conv.bias))
        for x, part in zip(lateral, fpn.fpn_convs, strict=True)
    ]


def naive_head(head, levels):
    total = None
    for level, (x, units) in enumerate(zip(levels, (1, 1, 2, 3), strict=True)):
        for unit in range(units):
            part = head.scale_heads[level][2 * unit]
            x = conv(x, plain(part.conv.weight))
            scale = plain(part.bn.weight) / np.sqrt(plain(part.bn.running_var) + 1e-5)
            x = (x - plain(part.bn.running_mean)[:, None, None]) * scale[:, None, None]
            x = np.maximum(x + plain(part.bn.bias)[:, None, None], 0)
            if level:
                x = bilinear(x, (2 * x.shape[2], 2 * x.shape[3]), False)
        total = x if total is None else total + bilinear(x, total.shape[2:], False)
    return conv(total, plain(head.conv_seg.weight), plain(head.conv_seg.bias))


@pytest.mark.parametrize("scores", [3, 0])
@pytest.mark.parametrize("grid", [(2, 3), (3, 5), (1, 2)])
def test_fpn_and_head_match_naive_loops(grid, scores):
    torch.manual_seed(1)
    pyramid, fpn, head = Pyramid(4).eval(), Fpn(4, scores, 5), SemanticHead(5, 6, 3, 0.1).eval()
    with torch.no_grad():
        for module in (fpn, head):
            for tensor in module.state_dict().values():
                if tensor.ndim == 1:
                    tensor += torch.rand(tensor.shape)
    maps = tuple(torch.randn(2, 4, *grid) for _ in range(4))
    scores_map = torch.randn(2, 3, *grid)
    found = fpn(pyramid, maps, scores_map)
    levels = naive_fpn(fpn, [plain(level) for level in pyramid(maps)], scores_map.numpy())
    for one, other in zip(found, levels, strict=True):
        np.testing.assert_allclose(plain(one), other, atol=2e-5)
    logits = head(found)
    assert logits.shape == (2, 3, 4 * grid[0], 4 * grid[1])
    np.testing.assert_allclose(plain(logits), naive_head(head, levels), atol=5e-5)


@pytest.mark.parametrize("sizes", [(4, 6), (5, 3)])
def test_dropping_channels_before_the_last_upsampling_changes_nothing(sizes):
    """The same channels are dropped in all levels; results and gradients are those of the plain order."""
    torch.manual_seed(2)
    head = SemanticHead(5, 6, 3, 0.5).double()
    h, w = sizes
    levels = [
        torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
        for size in ((4 * h, 4 * w), (2 * h, 2 * w), (h, w), (h // 2, w // 2))
    ]
    torch.manual_seed(3)
    found = head(levels)
    torch.manual_seed(3)
    total = sum(
        functional.interpolate(part(level), size=(4 * h, 4 * w), mode="bilinear")
        for part, level in zip(head.scale_heads, levels, strict=True)
    )
    wanted = head.conv_seg(head.dropout(total))
    assert (found != head.eval()(levels)).any()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    leaves = [*levels, *head.parameters()]
    gradients = [torch.autograd.grad(x.square().mean(), leaves) for x in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_parameter_counts_match_the_paper():
    model = meta_model(21)
    assert sum(p.numel() for p in model.pyramid.parameters()) == 7_087_872
    assert sum(p.numel() for p in model.matching.parameters()) == 6_840_832
    assert sum(p.numel() for p in model.fpn.parameters()) == 3_169_280
    assert sum(p.numel() for p in model.decode_head.parameters()) == 4_137_749
    assert sum(p.numel() for p in model.unused_parameters()) == 4_207_616


def test_parameter_names_match_the_authors_library():
    head = SemanticHead(4, 4, 2, 0.0)
    convs = [name for name in head.state_dict() if name.endswith("conv.weight")]
    assert convs == [
        "scale_heads.0.0.conv.weight",
        "scale_heads.1.0.conv.weight",
        *(f"scale_heads.2.{j}.conv.weight" for j in (0, 2)),
        *(f"scale_heads.3.{j}.conv.weight" for j in (0, 2, 4)),
    ]
