"""Submissions to PASCAL VOC's server: layout, values, the same bytes each time."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tagmask.bench.submission import Submission
from tagmask.errors import InputError
from tagmask.masks import palette, read_index_png

MASKS = [("2008_000006", np.array([[0, 20], [3, 0]], np.uint8)), ("2008_000011", np.ones((2, 3), np.uint16))]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_layout_and_content(tmp_path: Path, name: str) -> None:
    submission = Submission(tmp_path / name, "voc2012", "test")
    assert submission.write(MASKS) == 2
    with tarfile.open(tmp_path / name) as archive:
        names = archive.getnames()
        assert names == [
            "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png",
            "results/VOC2012/Segmentation/comp6_test_cls/2008_000011.png",
        ]
        for member, (_, labels) in zip(names, MASKS, strict=True):
            content = archive.extractfile(member)
            assert content is not None
            png = content.read()
            np.testing.assert_array_equal(read_index_png(png), labels)
            assert read_index_png(png).dtype == np.uint8
            assert palette(2).tobytes() in png
    before = (tmp_path / name).read_bytes()
    submission.write(MASKS)
    assert (tmp_path / name).read_bytes() == before


def test_competition_and_split_are_in_the_folder_s_name(tmp_path: Path) -> None:
    assert Submission(tmp_path / "a.tar", "voc21", "val", "comp5").folder.endswith("/comp5_val_cls")


def test_values_that_the_server_refuses_leave_no_file(tmp_path: Path) -> None:
    for value in (21, 255):
        with pytest.raises(InputError, match=rf"mask of x has the value {value}"):
            Submission(tmp_path / "a.tar", "voc2012", "test").write([("x", np.full((1, 2), value, np.uint8))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("a.tar", "coco2014", "val"), "scores PASCAL VOC 2012, not coco2014"),
        (("a.zip", "voc2012", "test"), r"a\.zip is no archive"),
        (("a.tar", "voc2012", "test", "comp1"), "Unknown competition 'comp1'"),
    ],
)
def test_what_is_no_submission_is_refused(arguments: tuple[str, ...], match: str) -> None:
    file, *rest = arguments
    with pytest.raises(InputError, match=match):
        Submission(Path(file), *rest)
