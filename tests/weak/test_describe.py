"""The cost of a training run: counts follow from the sizes, measured values are extended on a line."""

from dataclasses import replace
from pathlib import Path

import pytest

from tagmask.clip.load import Clip, load
from tagmask.clip.state_dict import Geometry
from tagmask.weak import describe
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import with_settings
from tagmask.weak.describe import TrainingCost, training_cost
from tagmask.weak.model import WeakClip
from tests.weak.models import SMALL, WORDS

SIDE = 96
QUICK = (f"crop={SIDE}", "loss.size=16", "steps=100", "batch=5", "device=cpu")


def config(*changes: str) -> TrainConfig:
    return with_settings(TrainConfig(), [*QUICK, *changes])


def tower_operations(size: Geometry, side: int) -> int:
    """Multiply-adds of a vision transformer, written down from its definition, twice."""
    patches, d = (side // size.patch) ** 2, size.vision_width
    n = patches + 1
    block = 4 * n * d * d + 8 * n * d * d + 2 * n * n * d
    embedding, projection = patches * 3 * size.patch**2 * d, n * d * size.embed
    return 2 * (embedding + size.vision_layers * block + projection)


def cost(clip: Clip, *changes: str, **settings: object) -> TrainingCost:
    model = WeakClip.of(clip, WORDS, replace(SMALL, **settings))  # type: ignore[arg-type]
    return training_cost(model, config(*changes))


def test_operations_and_parameters_follow_from_the_sizes(sclip_model: Clip) -> None:
    found = cost(sclip_model)
    assert found.tower_flops == tower_operations(sclip_model.geometry, SIDE)
    model = WeakClip.of(sclip_model, WORDS, SMALL)
    assert found.parameters == model.counts()
    dead = sum(parameter.numel() for parameter in model.unused_parameters())
    assert dead > 0
    assert found.updated == model.counts().trainable - dead
    assert found.text_flops > 0
    assert (found.steps, found.batch, found.crop, found.measured) == (100, 5, SIDE, (1, 2))
    assert found.step_seconds is not None
    assert found.step_seconds > 0
    assert found.crop_seconds > 0
    assert found.memory is None or found.memory > 2**20


def test_a_tower_in_bfloat16_has_the_same_operations(sclip_weights: Path) -> None:
    clip = load(sclip_weights, device="cpu", precision="bfloat16")
    assert cost(clip, "batch=1").tower_flops == tower_operations(clip.geometry, SIDE)


def test_a_step_s_operations_grow_with_the_batch_and_with_what_is_trained(sclip_model: Clip) -> None:
    one, five = (cost(sclip_model, f"batch={size}") for size in (1, 5))
    assert one.measured == (1,)
    assert one.step_flops is not None
    assert five.step_flops is not None
    # The texts are encoded once a step, forward and backward, whatever the batch.
    per_crop = (five.step_flops - one.step_flops) / 4
    # Three times the forward pass, without the gradients that a frozen tower does not need.
    assert 2 < (per_crop - one.tower_flops) / one.head_flops < 3
    assert one.step_flops - per_crop >= one.text_flops
    unfixed = cost(sclip_model, "batch=1", "freeze=none")
    assert unfixed.step_flops is not None
    assert unfixed.step_flops > one.step_flops + 1.8 * one.tower_flops
    assert unfixed.updated > one.updated


def test_a_model_without_trainable_weights_needs_no_steps(sclip_model: Clip) -> None:
    found = cost(sclip_model, contexts=0, co_attention=False, decoder="none")
    assert (found.updated, found.steps, found.step_flops, found.step_seconds) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("sizes", "values", "expected"),
    [((1, 2), [3.0, 5.0], 11.0), ((5,), [7.0], 7.0), ((1, 2), [3.0, 2.5], 2.5)],
)
def test_measured_values_are_extended_on_a_line(
    sizes: tuple[int, ...], values: list[float], expected: float
) -> None:
    assert describe._extended(sizes, values, config()) == expected
