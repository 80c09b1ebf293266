"""Results as detections of supervision. Run by `make bridges`."""

import json
from pathlib import Path

import pytest

from tests.bridges.environments import run_program

pytestmark = pytest.mark.bridges


def test_detections(tmp_path: Path) -> None:
    out = tmp_path / "described.json"
    run_program("sdk", "to_supervision.py", out, tagmask=True)
    described = json.loads(out.read_text())
    assert described["class"]["words"] == ["cat", "dog"]
    assert described["class"]["class_id"] == [1, 2]
    assert described["class"]["confidence"] == [0.25, 0.5]
    assert described["component"]["words"] == ["cat", "cat", "dog"]
    assert described["component"]["area"] == [952, 120, 6]
    assert described["class"]["area"] == [1072, 6]
