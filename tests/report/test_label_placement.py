"""Names stand on their regions, clear of each other."""

import numpy as np

from tagmask.report.label_placement import places


def test_a_name_stands_in_the_middle_of_the_largest_part() -> None:
    slots = np.zeros((240, 320), np.int32)
    slots[40:160, 40:200] = 1
    slots[200:230, 280:310] = 1
    x, y = places(slots, {1: "cat"})[1]
    assert abs(x - 120 / 320) < 0.12
    assert abs(y - 100 / 240) < 0.02


def test_small_regions_and_long_words_go_without() -> None:
    slots = np.zeros((240, 320), np.int32)
    slots[:10, :10] = 1
    slots[100:, :] = 2
    assert places(slots, {1: "cat", 2: "long" * 30, 7: "absent"}) == {}


def test_names_do_not_overlap_or_leave_the_picture() -> None:
    slots = (np.arange(240)[:, None] // 12 + np.zeros((1, 320), int)).astype(np.int32)
    found = places(slots, {i: f"word {i}" for i in range(20)})
    assert len(found) > 5
    assert all(0 < x < 1 and 0 < y < 1 for x, y in found.values())
    height = 20 / (340 * 240 / 320)
    width = (6.4 * 6 + 12) / 340
    points = list(found.values())
    for i, (x, y) in enumerate(points):
        for x2, y2 in points[:i]:
            assert abs(x - x2) >= width or abs(y - y2) >= height - 1e-9


def test_thin_pictures() -> None:
    assert places(np.zeros((1, 500), np.int32), {0: "a"}) == {}
    assert places(np.zeros((500, 2), np.int32), {0: "a"}) != {}
