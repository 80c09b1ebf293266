"""The report of a run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.errors import InputError
from tagmask.results import Segmentation
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.weak.mask_folder import MaskSource, write_masks
from tagmask.weak.summary import run_curves, run_page

WORDS = ("background", "cat", "dog")


def cats(image: FoundImage) -> np.ndarray:
    return np.full((12, 16), 1, np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        pixels = np.full((12, 16, 3), 40 * number, np.uint8)
        PILImage.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")

    images = find_images([tmp_path / "photos"])
    list(write_masks(images, MaskSource("seeds", WORDS, {}, cats), tmp_path / "seeds"))
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "log.csv").write_text(
        "step,total,gradient,lr\n1,2.5,1.0,0.1\n2,1.5,1.0,0.05\n3,0."
    )
    return tmp_path


def student(image: np.ndarray) -> Segmentation:
    labels = np.full(image.shape[:2], 2, np.uint8)
    return Segmentation(WORDS, labels, None, True, "float32")


def test_steps_are_shown_side_by_side(run: Path) -> None:
    images = find_images([run / "photos"])
    html = run_page(
        images, {"seeds": run / "seeds"}, {"student": run / "student"}, student, {"time": "3 s"}, shown=3
    )
    assert html.count("<article") == 3
    assert "cat" in html
    assert "dog" in html
    assert html.index('value="student"') < html.index('value="seeds"')
    assert "student: loss" in html
    assert "total from 2.5 to 1.5" in html


def test_images_without_a_mask_are_skipped(run: Path) -> None:
    (run / "seeds" / "masks" / "2.png").unlink()
    (run / "photos" / "3.png").write_bytes(b"no image")
    html = run_page(find_images([run / "photos"]), {"seeds": run / "seeds"}, {}, None, {})
    assert html.count("<article") == 3
    new = write_masks(find_images([run / "photos"]), MaskSource("seeds", WORDS, {}, cats), run / "new")
    next(new)
    new.close()
    with pytest.raises(InputError, match="are incomplete"):
        run_page(find_images([run / "photos"]), {"seeds": run / "new"}, {}, None, {})


def test_a_run_without_a_log_has_no_curves(run: Path) -> None:
    assert run_curves("WeakCLIP", run / "photos") == []
    loss, rate = run_curves("student", run / "student")
    assert [line.name for line in loss.lines] == ["total"]
    assert rate.lines[0].y == (0.1, 0.05)
