"""Which image of the run is meant."""

from pathlib import PurePath

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.runs.reader import Run
from tests.importers.conftest import Imported
from tests.importers.made import coco


def of_image(name: str) -> dict:
    size = (
        {"height": 6, "width": 5}
        if "b" in PurePath(name.replace("\\", "/")).stem
        else {"height": 3, "width": 4}
    )
    counts = [0, size["height"] * size["width"]]
    region = {"size": list(size.values()), "counts": counts}
    return coco({"segmentation": region}, image={"file_name": name, **size})


@pytest.mark.parametrize(
    ("called", "meant"),
    [
        ("sub/b.jpg", "sub/b.jpg"),
        ("b.jpg", "sub/b.jpg"),
        ("b", "sub/b.jpg"),
        ("elsewhere/b.png", "sub/b.jpg"),
        ("photos/sub/b.jpg", "sub/b.jpg"),
        ("sub_b.jpg", "sub/b.jpg"),
        ("sub\\b.jpg", "sub/b.jpg"),
        ("sub/a.png", "sub/a.png"),
        ("sub/a", "sub/a.png"),
        ("data/sub/a.png", "sub/a.png"),
        ("a.png", "a.png"),
    ],
)
def test_names_that_find_an_image(imported: Imported, called: str, meant: str) -> None:
    assert list(imported("coco", of_image(called))) == [meant]


def test_a_name_that_may_mean_several_images_is_refused(run: Run, imported: Imported) -> None:
    with pytest.raises(InputError, match=r"other/a\.png: it may be any of a\.png, sub/a\.png\. Name it"):
        imported("coco", of_image("other/a.png"))
    assert not (run.path / "corrected").exists()


@pytest.mark.parametrize("called", ["../../sub/c.jpg", "/etc/passwd", "", ".", "\0", "\ud800", "x" * 5000])
def test_other_names_are_in_no_run(imported: Imported, called: str) -> None:
    with pytest.raises(InputError, match=r"None of the 1 images in .*Names there are such as a\.png"):
        imported("coco", of_image(called))


def test_an_image_that_is_there_twice_is_refused(imported: Imported) -> None:
    twice = of_image("sub/b.jpg")
    twice["images"].append({"id": 2, "file_name": "b.jpg", "height": 6, "width": 5})
    with pytest.raises(InputError, match=r"b\.jpg: sub/b\.jpg is the same image of the run"):
        imported("coco", twice)


def test_one_image_refused_leaves_all_out_or_itself_alone(run: Run, imported: Imported) -> None:
    content = of_image("sub/b.jpg")
    content["images"].append({"id": 2, "file_name": "a.png", "height": 9, "width": 4})
    with pytest.raises(InputError, match=r"1 image is refused, so nothing was imported\. a\.png: .*its size"):
        imported("coco", content)
    assert not (run.path / "corrected").exists()
    assert list(imported("coco", content, skip_refused=True)) == ["sub/b.jpg"]
    assert [row.review for row in run] == ["unseen", "unseen", "corrected"]


def test_images_that_failed_have_nothing_to_correct(run: Run, imported: Imported) -> None:
    import sqlite3

    with sqlite3.connect(run.path / "run.db") as database:
        database.execute("UPDATE images SET status = 'failed', error = 'no' WHERE key LIKE '%b.jpg'")
    database.close()
    with pytest.raises(InputError, match="it has no mask in the run yet"):
        imported("coco", of_image("sub/b.jpg"))


def test_a_corrections_folder_that_leads_elsewhere_is_refused(
    run: Run, imported: Imported, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (run.path / "corrected").symlink_to(elsewhere)
    with pytest.raises(InputError, match="leads out of its run"):
        imported("coco", of_image("sub/b.jpg"))
    assert not list(elsewhere.iterdir())


def test_files_that_change_between_check_and_write_are_noticed(
    run: Run, imported: Imported, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tagmask.importers import coco as module

    original, calls = module.CocoAnnotations.images, []

    def images(self: object, classes: object) -> object:
        calls.append(1)
        for image in original(self, classes):  # type: ignore[arg-type]
            labels = image.labels
            if len(calls) > 1:
                object.__setattr__(image, "labels", lambda size, labels=labels: labels(size) * 2)
            yield image

    monkeypatch.setattr(module.CocoAnnotations, "images", images)
    with pytest.raises(InputError, match="was changed during the import"):
        imported("coco", of_image("sub/b.jpg"))
    assert not (run.path / "corrected").exists()


def test_an_accepted_image_and_one_corrected_before(run: Run, imported: Imported) -> None:
    """Equal to the machine's mask is accepted; equal to a correction stays one."""
    assert not imported("coco", coco(image={"file_name": "sub/a.png", "height": 3, "width": 4}))
    assert [row.review for row in run] == ["unseen", "accepted", "unseen"]
    found = imported("coco", of_image("sub/a.png"))["sub/a.png"]
    np.testing.assert_array_equal(found, np.ones((3, 4), np.uint8))
    assert [row.review for row in run] == ["unseen", "corrected", "unseen"]
