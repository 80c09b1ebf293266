"""Folders of masks are scored as published, whoever wrote them; what does not fit is named or refused."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.bench.folder_scores import find_masks, score_masks, submitted
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.protocol import Scoring
from tagmask.data.sample import Dataset
from tagmask.errors import InputError
from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.rows import ImageResult
from tests.bench.worlds import WORDS, sample, truth, world


def guess(seed: int) -> np.ndarray:
    """A mask that is right in part; 255 in a corner."""
    labels = truth(seed).copy()
    labels[:, :10] = (seed + 1) % 4
    labels[:4] = 0
    labels[-3:, -3:] = 255
    return labels


def written(folder: Path, *seeds: int, named: str = "image-{}") -> Path:
    for seed in seeds:
        path = folder / f"{named.format(seed)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(index_png(guess(seed)))
    return folder


def scored(folder: Path, dataset: Dataset, average: str = "union", workers: int = 1):
    return score_masks(
        find_masks(folder, dataset),
        dataset,
        Scoring(average=average),
        workers=workers,  # type: ignore[arg-type]
    )


def expected(*seeds: int) -> ConfusionMatrix:
    matrix = ConfusionMatrix(4)
    for seed in seeds:
        matrix.update(guess(seed), truth(seed))
    return matrix


def test_score_is_that_of_all_pixels(tmp_path: Path) -> None:
    folder = written(tmp_path, *range(6))
    for workers in (1, 3):
        summary = scored(folder, world(), workers=workers)
        assert summary.scores["miou"] == 100 * expected(*range(6)).miou()
        assert summary.scores["pixel accuracy"] == 100 * expected(*range(6)).pixel_accuracy()
        np.testing.assert_array_equal(list(summary.classes.values()), 100 * expected(*range(6)).iou())
        assert (summary.scored, summary.partial, summary.failures) == (6, (), ())


def test_classes_that_only_the_masks_have(tmp_path: Path) -> None:
    (tmp_path / "image-0.png").write_bytes(index_png(np.full((64, 80), 3, np.uint8)))
    data = world(1)
    present = int(truth(0)[20, 30])
    assert present != 3
    assert scored(tmp_path, data).scores["miou"] == 0
    ours = ConfusionMatrix(4)
    ours.update(np.full((64, 80), 3, np.uint8), truth(0))
    assert np.isfinite(ours.iou()).sum() == 3
    assert scored(tmp_path, data, "truth").scores["miou"] == 100 * ours.miou("truth")


def test_missing_and_surplus_masks_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path, 0, 2, 7)
    found = find_masks(folder, world(4))
    assert found.missing == {"image-1": "there is no mask", "image-3": "there is no mask"}
    assert found.surplus == ("image-7",)
    summary = scored(folder, world(4))
    assert summary.partial == ("2 of 4 images failed: 2 no mask to score",)
    assert summary.scores["miou"] == 100 * expected(0, 2).miou()


def test_masks_below_folders_are_found_by_their_last_part(tmp_path: Path) -> None:
    assert scored(written(tmp_path / "one", 0, 1, named="masks/photos/image-{}"), world(2)).scored == 2
    folder = written(tmp_path / "two", 0, named="a/image-{}")
    written(folder, 0, named="b/image-{}")
    with pytest.raises(InputError, match=r"which mask in .* is that of image-0: a/image-0, b/image-0"):
        find_masks(folder, world(1))
    assert find_masks(written(folder, 0), world(1)).surplus == ("a/image-0", "b/image-0")
    namesakes = world(0, sample(0, id="x/image-0"), sample(1, id="y/image-0"))
    with pytest.raises(InputError, match=r"that of x/image-0: image-0\. Name it x/image-0\.png"):
        find_masks(written(tmp_path / "three", 0), namesakes)


def test_wrong_sizes_and_labels_are_refused_and_listed(tmp_path: Path) -> None:
    folder = written(tmp_path, *range(4))
    (folder / "image-1.png").write_bytes(index_png(np.zeros((63, 80), np.uint8)))
    (folder / "image-2.png").write_bytes(index_png(np.full((64, 80), 4, np.uint8)))
    (folder / "image-3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"3 masks are refused: .*image-1\.png is 63 x 80 pixels") as raised:
        scored(folder, world(4))
    assert "its image 64 x 80" in str(raised.value)
    assert "image-2.png has the label 4, with 4 classes" in str(raised.value)
    assert "image-3.png" in str(raised.value)


def test_unreadable_ground_truth_is_a_failure_of_its_image(tmp_path: Path) -> None:
    folder = written(tmp_path, 0, 20)
    summary = scored(folder, world(1, sample(20, read_mask=None)))
    assert [(f.id, f.kind) for f in summary.failures] == [("image-20", "mask")]


def run_folder(path: Path, words: tuple[str, ...] = ("background", *WORDS)) -> Path:
    """A run of two images that are done, one of them corrected, and one that failed."""
    with RunFolder.open(path, RunIdentity("mask", {}, {}), Classes(words, 255)) as run:
        for task in run.plan_keys(["image-0", "image-1", "image-2"]):
            if task.key == "image-2":
                run.fail(task, InputError("too small"))
                continue
            run.write_mask(task.name, index_png(guess(int(task.key[-1]))))
            run.done(task, ImageResult())
        run.write_corrected("image-1", index_png(truth(1)))
    return path


def test_a_run_says_which_mask_is_whose(tmp_path: Path) -> None:
    found = find_masks(run_folder(tmp_path / "run"), world(3))
    assert found.missing == {"image-2": "too small"}
    matrix = expected(0)
    matrix.update(truth(1), truth(1))
    assert scored(tmp_path / "run", world(3)).scores["miou"] == 100 * matrix.miou()


def test_other_classes_than_the_data_set_s_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have 3 classes, drawn has 4"):
        find_masks(run_folder(tmp_path / "few", ("background", "a", "b")), world(3))
    other = ("background", "flower", "tree", "fish")
    with pytest.raises(InputError, match="another order: label 1 is 'flower', not 'tree'"):
        find_masks(run_folder(tmp_path / "order", other), world(3))
    assert find_masks(run_folder(tmp_path / "named", ("bg", "a", "b", "c")), world(2)).files
    with pytest.raises(InputError, match="There is no folder"):
        find_masks(tmp_path / "none", world(1))
    with pytest.raises(InputError, match=r"has no mask of an image of drawn.*image-0\.png"):
        scored(written(tmp_path / "others", 50), world(1))


def test_submissions_need_every_mask(tmp_path: Path) -> None:
    folder = written(tmp_path, 0, 1)
    masks = dict(submitted(find_masks(folder, world(2)), world(2)))
    np.testing.assert_array_equal(masks["image-1"], guess(1))
    with pytest.raises(InputError, match=r"1 of 3 images have no mask, such as image-2"):
        list(submitted(find_masks(folder, world(3)), world(3)))
