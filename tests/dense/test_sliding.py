"""Windows that are no multiple of the patch size, from image to scores, against a step-by-step version."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.prompts import text_features
from tests.oracles import stitch as oracle

WORDS = ("cat", "dog", "boat")
TEMPLATES = ("a photo of a {}.",)
SCALE = 40.0


def naive_scores(clip: Clip, image: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> Tensor:
    """Unmodified CLIP on every window, zero-padded after normalisation."""
    vision, patch = clip.vision, clip.vision.patch
    mean, std = (torch.tensor([round(255 * part, 3) for part in parts]) for parts in (clip.mean, clip.std))
    pixels = ((torch.from_numpy(image).float() - mean) / std).permute(2, 0, 1)
    texts = text_features(clip, WORDS, TEMPLATES)
    maps = []
    for x0, y0, x1, y1 in boxes:
        window = oracle.pad_to_patches(pixels[:, y0:y1, x0:x1], patch)
        padded = (window.shape[1], window.shape[2])
        grid = (padded[0] // patch, padded[1] // patch)
        x = vision.embed(window[None], interpolated(vision.positional_embedding, grid))
        for block in vision.blocks:
            x = block(x)
        patches = F.normalize(vision.project(x)[0, 1:], dim=-1)
        maps.append((patches @ texts.T).T.reshape(len(WORDS), *grid))
    size = image.shape[:2]
    return torch.softmax(SCALE * oracle.stitch(torch.stack(maps), boxes, size, size, padded), dim=0)


def interpolated(table: Tensor, grid: tuple[int, int]) -> Tensor:
    side = int((len(table) - 1) ** 0.5)
    cells = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    return torch.cat([table[:1], F.interpolate(cells, scale_factor=factors, mode="bicubic")[0].flatten(1).T])


@torch.inference_mode()
@pytest.mark.parametrize(
    ("size", "crop", "stride"),
    [
        ((45, 70), 57, 20),  # windows of 45 x 57: one line above and two below, three left and four right
        ((70, 45), 57, 20),
        ((53, 90), 33, 25),  # 7 lines above and 8 below
        ((37, 61), None, 1),  # the whole image
    ],
)
def test_windows_are_zero_padded_on_all_sides(
    sclip_model: Clip, size: tuple[int, int], crop: int | None, stride: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    segmenter = tagmask.Segmenter(
        sclip_model,
        WORDS,
        background=[],
        method="clip",
        templates=TEMPLATES,
        logit_scale=SCALE,
        short_side=min(size),  # no scaling
        crop=crop,
        stride=stride,
        two_resizes=True,
        pad_windows=True,
    )
    high, wide = size if crop is None else (min(crop, size[0]), min(crop, size[1]))
    boxes = [
        (x, y, x + wide, y + high)
        for y in oracle.window_starts(size[0], high, stride)
        for x in oracle.window_starts(size[1], wide, stride)
    ]
    expected = naive_scores(sclip_model, image, boxes)
    result = segmenter(image, scores=True)
    assert result.scores is not None
    np.testing.assert_allclose(result.scores, expected.numpy(), rtol=0, atol=1e-5)
    tie = expected.topk(2, dim=0).values.diff(dim=0)[0].abs().numpy() < 1e-4
    np.testing.assert_array_equal(result.labels[~tie], expected.argmax(dim=0).numpy()[~tie])
