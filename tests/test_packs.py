"""The test fixtures equal the reference packs; needs the packs (make parity)."""

from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "golden"

COPIES = {
    "tagclip_voc_img0.npz": ["tagclip_voc_img0.npz"],
    "units_golden.npz": ["units_model.npz", "units_small.npz"],
    "miou_golden.npz": ["miou_golden.npz"],
}

EXCLUDED = {
    # From an unknown input: the class token of img2 in tags.npz equals ours (units_model.npz),
    # but this one could not be reproduced from img2.
    ("units_golden.npz", "clip/img2_cls"),
}


@pytest.mark.parity
@pytest.mark.parametrize("pack", COPIES)
def test_every_array_of_a_pack_is_in_the_fixtures(pack: str) -> None:
    copies = [np.load(FIXTURES / name) for name in COPIES[pack]]
    missing = []
    for name, reference in np.load(SHARED / pack).items():
        copied = [copy[name] for copy in copies if name in copy.files]
        if not copied and (pack, name) not in EXCLUDED:
            missing.append(name)
        for array in copied:
            np.testing.assert_array_equal(array, reference)
    assert missing == []


@pytest.mark.parity
def test_expected_miou_is_the_recorded_one() -> None:
    assert (FIXTURES / "miou_golden.json").read_bytes() == (SHARED / "miou_golden.json").read_bytes()


@pytest.mark.parity
def test_the_class_token_is_the_recorded_one() -> None:
    copied = np.load(FIXTURES / "units_model.npz")["clip/img2_cls_unit"]
    np.testing.assert_array_equal(copied, np.load(SHARED / "tags.npz")["clip/image_features"][2])


@pytest.mark.parity
def test_scores_of_tags_are_the_recorded_ones() -> None:
    copied, pack = np.load(FIXTURES / "tag_metrics.npz"), np.load(SHARED / "tags.npz")
    for name in copied.files:
        np.testing.assert_array_equal(copied[name], pack[f"metrics/{name}"])
