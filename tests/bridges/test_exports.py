"""Exports opened by the tools' own libraries: masks come back equal. Run by `make bridges`."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.exporters import EXPORTERS
from tagmask.regions import components
from tests.bridges.openings import OPENINGS, Masks, Opening, grown, iou
from tests.bridges.scenes import WORDS, label_maps, truth_of
from tests.exporters.made_runs import write_photos, write_run

pytestmark = pytest.mark.bridges

LARGE = 100


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    return label_maps()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, labels: dict[str, np.ndarray]) -> Path:
    folder = tmp_path_factory.mktemp("bridges")
    photos = write_photos(folder / "photos", labels)
    return write_run(folder / "run", photos, labels, WORDS)


def flat_names(labels: dict[str, np.ndarray]) -> dict[str, str]:
    names = {name: name.replace("/", "_") for name in labels}
    return names | {"a_b/specks.png": "a_b_specks-2.png"}


def smallest_iou(read: Masks, expected: Masks) -> float:
    """The least IoU of the connected components over 100 pixels, each with what was read near it."""
    ious = []
    for name, words in expected.items():
        for word, mask in words.items():
            for part in components(mask.view(np.uint8), 1, 2, LARGE + 1):
                x0, y0, x1, y1 = part.box
                near = np.zeros_like(mask)
                near[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
                others = mask & ~part.full(mask.shape)  # type: ignore[arg-type]
                ious.append(iou(read[name][word] & near & ~others, part.full(mask.shape)))  # type: ignore[arg-type]
    assert len(ious) > 20
    return min(ious)


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: opening.name)
def test_masks_come_back(
    opening: Opening, run_folder: Path, labels: dict[str, np.ndarray], tmp_path: Path
) -> None:
    library, read = opening.open(opening.export(run_folder, tmp_path))
    expected = opening.named(truth_of(labels), flat_names(labels))
    print(f"{opening.name}: {library}, {len(read)} images, IoU {smallest_iou(read, expected):.4f}")
    assert set(read) == set(expected)
    for name, words in expected.items():
        assert set(read[name]) == set(words), name
        for word, mask in words.items():
            whole = grown(mask) if opening.grows else mask
            np.testing.assert_array_equal(read[name][word], whole, err_msg=f"{name}: {word}")


def test_every_format_of_other_tools_is_opened() -> None:
    ours = {"csv", "report", "folder", "coco-panoptic", "labelme"}  # no library here reads them
    assert {opening.format for opening in OPENINGS} == set(EXPORTERS) - ours
