"""Forms of results compared with flood filling and with pycocotools."""

import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from pycocotools import mask as coco_mask

from tagmask import checks
from tagmask.errors import InputError
from tagmask.results import Segmentation, Tags
from tests.exporters.made_runs import WORDS, masks

# The decoder of pycocotools under newer NumPy; not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def segmentation(
    labels: np.ndarray, words: tuple[str, ...] = WORDS, *, background: bool = True, sure: bool = False
) -> Segmentation:
    confidence = {word: 0.25 * (label + 1) for label, word in enumerate(words[:3])} if sure else None
    return Segmentation(
        words=words,
        labels=labels,
        scores=None,
        background=background,
        precision="float32",
        class_confidence=confidence,
    )


LABELS = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)


def test_a_word_gives_its_mask() -> None:
    found = segmentation(LABELS, ("background", "cat", "hat", "dog"))
    np.testing.assert_array_equal(found["hat"], LABELS == 2)
    np.testing.assert_array_equal(found["background"], LABELS == 0)
    assert found["dog"].dtype == bool
    assert not found["dog"].any()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hta", "Unknown word 'hta'. Did you mean hat?\nThe words are background, cat, hat, dog."),
        ("zebra", "Unknown word 'zebra'.\nThe words are background, cat, hat, dog."),
    ],
)
def test_unknown_words_are_refused(word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        segmentation(LABELS, ("background", "cat", "hat", "dog"))[word]
    assert str(caught.value).startswith(message)


def test_results_have_short_descriptions() -> None:
    found = segmentation(LABELS, ("background", "cat", "hat", "dog"))
    assert repr(found) == "Segmentation(3 x 2: background 33.3%, cat 33.3%, hat 16.7%; absent: dog)"
    many = tuple(f"word {number}" for number in range(171))
    assert len(repr(segmentation(LABELS, many))) < 200
    tags = Tags(("cat", "dog", "hat"), np.array([0.25, 0.5, 0.75], np.float32), (1, 2), 0.3, "float32")
    assert repr(tags) == "Tags(hat 0.75, dog 0.50, of cat, dog, hat)"
    all_tags = Tags(many, np.arange(171, dtype=np.float32), tuple(range(171)), 0.3, "float32")
    assert len(repr(all_tags)) < 250
    nothing = Tags(("cat",), np.zeros(1, np.float32), (), 0.3, "float32")
    assert repr(nothing) == "Tags(nothing, of cat)"


@pytest.mark.parametrize("size", [(2, 3), (700, 2100)])
def test_notebooks_show_the_masks(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.uint8)
    labels[:, : size[1] // 2 + 1] = 1
    shown = PILImage.open(BytesIO(segmentation(labels, ("background", "cat"))._repr_png_()))
    assert shown.format == "PNG"
    assert max(shown.size) <= 1000
    assert shown.size[0] / shown.size[1] == pytest.approx(size[1] / size[0], rel=0.01)
    assert shown.getpixel((shown.size[0] - 1, 0)) == (255, 255, 255)
    assert shown.getpixel((0, shown.size[1] - 1)) != (255, 255, 255)


def flooded(labels: np.ndarray, first: int, end: int) -> set[tuple[int, frozenset[tuple[int, int]]]]:
    """The connected components, pixel by pixel."""
    left = {(y, x) for y, x in np.argwhere((labels >= first) & (labels < end)).tolist()}
    found = set()
    while left:
        pending, part = [min(left)], set()
        label = labels[pending[0]]
        while pending:
            y, x = pending.pop()
            if (y, x) in left and labels[y, x] == label:
                left.remove((y, x))
                part.add((y, x))
                pending += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        found.add((int(label), frozenset(part)))
    return found


def pixels(mask: np.ndarray) -> frozenset[tuple[int, int]]:
    return frozenset((y, x) for y, x in np.argwhere(mask).tolist())


label_maps = st.tuples(st.integers(1, 7), st.integers(1, 7), st.binary(min_size=49, max_size=49)).map(
    lambda drawn: np.array([(0, 1, 2, 255)[b % 4] for b in drawn[2]], np.uint8)[
        : drawn[0] * drawn[1]
    ].reshape(drawn[:2])
)


class TestRegions:
    @settings(max_examples=30)
    @given(label_maps, st.booleans())
    def test_components_are_those_of_flood_filling(self, labels: np.ndarray, background: bool) -> None:
        seg = segmentation(labels, ("background", "cat", "dog"), background=background)
        found = [(region.label, pixels(region.full(labels.shape))) for region in seg.regions()]
        assert len(found) == len(set(found))
        assert set(found) == flooded(labels, int(background), 3)
        large = [region.area for region in seg.regions(min_area=3)]
        assert sorted(large) == sorted(len(part) for _, part in found if len(part) >= 3)

    def test_one_region_per_class(self) -> None:
        seg = segmentation(masks()["holes.png"])
        assert [(region.label, region.area) for region in seg.regions("class")] == [
            (label, int((seg.labels == label).sum())) for label in (1, 2)
        ]
        assert [region.label for region in seg.regions("class", min_area=7)] == [1]

    def test_boxes_by_word(self) -> None:
        seg = segmentation(masks()["holes.png"])
        assert seg.boxes() == {"cat": [(4, 4, 40, 36), (44, 4, 56, 14)], "dog": [(27, 27, 30, 29)]}
        assert seg.boxes("class", min_area=7) == {"cat": [(4, 4, 56, 36)]}

    def test_other_kinds_are_refused(self) -> None:
        seg = segmentation(np.ones((2, 2), np.uint8))
        with pytest.raises(InputError, match="Unknown regions 'word'"):
            seg.regions("word")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="min_area is 0"):
            seg.to_coco(min_area=0)


class TestCoco:
    @pytest.mark.parametrize("polygons", [False, True])
    @pytest.mark.parametrize("background", [False, True])
    def test_annotations_hold_the_regions(self, polygons: bool, background: bool) -> None:
        labels = masks()["holes.png"]
        words = WORDS if background else WORDS[1:]
        if not background:
            labels = np.where(labels == 255, 255, labels - 1).astype(np.uint8)  # 0 becomes 255 too
        seg = segmentation(labels, words, background=background)
        annotations = json.loads(json.dumps(seg.to_coco(7, first_id=20, polygons=polygons)))
        assert [annotation["id"] for annotation in annotations] == [20, 21, 22]
        assert {annotation["image_id"] for annotation in annotations} == {7}
        found = set()
        for annotation in annotations:
            runs = annotation["segmentation"]
            if polygons:
                runs = coco_mask.merge(coco_mask.frPyObjects(runs, *labels.shape))
            mask = coco_mask.decode(runs).astype(bool)
            assert coco_mask.toBbox(runs).tolist() == annotation["bbox"]
            assert annotation["area"] == mask.sum()
            assert "score" not in annotation
            word = (WORDS[1:])[annotation["category_id"] - 1]
            found.add((words.index(word), pixels(mask)))
        assert found == flooded(labels, int(background), len(words))

    def test_scores_are_those_of_the_class(self) -> None:
        annotations = segmentation(masks()["holes.png"], sure=True).to_coco(regions="class")
        assert [(annotation["category_id"], annotation["score"]) for annotation in annotations] == [
            (1, 0.5),
            (2, 0.75),
        ]

    def test_without_pycocotools_the_install_command_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"pip install 'tagmask\[coco\]'"):
            segmentation(np.ones((2, 2), np.uint8)).to_coco()


class TestHuggingFace:
    def test_masks_have_the_form_of_image_segmentation(self) -> None:
        seg = segmentation(masks()["holes.png"], sure=True)
        answers = seg.to_hf()
        assert [(answer["label"], answer["score"]) for answer in answers] == [("cat", 0.5), ("dog", 0.75)]
        for label, answer in enumerate(answers, 1):
            assert set(answer) == {"score", "label", "mask"}
            assert answer["mask"].mode == "L"  # type: ignore[attr-defined]
            np.testing.assert_array_equal(np.array(answer["mask"]), np.where(seg.labels == label, 255, 0))

    def test_the_score_is_none_where_it_is_unknown(self) -> None:
        (answer,) = segmentation(np.zeros((2, 3), np.uint8), ("cat",), background=False).to_hf()
        assert answer["score"] is None
        assert np.array(answer["mask"]).tolist() == [[255] * 3] * 2

    def test_tags_have_the_form_of_zero_shot_classification(self) -> None:
        scores = np.array([0.25, 0.5, 0.25, 0.75], np.float32)
        tags = Tags(("a", "b", "c", "d"), scores, (3,), 0.6, "float32")
        assert tags.to_hf() == [
            {"score": 0.75, "label": "d"},
            {"score": 0.5, "label": "b"},
            {"score": 0.25, "label": "a"},
            {"score": 0.25, "label": "c"},
        ]
        assert all(type(answer["score"]) is float for answer in tags.to_hf())


def test_without_supervision_the_install_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"to_supervision needs supervision\. Run: pip install"):
        segmentation(np.ones((2, 2), np.uint8)).to_supervision()
