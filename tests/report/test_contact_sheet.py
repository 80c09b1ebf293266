import numpy as np
import pytest

from tagmask.errors import ShapeError
from tagmask.report.contact_sheet import Heading, Row, contact_sheet, resize_longest, upsample_map

RED, BLUE = (np.full((20, 40, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))


def boxes(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) of the pixels of a colour."""
    rows, columns = np.nonzero((sheet == colour).all(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_pictures_are_in_columns_below_their_headings() -> None:
    rows = [Row((RED, BLUE), "first"), Row((RED[:10], BLUE[:, :30]))]
    sheet = np.asarray(
        contact_sheet([Heading("a", "some words that need several lines"), Heading("b")], rows)
    )
    x0, y0, x1, y1 = boxes(sheet, (255, 0, 0))
    assert x1 - x0 == 40
    left, top, right, bottom = boxes(sheet, (0, 0, 255))
    assert (right - left, top) == (40, y0)
    assert left >= x1
    assert bottom - y1 == 10  # the second row's red picture is 10 pixels shorter
    assert y0 > 2 * 16  # room for the headings
    assert (sheet[: y0 - 1] < 128).any()


def test_narrow_columns_have_room_for_names() -> None:
    narrow = np.full((50, 2, 3), (255, 0, 0), np.uint8)
    name = "a name that is much longer than its picture is wide"
    sheet = np.asarray(contact_sheet([Heading(name), Heading("b")], [Row((narrow, narrow))]))
    columns = np.flatnonzero((sheet == (255, 0, 0)).all(axis=2).any(axis=0))
    assert columns[:2].tolist() == [20, 21]
    written = np.flatnonzero((sheet[20:38, : columns[2]] < 128).any(axis=(0, 2)))
    assert 200 < written.max() < columns[2] - 5


def test_sheet_needs_a_picture_per_heading() -> None:
    for headings, rows in (([Heading("a")], []), ([], [Row(())]), ([Heading("a")], [Row((RED, BLUE))])):
        with pytest.raises(ShapeError, match="Give at least one row and column"):
            contact_sheet(headings, rows)


def test_images_are_resized_by_their_longest_side() -> None:
    assert resize_longest(RED, 10).shape == (5, 10, 3)
    assert resize_longest(RED, 80).shape == (40, 80, 3)
    assert resize_longest(np.zeros((1, 500, 3), np.uint8), 100).shape == (1, 100, 3)
    with pytest.raises(ShapeError, match="at least one pixel"):
        resize_longest(np.zeros((0, 5, 3), np.uint8), 10)


def test_maps_are_upsampled_bilinearly() -> None:
    grid = np.array([[0.0, 1.0]], np.float32)
    upsampled = upsample_map(grid, (4, 8))
    assert upsampled.shape == (4, 8)
    np.testing.assert_allclose(upsampled[0], np.clip((np.arange(8) - 1.5) / 4, 0, 1), atol=1e-6)
