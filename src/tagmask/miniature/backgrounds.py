"""Background textures of the miniature data set: ten kinds, at any size, varied by seed.

Every texture is a greyscale map (0 darkest, 255 lightest) that is mapped to colours by a ramp. Structures
measure about a tenth of the shorter side, so that a small crop still identifies the texture, and their number
does not grow with the number of pixels.

Shapes are drawn on a canvas of twice the resolution; h, w, unit and all lengths are in canvas pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray
from PIL import Image, ImageChops, ImageDraw

from tagmask.miniature.draw import Colour, darker, lighter, mixed
from tagmask.types import Size

__all__ = ["BACKGROUNDS", "Background", "brick", "forest", "grass", "gravel", "night", "sand", "sky", "snow"]
__all__ += ["water", "wood"]

Texture: TypeAlias = UInt8[ndarray, "h w 3"]
Draw = Callable[[Size, np.random.Generator], Texture]
"""Paints a texture of the given size."""
_Points: TypeAlias = Float64[ndarray, "n 2"]
_Tones: TypeAlias = Image.Image

_FINE = 2
_SMALLEST_UNIT = 5.0
_MOST_UNITS = 100
"""Along the longer side; more structures would be invisible, or slow to draw."""


@dataclass(frozen=True)
class Background:
    """A background word and its texture."""

    name: str
    draw: Draw
    ground: bool
    """Whether objects stand on it; otherwise it is the upper background."""
    synonyms: tuple[str, ...] = ()
    """Other words for it in captions."""


# -- Below ---------------------------------------------------------------------------------------------------


def grass(size: Size, rng: np.random.Generator) -> Texture:
    """A lawn: rows of pointed blades, one before the other, leaning with the wind."""
    (h, w), unit = size, _unit(size, rng)
    # The edges of blades are upright, so only columns need to be fine.
    canvas = Image.new("L", (w * _FINE, h))
    brush = ImageDraw.Draw(canvas)
    length, width = unit * rng.uniform(0.9, 1.4), unit * rng.uniform(0.19, 0.28)
    lean, spread = rng.normal(0, 0.35), rng.uniform(0.1, 0.3)
    step = length * rng.uniform(0.34, 0.46)
    rows, blades = int((h * _FINE + length) / step) + 2, int((w * _FINE + 2 * length) / width) + 2
    y = ((np.arange(rows) + rng.normal(0, 0.2, rows)) * step)[:, None]
    root = np.arange(blades) * width - length + rng.uniform(0, width, (rows, 1))
    tall = rng.uniform(0.35, 1.0, (rows, blades)) * length
    tips = root + width / 2 + tall * rng.normal(lean, spread, (rows, blades))
    saw = np.stack([root, (y - tall * 0.1) / _FINE, tips, (y - tall) / _FINE], axis=2)
    # Neighbouring rows differ, or the blades would be invisible.
    apart = rng.uniform(20, 45) * (np.arange(rows) % 2 * 2 - 1)
    tones = (rng.normal(130, rng.uniform(10, 25), rows) + apart).clip(20, 235).astype(int).tolist()
    levels = (y[:, 0] / _FINE).tolist()
    for edge, level, tone in zip(saw.reshape(rows, -1).tolist(), levels, tones, strict=True):
        brush.polygon([*edge, 2.0 * w + length, level, -length, level], fill=tone)
        brush.rectangle((0, level, w * _FINE, level + step), fill=tone)
    base = _colour(rng, (150, 165, 50), (95, 160, 50), (60, 135, 55), (35, 95, 50))
    return _painted(_lit(canvas.reduce((_FINE, 1)), unit, 0.25, rng), _ramp(base, rng.uniform(0.3, 0.5)))


def sand(size: Size, rng: np.random.Generator) -> Texture:
    """A beach: grains, ripples of the wind, here and there a pebble."""
    canvas, brush, unit = _canvas(size, rng)
    spots = _scattered(canvas, unit * rng.uniform(1.0, 1.8), rng)
    n = len(spots)
    tone = rng.choice([-90.0, -60.0, 90.0, 130.0], n) + 120
    pebble = ((1.0, 0.0, 0.0),)
    _heaps(brush, spots, unit * rng.uniform(0.06, 0.15, n), rng.uniform(0.6, 1, n), tone, pebble, 6, 0.2, rng)
    ripples = _ripples(size, unit * rng.uniform(0.7, 1.3), rng)
    tones = Image.blend(canvas.reduce(_FINE), ripples, rng.uniform(0.2, 0.4))
    grains = Image.blend(_noise(size, 2.0, 2.0, rng), _noise(size, 4.0, 4.0, rng), 0.5)
    base = _colour(rng, (235, 215, 175), (225, 195, 130), (210, 165, 100), (215, 145, 85))
    return _painted(Image.blend(tones, grains, rng.uniform(0.3, 0.45)), _ramp(base, rng.uniform(0.3, 0.45)))


def water(size: Size, rng: np.random.Generator) -> Texture:
    """The sea: rows of waves with light crests."""
    canvas, brush, unit = _canvas(size, rng)
    w, h = canvas.size
    step, length, sharp = unit * rng.uniform(0.55, 0.9), unit * rng.uniform(1.5, 2.6), rng.uniform()
    rows = int(h / step) + 3
    x = np.arange(-length, w + 2 * length, max(unit / 4, 2.0))
    phase = (x / length + rng.uniform(size=(rows, 1))) * 2 * np.pi
    phase += 0.6 * np.sin(phase * rng.uniform(0.35, 0.45, (rows, 1)))
    wave = sharp * (2 * np.abs(np.sin(phase / 2)) - 1) + (1 - sharp) * np.sin(phase)
    y = step * (np.arange(rows)[:, None] + rng.uniform(-0.2, 0.2, (rows, 1)) + wave * rng.uniform(0.25, 0.5))
    paths = np.stack([np.broadcast_to(x, y.shape), y], axis=2).reshape(rows, -1)
    crest, line = int(rng.uniform(180, 240)), max(1, round(unit * rng.uniform(0.05, 0.11)))
    for row, (path, tone) in enumerate(zip(paths.tolist(), rng.uniform(50, 145, rows).tolist(), strict=True)):
        deep = (row + 3) * step
        brush.polygon([*path, x[-1], deep, x[0], deep], fill=int(tone))
        brush.line(path, fill=crest, width=line)
    base = _colour(rng, (75, 190, 190), (55, 150, 200), (35, 105, 175), (60, 110, 125), (30, 75, 125))
    return _painted(_lit(canvas.reduce(_FINE), unit, 0.25, rng), _ramp(base, rng.uniform(0.35, 0.6)))


def snow(size: Size, rng: np.random.Generator) -> Texture:
    """Drifts in a low light, with crystals that glitter."""
    canvas, brush, unit = _canvas(size, rng)
    (h, w), far = size, max(1, round(unit * 0.2 / _FINE))
    drifts = _noise((h + far, w + far), unit * rng.uniform(0.6, 1.0), unit * rng.uniform(1.0, 1.8), rng)
    x = int(rng.choice([0, far]))
    here, there = drifts.crop((x, far, x + w, far + h)), drifts.crop((far - x, 0, far - x + w, h))
    tones = Image.blend(ImageChops.subtract(here, there, 0.6, 150), here, 0.2)
    spots = _scattered(canvas, unit * rng.uniform(0.48, 0.72), rng)
    n = len(spots)
    _stars(brush, spots, unit * (0.05 + 0.12 * rng.random(n) ** 3), rng.choice([0.0, 255.0, 255.0], n))
    tones = Image.blend(tones, canvas.reduce(_FINE), rng.uniform(0.3, 0.5))
    base = _colour(rng, (215, 230, 245), (225, 228, 240), (190, 210, 235), (235, 225, 230))
    shade = _colour(rng, (120, 155, 210), (140, 150, 190), (110, 140, 180), (165, 150, 190))
    return _painted(tones, [(20, shade), (150, base), (205, (255, 255, 255))])


def wood(size: Size, rng: np.random.Generator) -> Texture:
    """A floor of planks with grain and knots, along either side of the image."""
    upright = rng.random() < 0.5
    h, w = size[::-1] if upright else size
    canvas, brush, unit = _canvas((h, w), rng)
    fine = _noise((h, w), max(3.0, unit * 0.1), unit * 3, rng)
    grain = Image.blend(fine, _noise((h, w), max(4.0, unit * 0.25), unit * 5, rng), 0.5)
    knots = _scattered(canvas, unit * rng.uniform(2.2, 3.5), rng)
    for x, y in knots.tolist():
        rx, ry = unit * rng.uniform(0.25, 0.6), unit * rng.uniform(0.12, 0.25)
        for zoom, tone in ((1.0, 90), (0.75, 130), (0.5, 60)):
            brush.ellipse((x - rx * zoom, y - ry * zoom, x + rx * zoom, y + ry * zoom), fill=tone)
    tones = Image.blend(canvas.reduce(_FINE), grain, rng.uniform(0.5, 0.65))
    boards = _bonds((h, w), unit * rng.uniform(1.0, 1.7), unit * rng.uniform(4, 7), unit * 0.07, rng)
    tones = Image.blend(tones, boards, rng.uniform(0.35, 0.5))
    base = _colour(rng, (225, 190, 140), (195, 140, 85), (160, 95, 50), (110, 65, 40), (150, 130, 110))
    texture = _painted(tones, _ramp(base, rng.uniform(0.4, 0.6)))
    return np.ascontiguousarray(texture.transpose(1, 0, 2)) if upright else texture


def gravel(size: Size, rng: np.random.Generator) -> Texture:
    """Round stones of several greys, close to each other, each lit from above."""
    canvas, brush, unit = _canvas(size, rng, 20)
    spots = _scattered(canvas, unit * rng.uniform(0.8, 1.15), rng)
    n = len(spots)
    radius, flat = unit * rng.uniform(0.42, 0.72, n), rng.uniform(0.65, 1.0, n)
    tone = rng.normal(135, rng.uniform(15, 40), n).clip(70, 200)
    layers = ((1.15, 0.0, -110.0), (1.0, 0.0, 0.0), (0.55, -0.2, 35.0))
    _heaps(brush, spots, radius, flat, tone, layers, 7, 0.1, rng)
    tones = Image.blend(canvas.reduce(_FINE), _noise(size, 3.0, 3.0, rng), 0.15)
    base = _colour(rng, (150, 150, 155), (165, 150, 130), (120, 125, 135), (150, 130, 120))
    return _painted(tones, _ramp(base, rng.uniform(0.45, 0.65)))


# -- Above ---------------------------------------------------------------------------------------------------


def sky(size: Size, rng: np.random.Generator) -> Texture:
    """Blue, lighter towards the bottom, with soft heaps of cloud."""
    h, w = size
    canvas, brush, unit = _canvas(_half(size), rng, 0)
    spots = _scattered(canvas, unit * rng.uniform(1.8, 2.7), rng)
    n, puffs = len(spots), 5
    at = np.linspace(-1, 1, puffs)
    r = unit * (0.25 + 0.45 * (1 - at**2)) * rng.uniform(0.6, 1.15, (n, puffs))
    x = spots[:, :1] + at * unit * rng.uniform(0.6, 1.2)
    y = spots[:, 1:] - r * 0.6
    shade = rng.uniform(150, 200)
    for tone, drop, zoom in ((shade, 0.3, 1.0), ((shade + 255) / 2, 0.0, 0.95), (255, -0.25, 0.7)):
        edges = np.stack([x - r * zoom, y + r * (drop - zoom), x + r * zoom, y + r * (drop + zoom)], axis=2)
        for edge in edges.reshape(-1, 4).tolist():
            brush.ellipse(edge, fill=int(tone))
    slope = Image.linear_gradient("L").resize((w, h))
    tones = canvas.reduce(_FINE).resize((w, h), Image.Resampling.BICUBIC)
    tones = _lit(Image.blend(tones, slope, 0.25), unit * 2, 0.15, rng)
    base = _colour(rng, (120, 190, 235), (85, 160, 225), (60, 125, 205), (110, 150, 195))
    white = lighter(base, rng.uniform(0.65, 0.95))
    return _painted(tones, [(0, darker(base, 0.15)), (85, lighter(base, 0.15)), (205, white)])


def night(size: Size, rng: np.random.Generator) -> Texture:
    """A dark sky with stars, a few of them with rays, sometimes with a faint glow."""
    canvas, brush, unit = _canvas(size, rng, 0)
    spots = _scattered(canvas, unit * rng.uniform(0.48, 0.72), rng)
    n = len(spots)
    _stars(brush, spots, unit * (0.05 + 0.18 * rng.random(n) ** 6), rng.uniform(110, 255, n))
    strength = rng.uniform(0.1, 0.4) if rng.random() < 0.6 else 0.05
    glow = _noise(size, unit * 3, unit * 4, rng).point([int(v * strength) for v in range(256)])
    base = _colour(rng, (15, 20, 50), (25, 15, 50), (8, 12, 28), (15, 35, 60))
    haze = _colour(rng, (85, 60, 130), (50, 85, 130), (40, 110, 110), (120, 80, 95))
    tones = ImageChops.add(canvas.reduce(_FINE), glow)
    return _painted(tones, [(0, base), (110, haze), (255, (255, 250, 230))])


def brick(size: Size, rng: np.random.Generator) -> Texture:
    """A wall of bricks in running bond, of a few shades, with pale or dark mortar."""
    unit = _unit(size, rng)
    tall = unit * rng.uniform(0.6, 0.95)
    wall = _bonds(size, tall, tall * rng.uniform(2.0, 2.8), tall * rng.uniform(0.1, 0.2), rng, half=True)
    rough = Image.blend(_noise(size, 3.0, 3.0, rng), _noise(size, unit * 0.3, unit * 0.3, rng), 0.4)
    base = _colour(rng, (165, 75, 60), (190, 105, 75), (150, 135, 125), (205, 165, 105), (120, 60, 60))
    mortar = _colour(rng, (215, 210, 200), (175, 165, 155), (90, 80, 75))
    (_, dark), *rest = _ramp(base, rng.uniform(0.35, 0.55))
    return _painted(Image.blend(wall, rough, rng.uniform(0.1, 0.2)), [(50, mortar), (60, dark), *rest])


def forest(size: Size, rng: np.random.Generator) -> Texture:
    """Dense foliage: tufts of pointed leaves, one before the other, light on top and dark between."""
    # Foliage hides its own jagged edges, so the canvas is no finer than the texture.
    canvas, brush, unit = _canvas(_half(size), rng, 10)
    spots = _scattered(canvas, unit * rng.uniform(0.95, 1.3), rng)
    n = len(spots)
    radius, flat = unit * rng.uniform(0.95, 1.45, n), rng.uniform(0.6, 0.9, n)
    layers = ((1.0, 0.0, -60.0), (0.75, -0.15, 0.0), (0.42, -0.3, 45.0))
    _heaps(brush, spots, radius, flat, rng.normal(90, 20, n).clip(60, 140), layers, 12, 0.35, rng, spikes=0.3)
    leaves = _noise(size, unit * 0.4, unit * 0.4, rng)
    tones = Image.blend(canvas.crop((0, 0, size[1], size[0])), leaves, rng.uniform(0.1, 0.25))
    base = _colour(rng, (60, 95, 45), (40, 85, 55), (70, 85, 35), (30, 75, 60))
    return _painted(tones, [(20, darker(base, 0.8)), (105, darker(base, 0.15)), (220, lighter(base, 0.3))])


BACKGROUNDS: Mapping[str, Background] = MappingProxyType(
    {
        background.name: background
        for background in (
            Background("grass", grass, True, ("lawn",)),
            Background("sand", sand, True, ("beach",)),
            Background("water", water, True, ("sea",)),
            Background("snow", snow, True),
            Background("wood", wood, True, ("wooden floor",)),
            Background("gravel", gravel, True, ("pebbles", "stones")),
            Background("sky", sky, False),
            Background("night", night, False, ("night sky",)),
            Background("brick", brick, False, ("brick wall",)),
            Background("forest", forest, False, ("foliage",)),
        )
    }
)
"""All of them, by name."""


# -- Shapes --------------------------------------------------------------------------------------------------


def _unit(size: Size, rng: np.random.Generator) -> float:
    least = max(_SMALLEST_UNIT, max(size) * _FINE / _MOST_UNITS)
    return max(min(size) * _FINE / 10 * rng.uniform(0.8, 1.25), least)


def _canvas(
    size: Size, rng: np.random.Generator, tone: int = 120
) -> tuple[_Tones, ImageDraw.ImageDraw, float]:
    canvas = Image.new("L", (size[1] * _FINE, size[0] * _FINE), tone)
    return canvas, ImageDraw.Draw(canvas), _unit(size, rng)


def _half(size: Size) -> Size:
    return -(-size[0] // 2), -(-size[1] // 2)


def _scattered(canvas: _Tones, step: float, rng: np.random.Generator) -> _Points:
    """Points about `step` apart, all over the canvas and a little beyond, from top to bottom."""
    w, h = canvas.size
    rows, columns = np.arange(-1, h / step + 0.5), np.arange(-1, w / step + 0.5)
    x = columns + rng.uniform(-0.35, 0.35, (len(rows), len(columns))) + (rows[:, None] % 2 - 0.5) / 2
    y = rows[:, None] + rng.uniform(-0.35, 0.35, x.shape)
    return (np.stack([x, y], axis=2).reshape(-1, 2) + rng.uniform()) * step


def _polygons(
    brush: ImageDraw.ImageDraw, outlines: Float64[ndarray, "n k 2"], tones: Float64[ndarray, " n"]
) -> None:
    fills = tones.clip(0, 255).astype(int).tolist()
    for corners, fill in zip(outlines.reshape(len(outlines), -1).tolist(), fills, strict=True):
        brush.polygon(corners, fill=fill)


def _heaps(
    brush: ImageDraw.ImageDraw,
    spots: _Points,
    radius: Float64[ndarray, " n"],
    flat: Float64[ndarray, " n"],
    tones: Float64[ndarray, " n"],
    layers: Sequence[tuple[float, float, float]],
    corners: int,
    rough: float,
    rng: np.random.Generator,
    *,
    spikes: float = 0.0,
) -> None:
    """Draw lumps at the spots, each in layers: (zoom, shift up and left in radii, added tone).

    Corners are moved inwards by up to `rough`, every other one also by `spikes` (fractions of the radius).
    """
    zoom, shift, more = np.array(layers).T
    turns = (np.arange(corners) / corners + rng.uniform(size=(len(spots), 1))) * 2 * np.pi
    reach = (
        radius[:, None]
        * (1 - rough * rng.uniform(size=turns.shape))
        * (1 - spikes * (np.arange(corners) % 2))
    )
    lumps = np.stack([reach * np.cos(turns), reach * np.sin(turns) * flat[:, None]], axis=2)
    centres = spots[:, None] + radius[:, None, None] * shift[:, None] * (0.5, 1.0)
    outlines = centres[:, :, None] + lumps[:, None] * zoom[:, None, None]
    _polygons(brush, outlines.reshape(-1, corners, 2), (tones[:, None] + more).ravel())


def _stars(
    brush: ImageDraw.ImageDraw, spots: _Points, radius: Float64[ndarray, " n"], tones: Float64[ndarray, " n"]
) -> None:
    """Stars of four upright rays."""
    turns = np.arange(8) / 8 * 2 * np.pi
    star = np.stack([np.cos(turns), np.sin(turns)], axis=1) * np.where(np.arange(8) % 2, 0.3, 1.0)[:, None]
    _polygons(brush, spots[:, None] + star * radius[:, None, None], tones)


# -- Greyscale maps ------------------------------------------------------------------------------------------


def _noise(size: Size, down: float, across: float, rng: np.random.Generator) -> _Tones:
    """Smooth noise with spots of about `down` by `across`."""
    h, w = size
    grid = (min(h, int(h * _FINE / down) + 2), min(w, int(w * _FINE / across) + 2))
    return Image.fromarray(rng.integers(0, 256, grid, np.uint8)).resize((w, h), Image.Resampling.BICUBIC)


def _ripples(size: Size, length: float, rng: np.random.Generator) -> _Tones:
    """Wavy stripes, `length` from one to the next, in any direction."""
    h, w = size
    mesh = max(1.0, length / 8)
    rows, columns = int(h * _FINE / mesh) + 1, int(w * _FINE / mesh) + 1
    bend = np.asarray(_noise((rows, columns), 32.0, 32.0, rng), dtype=np.float64) / 255
    turns = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[:rows, :columns]
    wave = np.sin((x * np.cos(turns) + y * np.sin(turns)) * (mesh / length * 2 * np.pi) + bend * 7)
    tones = Image.fromarray((127.5 + 127.5 * wave).astype(np.uint8))
    return tones.resize((w, h), Image.Resampling.BICUBIC)


def _bonds(
    size: Size, tall: float, wide: float, gap: float, rng: np.random.Generator, *, half: bool = False
) -> _Tones:
    """Rows of bricks or boards, each of its own tone, lit from above, 0 in the gaps."""
    h, w = size
    y = np.arange(h) * (_FINE / tall) + rng.uniform()
    row = y.astype(int)
    rows = row[-1] + 1
    shift = rng.uniform() + np.arange(rows) % 2 / 2 if half else rng.uniform(size=rows)
    x = np.arange(w) * (_FINE / wide) + shift[:, None]
    column = x.astype(int)
    own = rng.normal(150, rng.uniform(12, 35), (rows, column.max() + 1)).clip(90, 220)
    lines = np.take_along_axis(own, column, axis=1).astype(np.int16)
    gap = max(gap, _FINE)
    lines[(x - column) * wide < gap] = -99
    down = y - row
    light = np.where(down * tall < gap, -999, np.where(down > 0.85, -25, np.where(down < 0.3, 15, 0)))
    return Image.fromarray((lines[row] + light.astype(np.int16)[:, None]).clip(0, 255).astype(np.uint8))


def _lit(tones: _Tones, unit: float, share: float, rng: np.random.Generator) -> _Tones:
    """Blend in `share` of large-scale light and shadow."""
    w, h = tones.size
    return Image.blend(tones, _noise((h, w), unit * 2.5, unit * 2.5, rng), share)


# -- Colours -------------------------------------------------------------------------------------------------


def _colour(rng: np.random.Generator, *among: Colour) -> Colour:
    """Sample a colour between two neighbouring ones, with some noise."""
    i = int(rng.integers(len(among) - 1))
    between = np.array(mixed(among[i], among[i + 1], rng.uniform()))
    r, g, b = (between + rng.normal(0, 8) + rng.normal(0, 5, 3)).clip(0, 255).astype(int).tolist()
    return r, g, b


def _ramp(base: Colour, contrast: float) -> list[tuple[int, Colour]]:
    """Stops of a ramp: a dark colour, the colour itself, a light colour."""
    return [(20, darker(base, contrast)), (128, base), (235, lighter(base, contrast))]


def _painted(tones: _Tones, stops: Sequence[tuple[int, Colour]]) -> Texture:
    """Map tones to colours, interpolated between the stops."""
    at, colours = [stop[0] for stop in stops], np.array([stop[1] for stop in stops])
    ramp = np.stack([np.interp(np.arange(256), at, channel) for channel in colours.T], axis=1)
    tones.putpalette(ramp.astype(np.uint8).tobytes())
    return np.array(tones.convert("RGB"))
