import numpy as np
import pytest

from tagmask.miniature.draw import rasterise
from tagmask.miniature.objects import nature, travel
from tagmask.miniature.objects.common import accent, ink, lightness, pick_apart, shade, tint, within

CLASSES = (*nature.CLASSES, *travel.CLASSES)
STYLES = [pytest.param(style, id=style.__name__.strip("_")) for kind in CLASSES for style in kind.styles]
COLOURS = [(0, 0, 0), (255, 255, 255), (210, 40, 40), (128, 128, 128)]
SEEDS = range(4)


def drawings(style):
    return [(colour, style(colour, np.random.default_rng(seed))) for colour in COLOURS for seed in SEEDS]


def test_the_classes():
    assert [kind.name for kind in CLASSES] == [
        "tree", "flower", "fish", "bird", "cat", "butterfly",
        "car", "boat", "airplane", "rocket", "house", "umbrella",
    ]  # fmt: skip
    for kind in CLASSES:
        assert len(set(kind.styles)) >= 4
        assert all(style.__name__.startswith(f"_{kind.name}_") for style in kind.styles)


@pytest.mark.parametrize("style", STYLES)
def test_drawing_fills_the_frame(style):
    for _, parts in drawings(style):
        points = np.concatenate([part.outline for part in parts])
        assert np.isfinite(points).all()
        assert np.abs(points).max() == pytest.approx(0.95)
        np.testing.assert_allclose(points.max(axis=0) + points.min(axis=0), 0, atol=1e-9)
        colours = [part.colour for part in parts if part.colour is not None]
        assert all(0 <= tone <= 255 for colour in colours for tone in colour)


@pytest.mark.parametrize("style", STYLES)
def test_equal_seeds_draw_equally(style):
    one, again, other = (style((210, 40, 40), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert [part.colour for part in one] == [part.colour for part in again]
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a.outline, b.outline)
    moved = [a.outline.shape != b.outline.shape or (a.outline != b.outline).any() for a, b in zip(one, other)]  # noqa: B905
    assert any(moved)


@pytest.mark.parametrize("style", STYLES)
def test_drawing_has_the_given_colour(style):
    for colour, parts in drawings(style):
        pixels = rasterise(parts, 32.0).pixels.reshape(-1, 4).astype(int)
        painted = pixels[pixels[:, 3] == 255][:, :3]
        assert len(painted) >= 0.12 * 64**2
        # The colour itself, or up to a quarter of the way to black or to white.
        tones = [[round(v + (end - v) * k / 16) for v in colour] for end in (0, 255) for k in range(5)]
        near = np.abs(painted[:, None] - tones).max(axis=2) <= 6
        assert near[:, [0, 5]].any(axis=1).mean() >= 0.15
        assert near.any(axis=1).mean() >= 0.25


@pytest.mark.parametrize("colour", [*COLOURS, (30, 30, 120), (250, 240, 90)])
def test_tones_differ_from_their_colour(colour):
    for tone in (shade(colour), tint(colour), accent(colour), ink(colour)):
        assert np.abs(np.subtract(tone, colour)).max() >= 15
    assert abs(lightness(ink(colour)) - lightness(colour)) > 45


def test_pick_apart_falls_back_to_the_most_distant():
    rng = np.random.default_rng(0)
    assert pick_apart(rng, [(0, 0, 0), (20, 0, 0)], (10, 10, 0)) == (0, 0, 0)
    assert {pick_apart(rng, [(0, 0, 0), (255, 255, 255)], (9, 9, 9)) for _ in range(9)} == {(255, 255, 255)}


def area(outline):
    x, y = outline.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_within_cuts_along_straight_lines():
    square = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
    diamond = np.array([(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)])
    assert area(within(square, x0=-0.25, x1=0.5)) == pytest.approx(1.5)
    assert area(within(square, x0=0.5, y0=0.5)) == pytest.approx(0.25)
    assert area(within(diamond, y0=0.5)) == pytest.approx(0.25)
    assert area(within(diamond, x1=0.0)) == pytest.approx(1.0)
    np.testing.assert_array_equal(within(diamond), diamond)
