"""What the bridges need no other tool for."""

import importlib.util
import json
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tagmask import checks
from tagmask.bridges import cvat
from tagmask.errors import InputError
from tagmask.regions import components
from tagmask.regions.run_lengths import rows_from_runs
from tests.bridges.environments import BridgeError, run_program
from tests.bridges.openings import grown
from tests.exporters.made_runs import masks
from tests.regions.rings import filled

IMAGE = PIL.Image.new("RGB", (4, 3))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)


@pytest.mark.usefixtures("without")
def test_without_cvat_sdk_the_install_command_is_given() -> None:
    with pytest.raises(InputError, match=r"needs cvat-cli\. Run: pip install 'tagmask\[cvat\]'"):
        cvat.create("cat;dog", "miniature")


@pytest.mark.usefixtures("without")
def test_without_fiftyone_the_install_command_is_given() -> None:
    spec = importlib.util.find_spec("tagmask.bridges.fiftyone")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(InputError, match=r"needs fiftyone\. Run: pip install 'tagmask\[fiftyone\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_an_image_that_fails_has_no_annotations(caplog: pytest.LogCaptureFixture) -> None:
    def annotate(context: Any, image: PIL.Image.Image) -> list[Any]:
        raise MemoryError("too large")

    function = cvat.DetectionFunction(SimpleNamespace(labels=[]), annotate)
    with caplog.at_level(logging.ERROR):
        assert function.detect(SimpleNamespace(frame_name="street.jpg"), IMAGE) == []
    assert "No annotations for street.jpg" in caplog.text
    assert "too large" in caplog.text


def test_words_are_separated_by_semicolons() -> None:
    assert cvat._texts(" cat;dog, puppy ;; кот") == ["cat", "dog, puppy", "кот"]
    assert cvat._texts("") == []
    assert cvat._texts(("cat", "a;b")) == ["cat", "a;b"]


@pytest.mark.parametrize("name", ["holes.png", "a/b/specks.png", "кот é.jpg"])
def test_points_of_masks_and_polygons_give_back_the_region(name: str) -> None:
    labels = masks()[name]
    for region in components(labels, 1, 5):
        *runs, x0, y0, x1, y1 = cvat._mask_points(region)
        assert all(type(value) is float for value in cvat._mask_points(region))
        assert (x0, y0, x1 + 1, y1 + 1) == region.box
        read = rows_from_runs(np.array(runs, int), (int(y1 - y0 + 1), int(x1 - x0 + 1)))
        np.testing.assert_array_equal(read, region.mask)
        (polygon,) = cvat._polygon_points(region)
        outline = filled(np.array(polygon).reshape(-1, 2), labels.shape)  # type: ignore[arg-type]
        np.testing.assert_array_equal(outline, region.full(labels.shape))  # type: ignore[arg-type]


def test_a_mask_grown_to_the_right_and_below() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1, 1:3] = True
    assert json.dumps(grown(mask).astype(int).tolist()) == json.dumps(
        [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    )


def test_a_missing_environment_names_the_command_that_makes_it() -> None:
    with pytest.raises(BridgeError, match="Run: make bridges"):
        run_program("none", "write_export.py")
