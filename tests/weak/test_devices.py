"""A step of WeakCLIP stays on the model's device; the meta device stands for a GPU (`dense/test_devices`)."""

from contextlib import nullcontext

import pytest
import torch

from tagmask.weak import losses
from tagmask.weak.model import WeakClip
from tests.weak.models import meta_model

META = torch.device("meta")
CLASSES = 3


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> WeakClip:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has none
    model = meta_model(CLASSES).train()
    model.parameter_groups("paper")
    return model


def test_outputs_losses_and_gradients_are_computed_on_the_device(model: WeakClip) -> None:
    """Except the texts, whose lengths the program reads, and the field, which reads its gain."""
    images = torch.empty(2, 96, 96, 3, dtype=torch.uint8, device=META)
    labels = torch.empty(2, 96, 96, dtype=torch.uint8, device=META)
    texts = torch.empty(CLASSES, model.geometry.embed, device=META, requires_grad=True)
    output = model.head(model.features(model.normalise(images)), texts)
    p = losses.probabilities(output.logits)
    small = labels[:, ::4, ::4]
    assert losses.crf_images(images.permute(0, 3, 1, 2), (24, 24)).device == META
    total = losses.balanced_seed_loss(p, small) + losses.crf_divergence(p, p.detach())
    total = total + losses.contrast_loss(output.scores, labels)
    total.backward()
    assert total.device == META
    gradients = [parameter.grad for group in model.parameter_groups() for parameter in group.parameters]
    assert texts.grad is not None
    assert sum(gradient is not None for gradient in gradients) == len(gradients) - 1  # the contexts
    assert all(gradient.device == META for gradient in gradients if gradient is not None)


def test_masks_are_computed_on_the_device(model: WeakClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: True)
    texts = torch.empty(CLASSES, model.geometry.embed, device=META)
    with torch.inference_mode():
        pixels = model.normalise(torch.empty(2, 80, 115, 3, dtype=torch.uint8, device=META))
        logits = model.eval().head(model.features(pixels), texts).logits
    assert logits.shape == (2, CLASSES, 20, 28)
    assert logits.device == META
