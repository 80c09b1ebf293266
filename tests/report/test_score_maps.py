"""Sheets of the steps behind tags and masks."""

import numpy as np
import pytest

from tagmask.errors import ShapeError
from tagmask.pipelines.score_maps import CamSteps, Crop, TagSteps
from tagmask.report.attention import AttentionExample, attention_sheet, layer_sheet
from tagmask.report.score_maps import cam_sheet, tag_sheet

IMAGE = np.full((220, 220, 3), 120, np.uint8)
LEFT = [20 + i * 230 for i in range(7)]
"""Left edge of each column of cells of 220 pixels."""
TOP = 20 + 61
"""Top of the first row: margin, headings."""


def steps(refined: float = 0.6) -> TagSteps:
    grid = np.zeros((2, 4, 4), np.float32)
    bright = grid.copy()
    bright[0, :2] = 1.0
    return TagSteps(
        words=("cat", "dog"),
        kept=grid,
        coarse=bright,
        once=bright * refined,
        class_mask=bright > 0,
        refined=bright * refined,
        crops={0: Crop((0, 0, 2, 2), bright[0, :, ::-1] > 0, 0.9)},
        final=np.array([0.75, 0.0], np.float32),
        chosen=(0,),
    )


def warmth(cell: np.ndarray) -> float:
    """Mean of red less blue: low for a score of 0, high for 1."""
    return float((cell[..., 0].astype(float) - cell[..., 2]).mean())


def cells(sheet: np.ndarray, top: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower third of a cell."""
    part = sheet[top : top + 220, LEFT[column] : LEFT[column] + 220]
    return part[:70], part[150:]


@pytest.mark.parametrize("refined", [0.6, 0.1])
def test_maps_of_tags_are_in_their_columns(refined: float) -> None:
    sheet = np.asarray(tag_sheet(IMAGE, steps(refined), [0, 1]))
    assert sheet.shape[1] == 2 * 20 + 7 * 220 + 6 * 10
    top = next(y for y in range(40, 160) if (sheet[y, LEFT[0] : LEFT[0] + 220] == 120).all())
    for column, lit in ((1, False), (2, True), (3, True), (4, True), (5, True)):
        upper, lower = cells(sheet, top, column)
        assert (warmth(upper) > 60) == lit, column
        assert warmth(lower) < 0, column
    # The second word has no patch anywhere: all its maps are dark, and it has no crop.
    second = top + 220 + 31
    assert all(warmth(part) < 0 for column in range(1, 6) for part in cells(sheet, second, column))
    assert (sheet[second : second + 220, LEFT[6] : LEFT[6] + 220] == (236, 236, 232)).all()


def test_crop_shows_its_box_and_darkens_hidden_patches() -> None:
    whole = np.asarray(tag_sheet(IMAGE, steps(), [0]))
    top = next(y for y in range(40, 160) if (whole[y, LEFT[0] : LEFT[0] + 220] == 120).all())
    crop = whole[top : top + 110, LEFT[6] : LEFT[6] + 110]
    assert (crop == 120).all()  # the box is the upper left quarter, all of it inside the mask
    hidden = steps()
    hidden.crops[0].mask[:] = False
    dark = np.asarray(tag_sheet(IMAGE, hidden, [0]))[top : top + 110, LEFT[6] : LEFT[6] + 110]
    assert (dark == 30).all()


def test_maps_of_masks_are_in_their_columns() -> None:
    bright = np.zeros((1, 4, 4), np.float32)
    bright[0, :2] = 1
    mask = np.zeros((1, 220, 220), bool)
    mask[0, 110:] = True
    made = CamSteps(("cat",), bright, bright > 0, bright, mask)
    sheet = np.asarray(cam_sheet(IMAGE, made))
    top = next(y for y in range(40, 160) if (sheet[y, LEFT[0] : LEFT[0] + 220] == 120).all())
    for column in (1, 2, 3):
        upper, lower = cells(sheet, top, column)
        assert warmth(upper) > 60
        assert warmth(lower) < 0
    upper, lower = cells(sheet, top, 4)
    assert warmth(upper) < 0
    assert warmth(lower) > 60
    with pytest.raises(ShapeError, match="no tags to draw"):
        cam_sheet(IMAGE, CamSteps((), bright[:0], bright[:0] > 0, bright[:0], mask[:0]))


def test_layers_are_drawn_in_blocks_of_five() -> None:
    weights = np.zeros((7, 1, 4, 4), np.float32)
    weights[6, 0, :2] = 1
    example = AttentionExample(IMAGE, ((5, 5),), tuple(f"layer {i}" for i in range(7)), weights)
    sheet = np.asarray(layer_sheet(example))
    assert sheet.shape[1] == 2 * 20 + 6 * 220 + 5 * 10
    assert sheet.shape[0] > 2 * 220
    below = sheet[sheet.shape[0] // 2 :, LEFT[2] : LEFT[2] + 220]  # the second map of the second block
    assert warmth(below[(below != 253).any(axis=(1, 2))][40:110]) > 60
    assert np.asarray(attention_sheet(example)).shape[1] == 2 * 20 + 8 * 300 + 7 * 10
