"""WeakCLIP against recorded values of the authors' code: adapter, texts, co-attention, losses."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.weak import losses
from tests.weak.models import GATE, SHARED, reference_model

SAMPLED = ("loss.seed_grad", "loss.kl_grad")
"""Arrays of which the small copy has every second row and column."""


def pack(path) -> dict[str, np.ndarray]:
    return dict(np.load(path).items())


def loss_steps(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    logits = torch.from_numpy(given["loss.logits"]).requires_grad_()
    p = losses.probabilities(logits)
    seed = losses.balanced_seed_loss(p, torch.from_numpy(given["loss.label"])[:, 0])
    kl = losses.crf_divergence(p, torch.from_numpy(given["loss.crf"]))
    (seed_grad,) = torch.autograd.grad(seed, logits, retain_graph=True)
    (kl_grad,) = torch.autograd.grad(kl, logits)
    found = {"loss.seed": seed, "loss.kl": kl, "loss.seed_grad": seed_grad, "loss.kl_grad": kl_grad}
    return {name: value.detach().numpy() for name, value in found.items()}


@torch.inference_mode()
def model_steps(clip: Clip, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = reference_model(clip, given)
    texts = model.encode_texts()
    found = {"text": texts}
    for image in ("sq", "odd"):
        trunk = model.features(torch.from_numpy(given[f"{image}.x"]))
        assert model.pyramid is not None
        assert model.matching is not None
        for level, values in enumerate(model.pyramid(trunk.maps), start=1):
            found[f"{image}.pyr{level}"] = values
        found[f"{image}.global"] = trunk.memory[:, 0]
        found[f"{image}.V"] = trunk.memory[:, 1:].transpose(1, 2).unflatten(-1, trunk.grid)
        text_diff, vis_diff = model.matching(texts.expand(2, -1, -1), trunk.memory)
        found[f"{image}.text_diff"], found[f"{image}.vis_diff"] = text_diff, vis_diff
        found[f"{image}.score"] = model.head(trunk, texts).scores
    return {name: np.asarray(value) for name, value in found.items()}


def test_texts_with_contexts_equal_the_reference(sclip_model: Clip) -> None:
    given = pack(GATE)
    with torch.no_grad():
        texts = reference_model(sclip_model, given).encode_texts()
    np.testing.assert_allclose(texts, given["text"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["loss.seed", "loss.kl", *SAMPLED])
def test_losses_and_gradients_equal_the_reference(name: str) -> None:
    given = pack(GATE)
    found = loss_steps(given)[name]
    found = found[:, :, ::2, ::2] if name in SAMPLED else found
    np.testing.assert_allclose(found, given[name], rtol=0, atol=1e-6)


@pytest.mark.parity
def test_the_small_copy_matches_the_reference() -> None:
    whole = pack(SHARED)
    for name, values in pack(GATE).items():
        full = whole[name]
        np.testing.assert_array_equal(values, full[:, :, ::2, ::2] if name in SAMPLED else full)


@pytest.mark.parity
def test_every_array_of_the_whole_pack(sclip_model: Clip) -> None:
    given = pack(SHARED)
    found = {**model_steps(sclip_model, given), **loss_steps(given)}
    inputs = {"ids", "sq.x", "odd.x", "loss.logits", "loss.label", "loss.crf"}
    results = {name for name in given if not name.startswith("w.")} - inputs
    assert set(found) == results
    for name in results:
        bar = 1e-6 if name.startswith("loss.") else 2e-5
        np.testing.assert_allclose(found[name], given[name], rtol=0, atol=bar, err_msg=name)
