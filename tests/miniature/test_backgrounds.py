import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.miniature.backgrounds import BACKGROUNDS, Background

SEEDS = range(12)
SIDE = 96

every = pytest.mark.parametrize("kind", BACKGROUNDS.values(), ids=BACKGROUNDS.keys())


def _pictures(name: str) -> np.ndarray:
    pictures = [BACKGROUNDS[name].draw((SIDE, SIDE), np.random.default_rng(seed)) for seed in SEEDS]
    return np.stack(pictures).astype(np.float64)


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    return {name: _pictures(name) for name in BACKGROUNDS}


def test_words_are_distinct() -> None:
    words = [word for name, kind in BACKGROUNDS.items() for word in (name, *kind.synonyms)]
    assert len(words) == len(set(words))
    assert all(name == kind.name for name, kind in BACKGROUNDS.items())
    assert {name for name, kind in BACKGROUNDS.items() if not kind.ground} == {
        "sky",
        "night",
        "brick",
        "forest",
    }
    assert len(BACKGROUNDS) == 10


@every
def test_equal_seeds_draw_equally(kind: Background) -> None:
    one, same, other = (kind.draw((50, 70), np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one.astype(int) - other).mean() > 1


@every
@settings(deadline=None, max_examples=12)
@given(h=st.integers(1, 80), w=st.integers(1, 80), seed=st.integers(0, 2**32 - 1))
def test_any_size(kind: Background, h: int, w: int, seed: int) -> None:
    picture = kind.draw((h, w), np.random.default_rng(seed))
    assert picture.shape == (h, w, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.writeable
    assert picture.flags.c_contiguous


@every
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 500), (601, 900)])
def test_extreme_sizes(kind: Background, size: tuple[int, int]) -> None:
    assert kind.draw(size, np.random.default_rng(0)).shape == (*size, 3)


@every
def test_texture_varies_everywhere(kind: Background, pictures: dict[str, np.ndarray]) -> None:
    # Each third of each texture (about three structures wide) varies by more than rounding.
    third = SIDE // 3
    tiles = pictures[kind.name].mean(axis=-1).reshape(len(SEEDS), 3, third, 3, third)
    assert tiles.std(axis=(2, 4)).min() > 1


@every
def test_moderate_contrast(kind: Background, pictures: dict[str, np.ndarray]) -> None:
    assert pictures[kind.name].mean(axis=-1).std(axis=(1, 2)).max() < 65


@every
def test_borders_are_painted_like_the_interior(kind: Background, pictures: dict[str, np.ndarray]) -> None:
    grey = pictures[kind.name].mean(axis=-1)
    inner = grey[:, 8:-8, 8:-8].mean()
    for border in (grey[:, :3], grey[:, -3:], grey[:, :, :3], grey[:, :, -3:]):
        assert abs(border.mean() - inner) < 30


@pytest.mark.parametrize(
    ("darker", "lighter"),
    [
        ("night", "sky"),
        ("night", "gravel"),
        ("forest", "grass"),
        ("water", "snow"),
        ("wood", "snow"),
        ("sky", "snow"),
    ],
)
def test_light_and_dark(darker: str, lighter: str, pictures: dict[str, np.ndarray]) -> None:
    assert pictures[darker].mean() + 15 < pictures[lighter].mean()


@pytest.mark.parametrize(
    ("name", "most", "least"),
    [("grass", 1, 2), ("forest", 1, 0), ("sand", 0, 2), ("wood", 0, 2), ("sky", 2, 0), ("water", 2, 0)],
)
def test_tints(name: str, most: int, least: int, pictures: dict[str, np.ndarray]) -> None:
    channels = pictures[name].mean(axis=(1, 2))
    assert (channels[:, most] > channels[:, least]).all()


def test_waves_and_bricks_are_horizontal_grass_is_vertical(pictures: dict[str, np.ndarray]) -> None:
    down = {name: np.abs(np.diff(p.mean(axis=-1), axis=1)).mean() for name, p in pictures.items()}
    across = {name: np.abs(np.diff(p.mean(axis=-1), axis=2)).mean() for name, p in pictures.items()}
    assert down["water"] > across["water"]
    assert down["brick"] > across["brick"]
    assert down["grass"] < across["grass"]
