"""Labels are placed on their regions and do not overlap."""

import numpy as np

from tagmask.report.label_placement import label_positions


def test_label_is_centred_in_the_largest_part() -> None:
    slots = np.zeros((240, 320), np.int32)
    slots[40:160, 40:200] = 1
    slots[200:230, 280:310] = 1
    x, y = label_positions(slots, {1: "cat"})[1]
    assert abs(x - 120 / 320) < 0.12
    assert abs(y - 100 / 240) < 0.02


def test_small_regions_and_long_words_have_no_label() -> None:
    slots = np.zeros((240, 320), np.int32)
    slots[:10, :10] = 1
    slots[100:, :] = 2
    assert label_positions(slots, {1: "cat", 2: "long" * 30, 7: "absent"}) == {}


def test_labels_do_not_overlap_or_leave_the_image() -> None:
    slots = (np.arange(240)[:, None] // 12 + np.zeros((1, 320), int)).astype(np.int32)
    positions = label_positions(slots, {i: f"word {i}" for i in range(20)})
    assert len(positions) > 5
    assert all(0 < x < 1 and 0 < y < 1 for x, y in positions.values())
    height = 20 / (340 * 240 / 320)
    width = (6.4 * 6 + 12) / 340
    points = list(positions.values())
    for i, (x, y) in enumerate(points):
        for x2, y2 in points[:i]:
            assert abs(x - x2) >= width or abs(y - y2) >= height - 1e-9


def test_thin_images() -> None:
    assert label_positions(np.zeros((1, 500), np.int32), {0: "a"}) == {}
    assert label_positions(np.zeros((500, 2), np.int32), {0: "a"}) != {}
