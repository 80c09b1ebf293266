from pathlib import Path

import pytest

from tagmask.bench.tag_files import read_truth, scored_tags
from tagmask.errors import InputError
from tagmask.runtime.tag_files import read_tags

SPEC = Path(__file__).parents[3] / "shared" / "spec"

TRUTH = {"a": (0, 1), "b": (2,), "c": (), "d": (1,)}


def test_tags_are_counted() -> None:
    scores = scored_tags({"a": (0, 2), "b": (2,), "c": (1,), "d": (1,)}, TRUTH, 3)
    assert (scores.right, scores.wrong, scores.missed, scores.exact, scores.images) == (3, 2, 1, 2, 4)
    assert scores.f1.overall.precision == pytest.approx(3 / 5)
    assert scores.f1.overall.recall == pytest.approx(3 / 4)
    assert not scores.partial


def test_images_in_only_one_file_are_listed() -> None:
    scores = scored_tags({"a": (0,), "x": (1,)}, TRUTH, 3)
    assert (scores.without_tags, scores.not_listed, scores.images) == (("b", "c", "d"), ("x",), 1)
    assert scores.partial
    with pytest.raises(InputError, match="no image in common"):
        scored_tags({"x": (1,)}, TRUTH, 3)


def test_raw_ids_of_coco_stuff_become_classes(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("a 0 12 181\n")
    assert read_truth(file, 171, raw_coco_stuff=True) == {"a": (0, 11, 170)}
    assert read_truth(file, 182) == {"a": (0, 12, 181)}
    file.write_text("a 11\n")
    with pytest.raises(InputError, match="unused raw id 11 for 'a'"):
        read_truth(file, 171, raw_coco_stuff=True)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "classes", "scores", "counts", "exact"),
    [
        ("voc2012_val", 20, (0.9251, 0.7713, 0.8412), (1656, 134, 491), (985, 1449)),
        ("coco2017_val", 80, (0.7857, 0.4125, 0.5410), (6035, 1646, 8596), (1062, 4952)),
        ("cocostuff_val", 171, (0.4368, 0.5020, 0.4671), (18369, 23686, 18224), (17, 4172)),
    ],
)
def test_the_authors_tags_against_their_lists(name, classes, scores, counts, exact) -> None:
    truth = read_truth(SPEC / "imagesets" / f"{name}.txt", classes, raw_coco_stuff=classes == 171)
    found = scored_tags(read_tags(SPEC / "official_tags" / f"{name}.txt", classes), truth, classes)
    overall = found.f1.overall
    assert (round(overall.precision, 4), round(overall.recall, 4), round(overall.f1, 4)) == scores
    assert (found.right, found.wrong, found.missed) == counts
    assert (found.exact, found.images, found.partial) == (*exact, False)
