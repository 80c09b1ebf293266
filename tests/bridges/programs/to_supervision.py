"""OUT: results as supervision's detections, checked with supervision."""

import json
import sys
from pathlib import Path

import numpy as np
import supervision as sv
from tests.exporters.made_runs import WORDS, masks

from tagmask.results import Segmentation

out = Path(sys.argv[1])


def segmentation(name: str, *, sure: bool) -> Segmentation:
    return Segmentation(
        words=WORDS,
        labels=masks()[name],
        scores=None,
        background=True,
        precision="float32",
        class_confidence={word: 0.25 * label for label, word in enumerate(WORDS)} if sure else None,
    )


described = {}
for regions in ("class", "component"):
    detections = segmentation("holes.png", sure=True).to_supervision(regions)
    assert isinstance(detections, sv.Detections)
    half_open = sv.mask_to_xyxy(detections.mask, coordinate_convention="exclusive")
    np.testing.assert_array_equal(detections.xyxy, half_open)
    assert detections.area.tolist() == detections.mask.sum(axis=(1, 2)).tolist()
    described[regions] = {
        "words": detections["class_name"].tolist(),
        "class_id": detections.class_id.tolist(),
        "confidence": detections.confidence.tolist(),
        "area": detections.area.tolist(),
    }
    union = np.zeros(detections.mask.shape[1:], np.uint8)
    for mask, class_id in zip(detections.mask, detections.class_id, strict=True):
        union[mask] = class_id
    np.testing.assert_array_equal(union, np.where(masks()["holes.png"] == 255, 0, masks()["holes.png"]))
# They go through the library's own operations.
detections = segmentation("holes.png", sure=True).to_supervision("component")
assert len(detections[detections.confidence > 0.3]) == 1
scene = np.zeros((*detections.mask.shape[1:], 3), np.uint8)
assert sv.MaskAnnotator().annotate(scene.copy(), detections).any()
merged = sv.Detections.merge([detections, detections[:1]])
assert len(merged) == len(detections) + 1

empty = segmentation("empty.jpg", sure=True).to_supervision()
assert len(empty) == 0
assert empty.mask.shape == (0, 7, 9)
assert sv.MaskAnnotator().annotate(np.zeros((7, 9, 3), np.uint8), empty).shape == (7, 9, 3)
assert segmentation("holes.png", sure=False).to_supervision().confidence is None
out.write_text(json.dumps(described))
