"""The gate's fixtures are the reference packs: run where those are at hand (make parity)."""

from pathlib import Path

import numpy as np
import pytest

GATE = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "golden"

COPIES = {
    "tagclip_voc_img0.npz": ["tagclip_voc_img0.npz"],
    "units_golden.npz": ["units_model.npz", "units_small.npz"],
    "miou_golden.npz": ["miou_golden.npz"],
}

LEFT_OUT = {
    # Recorded from an input that the pack does not say: the class token of img2 as recorded in tags.npz is
    # equal to ours (units_model.npz holds that one), this one is not reached from img2 by any route tried.
    ("units_golden.npz", "clip/img2_cls"),
}


@pytest.mark.parity
@pytest.mark.parametrize("pack", COPIES)
def test_every_array_of_a_pack_is_in_the_gate(pack: str) -> None:
    copies = [np.load(GATE / name) for name in COPIES[pack]]
    missing = []
    for name, reference in np.load(SHARED / pack).items():
        held = [copy[name] for copy in copies if name in copy.files]
        if not held and (pack, name) not in LEFT_OUT:
            missing.append(name)
        for array in held:
            np.testing.assert_array_equal(array, reference)
    assert missing == []


@pytest.mark.parity
def test_numbers_beside_the_label_maps_are_the_same() -> None:
    assert (GATE / "miou_golden.json").read_bytes() == (SHARED / "miou_golden.json").read_bytes()


@pytest.mark.parity
def test_the_class_token_is_the_recorded_one() -> None:
    held = np.load(GATE / "units_model.npz")["clip/img2_cls_unit"]
    np.testing.assert_array_equal(held, np.load(SHARED / "tags.npz")["clip/image_features"][2])


@pytest.mark.parity
def test_scores_of_tags_are_the_recorded_ones() -> None:
    held, pack = np.load(GATE / "tag_metrics.npz"), np.load(SHARED / "tags.npz")
    for name in held.files:
        np.testing.assert_array_equal(held[name], pack[f"metrics/{name}"])
