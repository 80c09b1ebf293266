"""`tagmask rerun`: a run's images again, with other words or settings; and `mask --keep-features`."""

from pathlib import Path

import numpy as np
import pytest

from tagmask import Run
from tagmask.masks import read_index_png
from tagmask.pipelines.head import read_head
from tagmask.runs.corrections import keep_correction
from tagmask.runs.database import RunDatabase
from tests.cli.conftest import Command

WORDS = ("-w", "cat", "-w", "dog, puppy", "-b", "wall")
SETTINGS = ("--threshold", "0.1", "--refine", "none")


@pytest.fixture
def run(few_photos: Path, tmp_path: Path, command: Command) -> Path:
    command("mask", few_photos, *WORDS, *SETTINGS, "-o", tmp_path / "run")
    return tmp_path / "run"


def fields(run: Path) -> dict[str, object]:
    with Run(run) as reader:
        return dict(reader.identity.fields)


def test_a_rerun_is_the_run_of_its_words(
    few_photos: Path, run: Path, tmp_path: Path, command: Command
) -> None:
    words = ("-w", "boat", "-w", "cat", "-b", "wall", "--threshold", "0.3")
    command("rerun", run, *words, "-o", tmp_path / "again")
    command("mask", few_photos, *words, "--refine", "none", "-o", tmp_path / "fresh")
    assert fields(tmp_path / "again") == fields(tmp_path / "fresh")
    names = ["a", "b", "sub/a"]
    for name in names:
        again, fresh = (read_index_png(tmp_path / r / "masks" / f"{name}.png") for r in ("again", "fresh"))
        assert np.array_equal(again, fresh)
    with Run(tmp_path / "again") as reader:
        assert [row.key for row in reader] == [f"photos/{name}.png" for name in names]


def test_what_is_not_given_stays(run: Path, tmp_path: Path, command: Command) -> None:
    command("rerun", run, "-o", tmp_path / "same")
    assert fields(tmp_path / "same") == fields(run)
    command("rerun", run, "--threshold", "0.5", "--no-overlay", "-o", tmp_path / "other")
    before, after = fields(run), fields(tmp_path / "other")
    assert (before.pop("settings")["prob_thd"], after.pop("settings")["prob_thd"]) == (0.1, 0.5)  # type: ignore[index]
    assert before == after
    assert not (tmp_path / "other" / "overlays").exists()


def test_checked_masks_go_along_where_the_words_stay(run: Path, tmp_path: Path, command: Command) -> None:
    database = RunDatabase.open_reviews(run / "run.db")
    with Run(run) as reader:
        row = reader["photos/b.png"]
        wanted = np.full((row.height or 0, row.width or 0), 2, np.uint8)
        keep_correction(reader, database, row, wanted)
    database.close()
    command("rerun", run, "--threshold", "0.4", "-o", tmp_path / "same")
    command("rerun", run, "-w", "cat", "-w", "boat", "-o", tmp_path / "other")
    with Run(tmp_path / "same") as reader:
        assert np.array_equal(reader.mask(reader["photos/b.png"]), wanted)
        assert reader["photos/b.png"].review == "corrected"
    with Run(tmp_path / "other") as reader:
        assert {row.review for row in reader} == {"unseen"}
    # So does what they taught.
    command("improve", run, "-o", tmp_path / "better")
    command("rerun", tmp_path / "better", "--threshold", "0.2", "-o", tmp_path / "again")
    assert (
        fields(tmp_path / "again")["head"] == read_head(tmp_path / "again" / "head.safetensors").fingerprint
    )


def test_what_cannot_be_repeated(run: Path, tmp_path: Path, command: Command) -> None:
    result = command("rerun", run, "-w", "cat", "-o", run, code=2)
    assert "holds a run with other settings: words" in result.output
    result = command("rerun", tmp_path / "photos", "-o", tmp_path / "x", code=2)
    assert "is not a run" in result.output
    assert not (tmp_path / "x").exists()


def test_a_tag_first_run_is_repeated(few_photos: Path, tmp_path: Path, command: Command) -> None:
    command("mask", few_photos, "-w", "cat", "-w", "dog", "--method", "cls-seg", "-o", tmp_path / "tags")
    command("rerun", tmp_path / "tags", "-w", "boat", "-o", tmp_path / "again")
    assert fields(tmp_path / "again")["words"] == ["boat"]
    result = command("rerun", tmp_path / "tags", "--threshold", "0.2", "-o", tmp_path / "x", code=2)
    assert "prob_thd" in result.output


# -- Features ------------------------------------------------------------------------------------------------


def test_masks_are_the_same_with_kept_features(
    few_photos: Path, run: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "kept"
    command("mask", few_photos, *WORDS, *SETTINGS, "--keep-features", "-o", out)
    assert fields(out) == fields(run)
    kept = sorted(path.relative_to(out / "features").as_posix() for path in (out / "features").rglob("*.*"))
    assert kept == ["a.safetensors", "b.safetensors", "sub/a.safetensors"]
    for file in (run / "masks").rglob("*.png"):
        assert file.read_bytes() == (out / "masks" / file.relative_to(run / "masks")).read_bytes()


@pytest.mark.parametrize("options", [("--method", "cls-seg"), ("--purify", "scores")])
def test_methods_without_features_are_refused(
    few_photos: Path, tmp_path: Path, command: Command, options: tuple[str, ...]
) -> None:
    arguments = ("mask", few_photos, "-w", "cat", *options, "--keep-features", "-o", tmp_path / "x")
    assert "Leave out --keep-features." in command(*arguments, code=2).output
    assert not (tmp_path / "x" / "run.json").exists()


def test_a_folder_of_features_of_someone_else(few_photos: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "x" / "features").mkdir(parents=True)
    (tmp_path / "x" / "features" / "a.safetensors").write_bytes(b"mine")
    result = command("mask", few_photos, *WORDS, "--keep-features", "-o", tmp_path / "x", code=2)
    assert "features is in the way" in result.output
