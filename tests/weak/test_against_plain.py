"""The model, its training and its masks against a plain transcription of the definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.plain_weakclip import plain_forward, plain_losses, plain_mask, plain_probabilities, trained

from tagmask.refine.crf import CRF_SETTINGS
from tagmask.weak import losses
from tagmask.weak.config import LossSettings
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.model_file import published_tensors
from tagmask.weak.multiscale import TTAConfig, multiscale
from tagmask.weak.pseudo import forward_function, pseudo_mask
from tests.weak.models import SMALL, small_model, with_all_classes

STILL = replace(SMALL, dropout=0.0, drop_path=0.0)


@pytest.fixture(scope="module")
def model(sclip_model):
    return small_model(sclip_model, STILL)


def crops(seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)
    labels = random.integers(0, 3, (2, 96, 96), dtype=np.uint8)
    labels[:, :7] = IGNORE_INDEX
    return torch.from_numpy(images), torch.from_numpy(labels)


def make_image():
    y, x = np.mgrid[:70, :100]
    return np.stack([2 * x, 3 * y, (x * y) % 251], axis=-1).astype(np.uint8)


def plain_parts(model):
    return published_tensors(model), model.ids, model.taps


@pytest.mark.parametrize("size", [(96, 96), (80, 115)])
def test_logits_and_scores(model, size):
    tensors, ids, taps = plain_parts(model)
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(pixels)
        logits, scores = plain_forward(tensors, ids, pixels, taps)
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits, logits, atol=1e-4, rtol=1e-4)


def test_the_loss_and_all_gradients_of_a_training_step(sclip_model):
    model = small_model(sclip_model, STILL).train()
    images, labels = crops()
    tensors, ids, taps = plain_parts(model)
    tensors = trained(tensors)
    model.parameter_groups("repo")
    pixels = model.normalise(images.permute(0, 2, 3, 1))
    logits, scores = plain_forward(tensors, ids, pixels, taps, training=True)
    wanted = plain_losses(logits, scores, labels, images, 32)
    wanted.backward()
    settings = LossSettings(size=32, kernel="lattice")
    found = losses.total(model(pixels), labels, images, settings)["total"]
    found.backward()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-5)
    for name, gradient in gradients(model).items():
        other = tensors[name].grad
        if gradient is None:
            assert other is None or not other.any()
            continue
        scale = float(other.abs().max()) + 1e-6
        torch.testing.assert_close(gradient / scale, other / scale, atol=2e-3, rtol=0, msg=name)


def gradients(model):
    names = {id(value): name for name, value in model.named_parameters()}
    plain = {
        ours: theirs
        for (ours, _), theirs in zip(
            model.state_dict(keep_vars=True).items(), published_tensors(model), strict=True
        )
    }
    found = {plain[names[id(p)]]: p.grad for p in model.parameters()}
    rows = model.ids.shape[1] + model.settings.contexts
    found["text_encoder.positional_embedding"] = found["text_encoder.positional_embedding"][:rows]
    return found


def test_probabilities_through_windows(model):
    scales = (0.2, 0.9)
    found = multiscale(forward_function(model), make_image(), TTAConfig(scales=scales))
    wanted = plain_probabilities(*plain_parts(model)[:2], make_image(), model.taps, scales)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_masks(sclip_model):
    model = with_all_classes(small_model(sclip_model, STILL), make_image())
    tensors, ids, taps = plain_parts(model)
    scales = (0.2, 0.3)
    ours = pseudo_mask(model, make_image(), CRF_SETTINGS["weakclip/voc"], TTAConfig(scales=scales))
    theirs = plain_mask(tensors, ids, make_image(), taps, scales, "weakclip/voc")
    assert len(np.unique(theirs)) == 3
    assert (ours != theirs).mean() < 1e-3
