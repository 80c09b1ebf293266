"""Attention maps: compared with naive formulas, shared forward passes, invalid points and methods."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.clip.model import Block
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.sliding import SlidingSettings, preprocess_cv2
from tagmask.errors import InputError
from tagmask.pipelines.attention_maps import WHOLE, patch_attention, patch_of

SMALL = SlidingSettings(crop=None, short_side=64)
GRID = (4, 5)


@pytest.fixture(scope="module")
def image(shapes: list[np.ndarray]) -> np.ndarray:
    return shapes[0]  # 250 x 333, scaled to 64 x 85, of which 80 columns are whole patches


@pytest.fixture(scope="module")
def tower(sclip_model: Clip, image: np.ndarray) -> TowerFeatures:
    return extract_features(sclip_model.vision, preprocess_cv2(sclip_model, image, 64)[None], bicubic_nudged)


def naive_row(tower: TowerFeatures, patch: int, pairs: tuple[str, ...]) -> np.ndarray:
    """The row of one patch, summed over pairs of projections, averaged over heads, entry by entry."""
    parts = {"q": tower.q[0].double().numpy(), "k": tower.k[0].double().numpy()}
    heads = len(parts["q"])
    row = np.zeros(tower.patches)
    for head in range(heads):
        for first, second in pairs:
            query, keys = parts[first][head][patch + 1], parts[second][head]
            weights = [math.exp(float(query @ key) / 8) for key in keys]
            for j in range(tower.patches):
                row[j] += weights[j + 1] / sum(weights) / heads
    return row


@pytest.mark.parametrize(("method", "pairs"), [("clip", ("qk",)), ("sclip", ("qq", "kk"))])
def test_row_of_attention_equals_the_formula(
    method: str, pairs: tuple[str, ...], tower: TowerFeatures, sclip_model: Clip, image: np.ndarray
) -> None:
    # Column 3 of 5 is pixels 200 to 266 of 333, row 2 of 4 is pixels 125 to 187 of 250.
    found = patch_attention(sclip_model, image, [(230, 150)], [method], SMALL)
    assert found.shape == (1, 1, *GRID)
    expected = naive_row(tower, 2 * 5 + 3, pairs)
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-6)
    assert expected.sum() < len(pairs)  # the class token's weight is left out


def test_maskclip_attends_to_the_patch_itself(sclip_model: Clip, image: np.ndarray) -> None:
    found = patch_attention(sclip_model, image, [(0, 0), (332, 249)], ["maskclip"], SMALL)
    expected = np.zeros((1, 2, *GRID))
    expected[0, 0, 0, 0] = expected[0, 1, 3, 4] = 1
    np.testing.assert_array_equal(found, expected)


def test_methods_with_the_same_position_rule_share_the_tower(
    sclip_model: Clip, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    forward = Block.forward

    def counted(self: Block, *args: object) -> torch.Tensor:
        calls.append(id(self))
        return forward(self, *args)

    monkeypatch.setattr(Block, "forward", counted)
    methods = ["clip", "maskclip", "sclip", "naclip", "clearclip", "sc-clip"]
    together = patch_attention(sclip_model, image, [(5, 5), (99, 99), (300, 10)], methods, SMALL)
    assert len(calls) == len(set(calls)) == len(sclip_model.vision.blocks) - 1
    for i, method in enumerate(methods):
        alone = patch_attention(sclip_model, image, [(99, 99)], [method], SMALL)
        np.testing.assert_allclose(together[i, 1], alone[0, 0], rtol=0, atol=1e-6)
    # GEM interpolates the position table in another way, so it needs a forward pass of its own.
    calls.clear()
    patch_attention(sclip_model, image, [(5, 5)], ["clip", "gem"], SMALL)
    assert len(calls) == 2 * (len(sclip_model.vision.blocks) - 1)


def test_second_pass_depends_on_the_texts(variants_model: Clip, image: np.ndarray) -> None:
    texts = F.normalize(torch.randn(4, variants_model.vision.proj.shape[1]), dim=-1)
    points, methods = [(120, 90)], ["resclip", "resclip-rcs", "sclip"]
    first = patch_attention(variants_model, image, points, methods, SMALL)
    second = patch_attention(variants_model, image, points, methods, SMALL, texts)
    np.testing.assert_allclose(first[0], first[1], rtol=0, atol=1e-6)
    assert np.abs(first[0] - second[0]).max() > 1e-4
    np.testing.assert_array_equal(first[1:], second[1:])


def test_patch_at_a_pixel_contains_it() -> None:
    for length, parts in ((333, 5), (64, 4), (3, 7), (1, 1)):
        for x in range(length):
            row, column = patch_of((x, 0), (1, length), (1, parts))
            assert (row, column) == (0, math.floor((x + 0.5) / length * parts))


@pytest.mark.parametrize("point", [(333, 0), (0, 250), (-1, 3), (3, -1)])
def test_points_outside_are_refused(point: tuple[int, int], sclip_model: Clip, image: np.ndarray) -> None:
    with pytest.raises(
        InputError, match=r"outside the image of 333 x 250 pixels \(w x h\). Give 0..332,0..249"
    ):
        patch_attention(sclip_model, image, [(0, 0), point], ["clip"], SMALL)


def test_unknown_methods_are_refused(sclip_model: Clip, image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"Unknown method 'clop'. Did you mean clip"):
        patch_attention(sclip_model, image, [(0, 0)], ["clop"], WHOLE)
