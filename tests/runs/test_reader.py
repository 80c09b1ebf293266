import json

import numpy as np
import pytest

from tagmask.errors import ImageError, InputError
from tagmask.masks import index_png
from tagmask.runs.classes import read_classes
from tagmask.runs.database import RunDatabase
from tagmask.runs.folder import RunFolder
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images
from tests.runs.stub_producer import CLASSES, IDENTITY, stub_mask


@pytest.fixture
def run(tmp_path, photos):
    path = tmp_path / "run"
    with RunFolder.open(path, IDENTITY, CLASSES, network=False) as folder:
        for i, task in enumerate(folder.plan(find_images([photos]))):
            if i == 9:
                folder.fail(task, ImageError("torn"))
                continue
            folder.write_mask(task.name, index_png(stub_mask(bytes([i] * 20))))
            word = "cat" if i % 2 else "dog"
            folder.done(task, ImageResult(shares={word: 5}, tags=[word], confidence=(9 - i) / 10))
        folder.database.set_review(1, "accepted")
    return path


def test_rows_masks_words_and_counts(run):
    with Run(run) as rows:
        assert (len(rows), rows.kind, rows.words) == (10, "mask", ("background", "cat", "dog"))
        assert [row.error for row in rows.failed] == ["torn"]
        first = next(iter(rows))
        assert rows.mask(first).shape == (40, 50)
        (run / "corrected/a").mkdir(parents=True)
        (run / f"corrected/{first.name}.png").write_bytes(index_png(np.full((40, 50), 2, np.uint8)))
        assert (rows.mask(first) == 2).all()
        (run / f"masks/{rows['photos/b/00.png'].name}.png").unlink()
        with pytest.raises(ImageError):
            rows.mask(rows["photos/b/00.png"])
        with pytest.raises(KeyError):
            rows["photos/none.png"]
        assert repr(rows).endswith("kind='mask', images=10)")


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"status": "done"}, 9),
        ({"word": "cat"}, 4),
        ({"word": "ca"}, 0),
        ({"word": "' OR 1 --"}, 0),
        ({"review": "unseen"}, 9),
        ({"review": "accepted"}, 1),
        ({"min_confidence": 0.5}, 5),
        ({"max_confidence": 0.5}, 5),
        ({"word": "cat", "min_confidence": 0.5, "status": "done", "review": "unseen"}, 2),
    ],
)
def test_rows_are_filtered(run, asked, count):
    with Run(run) as rows:
        assert len(list(rows.select(**asked))) == count


def test_the_least_confident_come_first(run):
    with Run(run) as rows:
        sure = [row.confidence for row in rows.select(order="confidence")]
    assert sure == [*sorted(sure[:-1]), None]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no run\.json"):
        Run(tmp_path)


def test_classes_of_before_there_were_runs_are_read(tmp_path):
    path = tmp_path / "classes.json"
    classes = [{"index": 1, "name": "dog", "texts": ["dog"]}, {"index": 0, "name": "cat", "texts": ["cat"]}]
    path.write_text(json.dumps({"tagmask": "0.1", "nothing": 65535, "classes": classes}))
    assert (read_classes(path).names, read_classes(path).ignore_index) == (("cat", "dog"), 65535)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"ignore_index": 255}', '{"ignore_index": 255, "classes": [{"index": 1, "name": "a"}]}'],
)
def test_damaged_classes_are_refused(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"classes\.json"):
        read_classes(path)


def test_rows_of_images_follow_a_folder_that_moved(run, photos):
    found = find_images([photos])
    with Run(run) as rows:
        assert [row.key for row in rows.rows_of(found)] == [f"photos/{image.name}" for image in found]
    (photos.parent / "elsewhere").mkdir()
    moved = photos.rename(photos.parent / "elsewhere" / "photos")
    (moved / "a/new.png").write_bytes(b"new")
    with Run(run) as rows:
        found = rows.rows_of(find_images([moved]))
        assert [row and row.key for row in found if row is None or row.key.startswith("photos/a")] == [
            *(f"photos/a/0{i}.png" for i in (1, 3, 5, 7, 9)),
            None,
        ]


def test_reviews_are_written_through_one_connection(run, monkeypatch):
    opened = []
    for name in ("read", "open_reviews"):
        original = getattr(RunDatabase, name)

        def spy(path, original=original):
            opened.append(original(path))
            return opened[-1]

        monkeypatch.setattr(RunDatabase, name, spy)
    with Run(run) as rows:
        first = next(iter(rows))
        reviews = rows.reviews()
        reviews.set_review(first.id, "rejected")
        assert rows.reviews() is rows.database is reviews
        assert next(iter(rows)).review == "rejected"
    # To open the file twice lets go of the locks on it: the first connection was closed.
    assert len(opened) == 2
    with pytest.raises(InputError, match="closed database"):
        opened[0].counts()
