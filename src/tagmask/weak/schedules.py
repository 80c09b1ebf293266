"""Learning rate schedules: pure functions, and one that reads the settings.

t  steps done, from 0        T  total steps        base  base learning rate of a parameter group
"""

import math

from tagmask.weak.config import ScheduleSettings

__all__ = ["cosine", "epoch_cosine", "learning_rate", "polynomial", "warmup_factor"]


def cosine(base: float, floor: float, t: int, T: int) -> float:
    """Half a cosine from `base` to `floor`; it rises if the base is lower.

    Example:
        >>> cosine(1.0, 0.0, 0, 10), cosine(1.0, 0.0, 5, 10), cosine(0.0, 1e-6, 10, 10)
        (1.0, 0.5, 1e-06)
    """
    return floor + (base - floor) * 0.5 * (1 + math.cos(math.pi * min(t, T) / T))


def polynomial(base: float, floor: float, t: int, T: int, power: float) -> float:
    """Polynomial decay from `base` to `floor`: a power of the share of remaining steps.

    Example:
        >>> polynomial(1.0, 0.0, 3, 4, 2.0)
        0.0625
    """
    return floor + (base - floor) * float((1 - min(t, T) / T) ** power)


def warmup_factor(t: int, steps: int, ratio: float) -> float:
    """Factor of the scheduled rate during the first `steps`: linear from `ratio` to 1.

    Example:
        >>> warmup_factor(0, 100, 0.5), warmup_factor(50, 100, 0.5), warmup_factor(100, 100, 0.5)
        (0.5, 0.75, 1.0)
    """
    return 1.0 if t >= steps else 1 - (1 - t / steps) * (1 - ratio)


def epoch_cosine(settings: ScheduleSettings, base: float, t: int) -> float:
    """Cosine that is set after each epoch, with that epoch's own index, as timm's scheduler is called.

    So the rate lags behind by an epoch, and the first two epochs run at the start of the warm-up. The warm-up
    rises to the base rate, and the cosine then begins where it would be without one.

    Example:
        >>> settings = ScheduleSettings("epochs", 60, floor=0.1, warmup=20, warmup_ratio=0.2, interval=10)
        >>> [round(epoch_cosine(settings, 1.0, t), 3) for t in (0, 19, 20, 30, 39, 40)]
        [0.2, 0.2, 0.6, 0.775, 0.775, 0.55]
    """
    t = max(t // settings.interval - 1, 0) * settings.interval
    if t < settings.warmup:
        return base * (settings.warmup_ratio + (1 - settings.warmup_ratio) * t / settings.warmup)
    return cosine(base, settings.floor, t, settings.steps)


def learning_rate(settings: ScheduleSettings, base: float, t: int) -> float:
    """Learning rate of a parameter group at step t.

    All groups approach the same floor, so a group with base rate 0 rises to it. In the authors' code this
    happens to CLIP's weights, which they intend to freeze.

    Args:
        settings: schedule.
        base: base learning rate of the group.
        t: steps done.

    Source:
        WeakCLIP (Zhu et al., IJCV 2024), section 4, as coded by the authors.
    """
    match settings.kind:
        case "epochs":
            return epoch_cosine(settings, base, t)
        case "cosine":
            value = cosine(base, settings.floor, t, settings.steps)
        case "poly":
            value = polynomial(base, settings.floor, t, settings.steps + settings.extra_steps, settings.power)
        case _:
            value = base
    return value * warmup_factor(t, settings.warmup, settings.warmup_ratio)
