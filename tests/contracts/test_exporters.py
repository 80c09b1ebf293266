"""The contract of every export format that holds masks: what is written is what the run says."""

import json
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.exporters import EXPORTERS, ExportOptions
from tagmask.masks import index_png
from tagmask.runs.database import RunDatabase
from tagmask.runs.reader import Run
from tests.exporters.made_runs import WORDS, masks, write_photos, write_run
from tests.exporters.readers import BARE, FLAT, READERS, Read

# The decoder of pycocotools under newer NumPy; not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FORMATS = [name for name in EXPORTERS if name not in ("csv", "report")]


NO_COLON = {"cvat", "voc"}
"""Formats that refuse words with a colon; `test_voc` tests that."""


def words_for(to: str | None) -> tuple[str, ...]:
    return tuple(word.replace(":", "") for word in WORDS) if to in NO_COLON else WORDS


def name_in(to: str, name: str) -> str:
    if to in FLAT:
        return "a_b_specks-2.png" if name == "a_b/specks.png" else name.replace("/", "_")
    return name.rpartition(".")[0] if to in BARE else name


def truth(labels: dict[str, np.ndarray], to: str, words: tuple[str, ...] | None = None) -> Read:
    words = words or words_for(to)
    return {
        name_in(to, name): {
            word: mask == label for label, word in enumerate(words) if label and (mask == label).any()
        }
        for name, mask in labels.items()
    }


def assert_same(read: Read, expected: Read) -> None:
    assert set(read) == set(expected)
    for name, words in expected.items():
        assert set(read[name]) == set(words), name
        for word, mask in words.items():
            np.testing.assert_array_equal(read[name][word], mask, err_msg=f"{name}: {word}")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), masks())


@pytest.fixture
def run_folder(tmp_path: Path, photos: Path, request: pytest.FixtureRequest) -> Path:
    to = request.getfixturevalue("to") if "to" in request.fixturenames else None
    return write_run(tmp_path / "run", photos, masks(), words_for(to))


def exported(run_folder: Path, target: Path, to: str, **options: object) -> Path:
    with Run(run_folder) as run:
        return run.export(to, target, **options)


def set_review(run_folder: Path, name: str, state: str) -> None:
    database = RunDatabase.open_reviews(run_folder / "run.db")
    with Run(run_folder) as run:
        row = next(row for row in run if row.key.endswith(name))
    database.set_review(row.id, state)  # type: ignore[arg-type]
    database.close()


def test_every_format_has_a_reader_here() -> None:
    assert list(READERS) == FORMATS


@pytest.mark.parametrize("to", FORMATS)
class TestExporter:
    def test_masks_come_back(self, run_folder: Path, tmp_path: Path, to: str) -> None:
        target = exported(run_folder, tmp_path / "out", to)
        assert target == tmp_path / "out" / EXPORTERS[to].file_name
        assert_same(READERS[to](target), truth(masks(), to))

    @pytest.mark.parametrize("regions", ["class", "component"])
    def test_masks_come_back_from_both_kinds_of_regions(
        self, run_folder: Path, tmp_path: Path, to: str, regions: str
    ) -> None:
        target = exported(run_folder, tmp_path / "out", to, regions=regions)
        assert_same(READERS[to](target), truth(masks(), to))

    def test_300_classes(self, tmp_path: Path, to: str) -> None:
        words = ("background", *(f"word {number}" for number in range(1, 300)))
        labels = {"many.png": np.arange(300, dtype=np.uint16).repeat(4).reshape(30, 40)}
        labels["many.png"][0, :4] = 65535
        photos = write_photos(tmp_path / "photos", labels)
        run = write_run(tmp_path / "run", photos, labels, words)
        assert_same(READERS[to](exported(run, tmp_path / "out", to)), truth(labels, to, words))

    def test_corrected_masks_go_before_the_run_s_own(self, run_folder: Path, tmp_path: Path, to: str) -> None:
        corrected = np.zeros((40, 60), np.uint8)
        corrected[3:9, 5:50] = 3
        (run_folder / "corrected").mkdir()
        (run_folder / "corrected" / "holes.png").write_bytes(index_png(corrected))
        expected = truth(masks() | {"holes.png": corrected}, to)
        assert_same(READERS[to](exported(run_folder, tmp_path / "all", to)), expected)
        only = READERS[to](exported(run_folder, tmp_path / "only", to, corrected_only=True))
        assert_same(only, {name: read for name, read in expected.items() if "holes" in name})

    def test_accepted_images_alone(self, run_folder: Path, tmp_path: Path, to: str) -> None:
        set_review(run_folder, "empty.jpg", "accepted")
        set_review(run_folder, "holes.png", "rejected")
        read = READERS[to](exported(run_folder, tmp_path / "out", to, accepted_only=True))
        assert_same(read, {name_in(to, "empty.jpg"): {}})

    def test_nothing_to_export_is_an_error_and_writes_nothing(
        self, run_folder: Path, tmp_path: Path, to: str
    ) -> None:
        with pytest.raises(InputError, match=r"No image of .* is left to export: 6 of 6 are done"):
            exported(run_folder, tmp_path / "out", to, min_confidence=0.9)
        assert not list((tmp_path / "out").glob("*"))

    def test_what_is_there_is_never_overwritten(self, run_folder: Path, tmp_path: Path, to: str) -> None:
        target = tmp_path / "out" / EXPORTERS[to].file_name
        if EXPORTERS[to].is_folder:
            target.mkdir(parents=True)
            (target / "mine.txt").write_text("mine")
        else:
            target.parent.mkdir()
            target.write_text("mine")
        with pytest.raises(InputError, match=r"is in the way\. Move it away"):
            exported(run_folder, tmp_path / "out", to)
        if EXPORTERS[to].is_folder:
            assert [path.name for path in target.iterdir()] == ["mine.txt"]
        else:
            assert target.read_text() == "mine"
        assert list((tmp_path / "out").iterdir()) == [target]

    def test_an_unreadable_mask_is_an_error_and_writes_nothing(
        self, run_folder: Path, tmp_path: Path, to: str
    ) -> None:
        (run_folder / "masks" / "holes.png").write_bytes(b"no image")
        with pytest.raises(Exception, match="holes"):
            exported(run_folder, tmp_path / "out", to)
        assert not list((tmp_path / "out").glob("*"))

    def test_runs_without_masks_are_refused(self, tmp_path: Path, to: str, tag_run: Path) -> None:
        with pytest.raises(InputError, match=r"classes\.json"):
            exported(tag_run, tmp_path / "out", to)
        assert not list((tmp_path / "out").glob("*"))


@pytest.fixture
def tag_run(tmp_path: Path, photos: Path) -> Path:
    run = write_run(tmp_path / "tags", photos, masks())
    (run / "classes.json").unlink()
    return run


@pytest.mark.parametrize(
    "to", [name for name in FORMATS if EXPORTERS[name].holds_photos and EXPORTERS[name].is_folder]
)
class TestPhotos:
    def test_copies_are_upright_and_links_lead_to_the_photos(
        self, run_folder: Path, tmp_path: Path, to: str, photos: Path
    ) -> None:
        copied = exported(run_folder, tmp_path / "copied", to, photos="copy")
        linked = exported(run_folder, tmp_path / "linked", to, photos="link")
        files = {path.name for path in copied.rglob("*.jpg")} | {path.name for path in copied.rglob("*.png")}
        assert {"turned.jpg", "holes.png"} <= files
        assert not any(path.is_symlink() for path in copied.rglob("*"))
        links = [path for path in linked.rglob("*") if path.is_symlink()]
        assert {path.resolve() for path in links} == {
            path.resolve() for path in photos.rglob("*.*") if path.is_file() and path.name != "turned.jpg"
        }

    def test_gone_and_changed_photos_are_refused_before_anything_appears(
        self, tmp_path: Path, to: str
    ) -> None:
        photos = write_photos(tmp_path / "own", masks())
        run = write_run(tmp_path / "run", photos, masks(), words_for(to))
        (photos / "holes.png").unlink()
        with pytest.raises(InputError, match=r"holes\.png is gone or has changed since the run"):
            exported(run, tmp_path / "out", to, photos="copy")
        assert not list((tmp_path / "out").glob("*"))
        assert exported(run, tmp_path / "out", to, photos="none").exists()


def test_unknown_formats_and_options_are_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"yolo"):
        exported(run_folder, tmp_path, "yollo")
    with pytest.raises(InputError, match=r"Unknown option of an export 'min_aera'.*min_area"):
        exported(run_folder, tmp_path, "coco", min_aera=3)
    with pytest.raises(InputError, match=r"min_area is 0"):
        exported(run_folder, tmp_path, "coco", min_area=0)


def test_small_regions_are_left_out(run_folder: Path, tmp_path: Path) -> None:
    read = READERS["coco"](exported(run_folder, tmp_path, "coco", min_area=7))
    assert set(read["holes.png"]) == {"cat"}  # the island of 6 pixels is left out
    assert set(read["a/b/specks.png"]) == {"dog"}


def test_a_file_in_the_run_s_own_folder_is_written_again(run_folder: Path) -> None:
    first = exported(run_folder, None, "coco")  # type: ignore[arg-type]
    assert first == run_folder / "annotations.json"
    first.write_text("stale")
    assert json.loads(exported(run_folder, None, "coco").read_text())["images"]  # type: ignore[arg-type]


def test_options_of_a_split() -> None:
    with pytest.raises(InputError, match=r"add up to 0\.9"):
        ExportOptions(splits={"train": 0.7, "val": 0.2})
    with pytest.raises(InputError, match=r"Invalid split '\.\./x'"):
        ExportOptions(splits={"../x": 1.0})
