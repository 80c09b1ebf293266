from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.dense.resize import resize_cv2_linear
from tagmask.errors import InputError
from tagmask.weak.multiscale import TTAConfig, multiscale, view_sizes

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
FEW = TTAConfig(scales=(0.5, 1.0, 1.5), window=32, stride=20, short=40, long=200, batch_size=3)


def forward(windows):
    """Three planes at a quarter of the size that depend on the position of a pixel in its window."""
    x = torch.from_numpy(np.ascontiguousarray(windows)).permute(0, 3, 1, 2).float() / 40
    small = F.avg_pool2d(x, 4, ceil_mode=True)
    return small * torch.linspace(0.5, 2, small.shape[-1]) + torch.linspace(0, 1, small.shape[-2])[:, None]


def starts(side, window, stride):
    found, start = [], 0
    while True:
        if start + window >= side:
            return [*found, max(side - window, 0)]
        found.append(start)
        start += stride


def naive(image, views):
    """Windows one at a time, added and counted at full size, as the authors' library does it."""
    h, w = image.shape[:2]
    total = 0
    for scale in views.scales:
        short, long = int(views.short * scale), int(views.long * scale)
        factor = min(long / max(h, w), short / min(h, w))
        size = int(h * factor + 0.5), int(w * factor + 0.5)
        scaled = resize_cv2_linear(image, size)
        for mirrored in (False, True) if views.flip else (False,):
            flipped = scaled[:, ::-1] if mirrored else scaled
            summed, counts = torch.zeros(3, *size), torch.zeros(*size)
            crop = min(views.window, size[0]), min(views.window, size[1])
            for y in starts(size[0], views.window, views.stride):
                for x in starts(size[1], views.window, views.stride):
                    window = flipped[None, y : y + crop[0], x : x + crop[1]]
                    logits = F.interpolate(forward(window), size=crop, mode="bilinear", align_corners=False)
                    summed[:, y : y + crop[0], x : x + crop[1]] += logits[0]
                    counts[y : y + crop[0], x : x + crop[1]] += 1
            full = F.interpolate((summed / counts)[None], size=(h, w), mode="bilinear", align_corners=False)[
                0
            ]
            probabilities = full.softmax(0)
            total = total + (probabilities.flip(-1) if mirrored else probabilities)
    total = total / (len(views.scales) * (2 if views.flip else 1))
    return total


@pytest.mark.parametrize(
    "changes",
    [{}, {"flip": False}, {"batch_size": 100}, {"window": 500}, {"scales": (1.0,)}],
)
@pytest.mark.parametrize("size", [(45, 70), (70, 45), (9, 60)])
def test_multiscale_matches_windows_one_at_a_time(changes, size):
    views = replace(FEW, **changes)
    image = np.ascontiguousarray(np.resize(IMAGE, (*size, 3)))
    found = multiscale(forward, image, views)
    assert found.shape == (3, *size)
    torch.testing.assert_close(found, naive(image, views), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sum(0), torch.ones(size))


def test_windows_of_one_size_are_batched():
    batches = []

    def counting(windows):
        batches.append(windows.shape)
        return forward(windows)

    multiscale(counting, IMAGE, FEW)
    shapes = [shape[1:3] for shape in batches]
    assert len(set(shapes)) == 2  # the smallest scale is lower than a window
    assert sum(shape[0] for shape in batches) > 3 * len(set(shapes))
    for shape in set(shapes):
        counts = [s[0] for s in batches if s[1:3] == shape]
        assert all(count == FEW.batch_size for count in counts[:-1])


def test_the_papers_views_have_52_windows():
    """For 375 x 500: 1, 1, 2, 4, 6 and 12 windows, each twice."""
    batches = []

    def counting(windows):
        batches.append(windows.shape)
        return torch.zeros(len(windows), 2, 4, 4)

    multiscale(counting, np.zeros((375, 500, 3), np.uint8))
    assert sum(shape[0] for shape in batches) == 52
    assert max(shape[1] for shape in batches) == 512


def test_view_sizes_match_the_authors_library_or_the_image():
    assert view_sizes((375, 500), TTAConfig(scales=(1.0,))) == [(512, 683)]
    assert view_sizes((100, 1000), TTAConfig(scales=(0.5,))) == [(102, 1024)]
    own = TTAConfig(scales=(0.5, 1.25), short=None, multiple=8)
    assert view_sizes((101, 50), own) == [(56, 32), (128, 64)]
    assert view_sizes((1, 1), TTAConfig(scales=(0.5,), short=None)) == [(1, 1)]


def test_without_windows_and_resizing_the_image_is_unchanged():
    inputs = []

    def recording(windows):
        inputs.append(windows.copy())
        return forward(windows)

    multiscale(
        recording, IMAGE, TTAConfig(scales=(1.0,), short=None, window=None, flip=False, resize="cubic")
    )
    np.testing.assert_array_equal(inputs[0][0], IMAGE)
    multiscale(
        recording, IMAGE, TTAConfig(scales=(1.0,), short=None, window=None, multiple=32, resize="cubic")
    )
    assert inputs[-1].shape == (2, 64, 96, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, "empty"),
        ({"scales": (0.0,)}, "scales"),
        ({"window": 10, "stride": 11}, "gaps"),
        ({"resize": "lanczos"}, "resize"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_invalid_views_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TTAConfig(**settings)
