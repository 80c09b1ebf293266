"""COCO files compared with pycocotools and with counting pixels one by one."""

import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tagmask import checks
from tagmask.errors import InputError
from tagmask.exporters.coco import CocoFile
from tagmask.regions import class_regions
from tagmask.regions.coco import needs_pycocotools
from tagmask.results import Segmentation

# The decoder of pycocotools under newer NumPy; not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WORDS = ("background", "cat", "dog", "boat")


def segmentation(
    labels: np.ndarray, *, background: bool = True, scores: np.ndarray | None = None
) -> Segmentation:
    words = WORDS if background else WORDS[1:]
    return Segmentation(words=words, labels=labels, scores=scores, background=background, precision="float32")


def add(
    file: CocoFile,
    name: str,
    labels: np.ndarray,
    scores: dict[str, float] | None = None,
    words: Sequence[str] = WORDS,
) -> None:
    """One region per class, as `--regions class`."""
    first = int(words[:1] == ("background",))
    regions = class_regions(labels, first, len(words))
    height, width = labels.shape
    file.add(name, (height, width), regions, lambda label: (scores or {}).get(words[label]))


def encoded(*segmentations: Segmentation, background: bool = True) -> dict[str, list[dict[str, object]]]:
    buffer = io.BytesIO()
    file = CocoFile(buffer.write, WORDS if background else WORDS[1:], background=background)
    for number, each in enumerate(segmentations):
        add(file, f"folder/{number}.jpg", each.labels, class_means(each), words=each.words)
    file.finish()
    content: dict[str, list[dict[str, object]]] = json.loads(buffer.getvalue())
    return content


def class_means(segmentation: Segmentation) -> dict[str, float] | None:
    if segmentation.scores is None:
        return None
    insides = [segmentation.labels == label for label in range(len(segmentation.words))]
    return {
        word: float(plane[inside].mean())
        for word, plane, inside in zip(segmentation.words, segmentation.scores, insides, strict=True)
        if inside.any()
    }


def decoded(annotation: dict[str, object]) -> np.ndarray:
    runs = annotation["segmentation"]
    assert isinstance(runs, dict)
    mask: np.ndarray = coco_mask.decode({"size": runs["size"], "counts": runs["counts"].encode()})
    return mask


@settings(deadline=None, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    background=st.booleans(),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
def test_regions_equal_the_labels(size: tuple[int, int], background: bool, wide: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = 4 if background else 3
    ignore_index = 65535 if wide else 255
    labels = rng.choice([*range(words), ignore_index], size=size).astype(np.uint16 if wide else np.uint8)
    scores = rng.random((words, *size), np.float32)
    content = encoded(segmentation(labels, background=background, scores=scores), background=background)
    rebuilt = np.full(size, ignore_index)
    if background:
        rebuilt[labels == 0] = 0  # the background has no region
    for annotation in content["annotations"]:
        label = annotation["category_id"] if background else annotation["category_id"] - 1
        inside = decoded(annotation).astype(bool)
        rebuilt[inside] = label
        places = [(y, x) for y in range(size[0]) for x in range(size[1]) if labels[y, x] == label]
        ys, xs = zip(*places, strict=True)
        box = [min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1]
        assert annotation["bbox"] == box
        assert annotation["area"] == len(places)
        mean = sum(float(scores[label, y, x]) for y, x in places) / len(places)
        assert annotation["score"] == pytest.approx(mean, abs=2e-6)
        assert annotation["iscrowd"] == 0
        assert set(annotation["segmentation"]) == {"size", "counts"}
    np.testing.assert_array_equal(rebuilt, labels)
    present = set(np.unique(labels)) - {ignore_index} - ({0} if background else set())
    assert len(content["annotations"]) == len(present)


def test_holes_are_kept() -> None:
    labels = np.zeros((12, 15), np.uint8)
    labels[2:10, 3:12] = 2
    labels[4:7, 5:9] = 0
    labels[5, 6] = 1
    first, second = encoded(segmentation(labels))["annotations"]
    np.testing.assert_array_equal(decoded(second), labels == 2)
    assert (second["area"], second["bbox"]) == (72 - 12, [3, 2, 9, 8])
    assert (first["category_id"], first["area"], first["bbox"]) == (1, 1, [6, 5, 1, 1])


def test_ids_count_from_one_across_images() -> None:
    cat = np.ones((4, 6), np.uint8)
    empty = np.zeros((5, 3), np.uint8)
    three = np.array([[0, 3, 1], [255, 2, 1]], np.uint8)
    content = encoded(*(segmentation(labels) for labels in (cat, empty, three)))
    assert content["images"] == [
        {"id": 1, "file_name": "folder/0.jpg", "height": 4, "width": 6, "license": 1},
        {"id": 2, "file_name": "folder/1.jpg", "height": 5, "width": 3, "license": 1},
        {"id": 3, "file_name": "folder/2.jpg", "height": 2, "width": 3, "license": 1},
    ]
    ids = [(item["id"], item["image_id"], item["category_id"]) for item in content["annotations"]]
    assert ids == [(1, 1, 1), (2, 3, 1), (3, 3, 2), (4, 3, 3)]
    assert all("score" not in item for item in content["annotations"])


@pytest.mark.parametrize("background", [True, False])
def test_categories_are_the_words_without_the_background(background: bool) -> None:
    categories = encoded(background=background)["categories"]
    assert [(item["id"], item["name"]) for item in categories] == [(1, "cat"), (2, "dog"), (3, "boat")]
    cat = np.full((2, 2), 1, np.uint8)
    (annotation,) = encoded(segmentation(cat, background=background), background=background)["annotations"]
    assert annotation["category_id"] == (1 if background else 2)


def test_no_images_make_an_empty_file() -> None:
    content = encoded()
    assert (content["images"], content["annotations"]) == ([], [])


def test_pycocotools_reads_the_file(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 1], [2, 2, 1]], np.uint8)
    with (tmp_path / "annotations.json").open("wb") as opened:
        file = CocoFile(opened.write, ("background", "кошка", "dog"), background=True)
        add(file, "é.jpg", labels)
        file.finish()
    read = COCO(str(tmp_path / "annotations.json"))
    assert read.loadImgs(read.getImgIds())[0]["file_name"] == "é.jpg"
    assert [item["name"] for item in read.loadCats(read.getCatIds())] == ["кошка", "dog"]
    for label in (1, 2):
        (annotation,) = read.loadAnns(read.getAnnIds(catIds=[label]))
        np.testing.assert_array_equal(read.annToMask(annotation), labels == label)


def test_a_file_name_that_is_not_utf8_is_read_back() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    buffer = io.BytesIO()
    file = CocoFile(buffer.write, WORDS, background=True)
    add(file, name, np.zeros((2, 2), np.uint8))
    file.finish()
    assert json.loads(buffer.getvalue())["images"][0]["file_name"] == name


def test_missing_pycocotools_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_pycocotools()
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tagmask\[coco\]'"):
        needs_pycocotools()


def test_memory_does_not_grow_with_the_number_of_words() -> None:
    words = tuple(f"word {i}" for i in range(300))
    labels = np.repeat(np.arange(300, dtype=np.uint16)[:, None].repeat(3, axis=0), 900, axis=1)
    written: list[int] = []
    file = CocoFile(lambda data: written.append(len(data)), words, background=False)
    tracemalloc.start()
    try:
        add(file, "a.jpg", labels, dict.fromkeys(words, 0.5), words)
        file.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(written) > 300
    assert peak < 20 * labels.size  # bytes; all regions at once would take 300 a pixel


def test_scores_that_are_no_numbers_are_refused() -> None:
    file = CocoFile(lambda _: None, WORDS, background=True)
    with pytest.raises(InputError, match="NaN or infinite"):
        add(file, "a.jpg", np.ones((2, 2), np.uint8), {"cat": float("nan")})
