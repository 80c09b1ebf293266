"""What of labelme's files the contract does not cover: which regions are polygons, and where the photo is."""

import json
from pathlib import Path

import numpy as np

from tagmask.runs.reader import Run
from tests.exporters.made_runs import write_photos, write_run


def test_regions_with_holes_are_masks_and_others_polygons(tmp_path: Path) -> None:
    ring = np.zeros((6, 9), np.uint8)
    ring[1:5, 0:4] = 1
    ring[2, 2] = 0
    ring[3:5, 6:8] = 1
    photos = write_photos(tmp_path / "photos", {"sub/a.png": ring})
    with Run(write_run(tmp_path / "run", photos, {"sub/a.png": ring})) as run:
        target = run.export("labelme", tmp_path / "out", photos="none")
    described = json.loads((target / "sub" / "a.json").read_text())
    assert [shape["shape_type"] for shape in described["shapes"]] == ["mask", "polygon"]
    assert described["shapes"][0]["points"] == [[0, 1], [3, 4]]
    assert described["shapes"][1]["points"] == [[7.4, 3.4], [7.4, 4.4], [6.4, 4.4], [6.4, 3.4]]
    assert described["imagePath"] == str(photos / "sub" / "a.png")
    assert (described["imageHeight"], described["imageWidth"], described["imageData"]) == (6, 9, None)
