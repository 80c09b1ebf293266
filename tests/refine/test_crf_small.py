import dataclasses

import numpy as np
import pytest
import torch

from tagmask.errors import InputError, ShapeError
from tagmask.refine import crf_small as module
from tagmask.refine.crf import CRF_SETTINGS, CrfSettings
from tagmask.refine.crf_small import small_crf
from tests.oracles.dense_crf import dense_crf as naive

LOSS = CRF_SETTINGS["weakclip/loss"]
MILD = CrfSettings(near=1.5, near_weight=2.0, far=4.0, colour=40.0, colour_weight=3.0, rounds=3)


def scene(b, c, h, w, seed=0):
    random = np.random.default_rng(seed)
    planes = torch.tensor(random.random((b, c, h, w)), dtype=torch.float32)
    return planes, torch.tensor(random.integers(0, 256, (b, 3, h, w), dtype=np.uint8))


@pytest.mark.parametrize("settings", [MILD, LOSS, dataclasses.replace(LOSS, rounds=0)])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 9), (11, 5)])
def test_each_image_equals_the_naive_crf(settings, size):
    planes, images = scene(3, 4, *size)
    result = small_crf(planes, images, settings)
    for refined, plane, image in zip(result, planes, images, strict=True):
        np.testing.assert_allclose(refined, naive(plane, image.permute(1, 2, 0), settings), atol=2e-5)


def test_skipping_faded_classes_does_not_change_the_result(monkeypatch):
    planes, images = scene(2, 9, 6, 7)
    planes[:, 2:] = 0  # seven classes start at the floor and fall far below it in the first rounds
    images[:, :, :, :3] //= 2
    expected = [
        naive(plane, image.permute(1, 2, 0), LOSS) for plane, image in zip(planes, images, strict=True)
    ]
    result = small_crf(planes, images, LOSS)
    np.testing.assert_allclose(result, np.stack(expected), atol=2e-5)
    monkeypatch.setattr(module, "_FADED", 1e9)  # skips all classes after the first round
    assert (small_crf(planes, images, LOSS) - result).abs().max() > 1e-3


def test_batch_equals_single_images_without_gradient():
    planes, images = scene(3, 4, 8, 9)
    result = small_crf(planes.requires_grad_(), images, LOSS)
    assert not result.requires_grad
    assert torch.allclose(result.sum(1), torch.ones(3, 8, 9))
    for index in range(3):
        part = slice(index, index + 1)
        torch.testing.assert_close(result[part], small_crf(planes[part], images[part], LOSS))


def test_inputs_are_not_modified():
    planes, images = scene(1, 3, 8, 9)
    before = planes.clone(), images.clone()
    small_crf(planes, images, LOSS)
    assert torch.equal(planes, before[0])
    assert torch.equal(images, before[1])


@pytest.mark.parametrize(
    ("planes", "images"),
    [((1, 2, 4, 5), (1, 3, 5, 4)), ((2, 2, 4, 5), (1, 3, 4, 5)), ((1, 2, 129, 128), (1, 3, 129, 128))],
)
def test_mismatched_or_large_sizes_are_refused(planes, images):
    with pytest.raises(ShapeError, match="at most 128 x 128"):
        small_crf(torch.rand(planes), torch.zeros(images, dtype=torch.uint8), LOSS)


def test_nan_is_refused():
    planes, images = scene(1, 2, 4, 5)
    planes[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        small_crf(planes, images, LOSS)
