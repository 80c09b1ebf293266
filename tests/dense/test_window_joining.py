"""Joining windows before the last block."""

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec, TowerFeatures, extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.window_joining import join_windows
from tagmask.dense.windows import Windows, plan_windows, single_window
from tagmask.errors import InputError


def features_of_windows(
    clip: Clip, pixels: torch.Tensor, plan: Windows, capture: CaptureSpec
) -> list[TowerFeatures]:
    crops = torch.stack([pixels[:, y0:y1, x0:x1] for x0, y0, x1, y1 in plan.boxes])
    return [
        extract_features(clip.vision, crops[i : i + 2], bicubic_nudged, capture=capture)
        for i in range(0, len(crops), 2)
    ]


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 96, 128, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_single_window_is_unchanged(variants_model: Clip, pixels: torch.Tensor) -> None:
    (single,) = features_of_windows(
        variants_model, pixels, single_window((96, 128)), CaptureSpec(states=frozenset({3}))
    )
    joined = join_windows([single], single_window((96, 128)))
    assert joined.grid == (6, 8)
    torch.testing.assert_close(joined.tokens, single.tokens, rtol=0, atol=1e-5)
    torch.testing.assert_close(joined.states[3], single.states[3], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_aligned_windows_are_averaged_patch_by_patch(variants_model: Clip, pixels: torch.Tensor) -> None:
    plan = plan_windows((96, 128), 64, 32)
    batches = features_of_windows(variants_model, pixels, plan, CaptureSpec())
    joined = join_windows(batches, plan)
    assert joined.grid == (6, 8)
    tokens = torch.cat([batch.tokens for batch in batches])
    sums, counts = torch.zeros(6, 8, tokens.shape[-1]), torch.zeros(6, 8, 1)
    for (x0, y0, _, _), window in zip(plan.boxes, tokens, strict=True):
        rows, columns = slice(y0 // 16, y0 // 16 + 4), slice(x0 // 16, x0 // 16 + 4)
        sums[rows, columns] += window[1:].unflatten(0, (4, 4))
        counts[rows, columns] += 1
    torch.testing.assert_close(joined.tokens[0, 1:], (sums / counts).flatten(0, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(joined.tokens[0, 0], tokens[:, 0].mean(dim=0), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_unaligned_windows_are_interpolated(variants_model: Clip) -> None:
    pixels = torch.randn(3, 72, 72, generator=torch.Generator().manual_seed(0))
    plan = plan_windows((72, 72), 64, 64)
    assert plan.tops == (0, 8)
    batches = features_of_windows(variants_model, pixels, plan, CaptureSpec())
    joined = join_windows(batches, plan)
    assert joined.grid == (4, 4)
    windows = torch.cat([batch.tokens for batch in batches])[:, 1:].unflatten(1, (4, 4))
    # Row 1 of the image is row 1 of the upper windows, and lies between rows 0 and 1 of the lower ones.
    rows = torch.stack([windows[:2, 1], (windows[2:, 0] + windows[2:, 1]) / 2]).mean(dim=0)
    expected = (rows[0, 1] + (rows[1, 0] + rows[1, 1]) / 2) / 2
    torch.testing.assert_close(joined.tokens[0, 1 + 4 + 1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "capture",
    [
        CaptureSpec(attention=frozenset({2})),
        CaptureSpec(averages=frozenset({frozenset({2})})),
        CaptureSpec(votes=frozenset({"patches"})),
    ],
)
def test_attention_cannot_be_joined(variants_model: Clip, pixels: torch.Tensor, capture: CaptureSpec) -> None:
    plan = plan_windows((96, 128), 64, 32)
    batches = features_of_windows(variants_model, pixels, plan, capture)
    with pytest.raises(InputError, match="does not span several windows"):
        join_windows(batches, plan)


def test_segmenter_joins_tokens(variants_model: Clip, shapes: list[np.ndarray]) -> None:
    settings = {"templates": ("{}.",), "short_side": 112, "crop": 64, "stride": 32}
    for method in ("sclip", "sc-clip", "gem"):
        segmenter = tagmask.Segmenter(
            variants_model, recipe="sclip/voc20", method=method, join="tokens", **settings
        )
        seg = segmenter(shapes[0], scores=True)
        assert seg.labels.shape == shapes[0].shape[:2]
        assert seg.scores is not None
        assert np.isfinite(seg.scores).all()
    # With a single window, joining changes nothing.
    single = settings | {"crop": None}
    joined, plain = (
        tagmask.Segmenter(variants_model, recipe="sclip/voc20", join=join, two_resizes=True, **single)
        for join in ("tokens", "maps")
    )
    np.testing.assert_allclose(
        joined(shapes[0], scores=True).scores, plain(shapes[0], scores=True).scores, rtol=0, atol=1e-5
    )
    with pytest.raises(InputError, match=r"Unknown join 'pixels'. Give one of maps, tokens"):
        tagmask.Segmenter(variants_model, recipe="sclip/voc20", join="pixels")
