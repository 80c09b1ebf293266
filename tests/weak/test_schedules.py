"""Learning rates against their formulas."""

import math

import pytest

from tagmask.weak.config import ScheduleSettings
from tagmask.weak.config_files import load_config
from tagmask.weak.schedules import learning_rate


@pytest.mark.parametrize("extra_steps", [0, 1, 50])
@pytest.mark.parametrize("t", [0, 1, 60, 99, 100])
def test_poly_is_a_power_of_the_remaining_share(t: int, extra_steps: int) -> None:
    settings = ScheduleSettings("poly", steps=100, floor=1e-3, power=0.9, extra_steps=extra_steps)
    left = (100 + extra_steps - t) / (100 + extra_steps)
    assert learning_rate(settings, 0.5, t) == pytest.approx(1e-3 + (0.5 - 1e-3) * left**0.9)


def test_extra_steps_affect_poly_only() -> None:
    for kind in ("cosine", "constant"):
        plain, longer = (
            ScheduleSettings(kind, steps=100, extra_steps=extra_steps) for extra_steps in (0, 50)
        )
        assert learning_rate(plain, 0.5, 70) == learning_rate(longer, 0.5, 70)


@pytest.mark.parametrize("t", [0, 30, 100])
def test_half_a_cosine(t: int) -> None:
    settings = ScheduleSettings("cosine", steps=100, floor=1e-3)
    assert learning_rate(settings, 0.5, t) == pytest.approx(
        1e-3 + (0.5 - 1e-3) * (1 + math.cos(math.pi * t / 100)) / 2
    )


def test_warmup_multiplies_the_schedule() -> None:
    settings = ScheduleSettings("constant", steps=100, warmup=10, warmup_ratio=0.2)
    assert [learning_rate(settings, 1.0, t) for t in (0, 5, 10, 50)] == pytest.approx([0.2, 0.6, 1.0, 1.0])


def test_groups_with_base_rate_0_rise_to_the_floor() -> None:
    settings = load_config("weakclip/voc").schedule
    assert learning_rate(settings, 1e-4, 0) == pytest.approx(1e-10)
    assert learning_rate(settings, 1e-4, 1500) == pytest.approx(1e-4, rel=0.02)
    assert learning_rate(settings, 1e-4, 20000) == pytest.approx(1e-6)
    assert learning_rate(settings, 0.0, 10000) == pytest.approx(5e-7)


def test_deeplab_never_quite_reaches_0() -> None:
    settings = load_config("student/deeplab").schedule
    assert settings.extra_steps == 1
    assert learning_rate(settings, 1e-3, 40000) == pytest.approx(1e-3 * (1 / 40001) ** 0.9)


def test_epochs_follow_a_scheduler_that_is_called_after_each_epoch() -> None:
    """The published calls, written out: the rate of an epoch is set after the one before, with its index."""
    settings = load_config("mctformer/v2").schedule
    base, lowest, start = 6.25e-5, 1e-5, 1e-6
    rate = start
    for epoch in range(60):
        for step in (0, 164):
            assert learning_rate(settings, base, epoch * 165 + step) == pytest.approx(rate), epoch
        if epoch < 5:
            rate = start + epoch * (base - start) / 5
        else:
            rate = lowest + (base - lowest) * (1 + math.cos(math.pi * epoch / 60)) / 2
