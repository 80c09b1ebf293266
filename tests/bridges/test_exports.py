"""Exports opened by the tools' own libraries: masks come back equal. Run by `make bridges`."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.exporters import EXPORTERS
from tests.bridges.openings import OPENINGS, Masks, Opening, grown, large_ious
from tests.bridges.scenes import WORDS, label_maps, truth_of
from tests.exporters.made_runs import write_photos, write_run

pytestmark = pytest.mark.bridges


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
    found = [
        value
        for name, words in expected.items()
        for word, mask in words.items()
        for value in large_ious(read[name][word], mask)
    ]
    assert len(found) > 20
    return min(found)


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
    ours = {"csv", "report", "folder", "labelme"}  # no library here reads them
    assert {opening.format for opening in OPENINGS} == set(EXPORTERS) - ours
