"""Household and play objects: every style, in easy and difficult colours."""

import numpy as np
import pytest

from tagmask.miniature.draw import Colour, Part, rasterise
from tagmask.miniature.objects import home, play
from tagmask.miniature.objects.classes import Style

_CLASSES = (*home.CLASSES, *play.CLASSES)
_STYLES = [pytest.param(style, id=style.__name__[1:]) for kind in _CLASSES for style in kind.styles]
_COLOURS: tuple[Colour, ...] = ((0, 0, 0), (255, 255, 255), (214, 52, 48), (40, 90, 200), (128, 128, 128))
_SEEDS = range(4)
_RADIUS = 24.0


def _drawn(style: Style, colour: Colour, seed: int) -> list[Part]:
    return style(colour, np.random.default_rng(seed))


def _painted(parts: list[Part]) -> np.ndarray:
    """RGB of each fully covered pixel."""
    pixels = rasterise(parts, _RADIUS).pixels
    return pixels[pixels[..., 3] == 255][:, :3].astype(np.int64)


def _near(painted: np.ndarray, colour: Colour, reach: int) -> float:
    """Fraction of pixels within `reach` of the colour or a mild shade of it, in all channels."""
    near = np.zeros(len(painted), dtype=bool)
    for target in (0.0, 255.0):
        for share in (0.0, 0.1, 0.2):
            tone = np.array(colour) * (1 - share) + target * share
            near |= np.abs(painted - tone).max(axis=1) <= reach
    return float(near.mean())


def test_class_names() -> None:
    names = [kind.name for kind in _CLASSES]
    assert names[:6] == ["cup", "key", "clock", "chair", "bottle", "lamp"]
    assert names[6:] == ["star", "hat", "balloon", "guitar", "mushroom", "apple"]
    assert all(len(set(kind.styles)) >= 4 for kind in _CLASSES)


@pytest.mark.parametrize("style", _STYLES)
def test_parts_fill_the_unit_square(style: Style) -> None:
    for colour in _COLOURS[:2]:
        for seed in range(12):
            corners = np.concatenate([part.outline for part in _drawn(style, colour, seed)])
            assert np.isfinite(corners).all()
            assert np.abs(corners).max() <= 1.25
            assert np.ptp(corners, axis=0).max() >= 1.6


@pytest.mark.parametrize("style", _STYLES)
def test_equal_seeds_draw_equally(style: Style) -> None:
    colour = _COLOURS[2]
    first, again, other = (_drawn(style, colour, seed) for seed in (5, 5, 6))
    assert [part.colour for part in first] == [part.colour for part in again]
    assert all(np.array_equal(a.outline, b.outline) for a, b in zip(first, again, strict=True))
    same = [
        a.outline.shape == b.outline.shape and np.allclose(a.outline, b.outline)
        for a, b in zip(first, other, strict=False)
    ]
    assert not all(same)


@pytest.mark.parametrize("style", _STYLES)
def test_drawing_covers_enough_pixels(style: Style) -> None:
    for seed in _SEEDS:
        alpha = rasterise(_drawn(style, _COLOURS[2], seed), _RADIUS).pixels[..., 3]
        assert alpha.sum() / 255 >= 0.08 * (2 * _RADIUS) ** 2


@pytest.mark.parametrize("style", _STYLES)
@pytest.mark.parametrize("colour", _COLOURS, ids=str)
def test_main_colour_is_visible(style: Style, colour: Colour) -> None:
    for seed in _SEEDS:
        painted = _painted(_drawn(style, colour, seed))
        assert _near(painted, colour, 14) >= 0.25, f"seed {seed}"
        flat = np.abs(painted - colour).max(axis=1) < 10
        assert flat.mean() <= 0.93, f"seed {seed}: nothing sets it off"
