"""`tagmask improve`: a head from checked masks, a new run with it, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask import Run
from tagmask.images import read_image
from tagmask.masks import index_png, read_index_png
from tagmask.pipelines.head import read_head
from tagmask.runs.database import RunDatabase
from tagmask.runs.folder import write_correction
from tagmask.runs.recipe import run_recipe
from tests.cli.conftest import Command

WORDS = ("-w", "cat", "-w", "dog, puppy", "-b", "wall")


@pytest.fixture
def run(few_photos: Path, tmp_path: Path, command: Command) -> Path:
    """A run of three photos, whose left halves are made dark."""
    for photo in sorted(few_photos.rglob("*.png")):
        pixels = read_image(photo).copy()
        pixels[:, :16] //= 8
        PILImage.fromarray(pixels).save(photo)
    command("mask", few_photos, *WORDS, "-o", tmp_path / "run", "--threshold", "0.1", "--refine", "none")
    return tmp_path / "run"


def wanted(shape: tuple[int, ...]) -> np.ndarray:
    """Dark is a dog, the rest background."""
    labels = np.zeros(shape, np.uint8)
    labels[:, :16] = 2
    return labels


def correct(run: Path, *names: str) -> None:
    database = RunDatabase.open_reviews(run / "run.db")
    with Run(run) as opened:
        for row in opened:
            if row.name in names:
                labels = wanted(read_index_png(run / "masks" / f"{row.name}.png").shape)
                write_correction(run / "corrected" / f"{row.name}.png", index_png(labels))
                database.set_review(row.id, "corrected")
    database.close()


def test_corrections_make_the_rest_better(run: Path, tmp_path: Path, command: Command) -> None:
    correct(run, "a", "b")
    out = tmp_path / "better"
    result = command("improve", run, "-o", out)
    assert "Learned from 2 images: checked masks; penalty" in result.stderr
    assert "On images left out, one at a time, mIoU with their checked masks goes from " in result.stderr
    assert "2 checked masks stay" in result.stderr
    before, after = (read_index_png(folder / "masks" / "sub" / "a.png") for folder in (run, out))
    truth = wanted(before.shape)
    assert (after == truth).mean() > max(0.8, (before == truth).mean() + 0.1)
    head = read_head(out / "head.safetensors")
    assert head.words == ("cat", "dog, puppy")
    with Run(out) as read:
        assert read.identity.fields["head"] == head.fingerprint
        reviews = {row.name: row.review for row in read}
        assert reviews.pop("sub/a") == "unseen"
        assert set(reviews.values()) <= {"corrected", "accepted"}
        assert np.array_equal(read.mask(read["photos/a.png"]), wanted(before.shape))
        # The head is no setting of the recipe, and the new run can be improved again.
        assert run_recipe(read) == run_recipe(Run(run))
    assert (out / "overlays" / "sub" / "a.jpg").exists()


def test_the_same_command_goes_on_with_the_same_head(run: Path, tmp_path: Path, command: Command) -> None:
    correct(run, "a")
    out = tmp_path / "better"
    first = command("improve", run, "-o", out, "--no-overlay")
    assert "With one image the gain cannot be estimated" in first.stderr
    head = (out / "head.safetensors").read_bytes()
    (out / "masks" / "b.png").unlink()
    again = command("improve", run, "-o", out, "--no-overlay")
    assert "was fitted to the same masks, and is used again" in again.stderr
    assert "2 of 3 were done; 1 lost their mask" in again.stderr
    assert (out / "head.safetensors").read_bytes() == head
    correct(run, "b")
    other = command("improve", run, "-o", out, code=2)
    assert "was fitted to other masks. Choose another folder" in other.stderr
    assert (out / "head.safetensors").read_bytes() == head


def test_masks_of_a_folder(run: Path, tmp_path: Path, command: Command) -> None:
    """By image path; the same head as from corrections, and the masks become corrections of the new run."""
    masks = tmp_path / "checked"
    (masks / "sub").mkdir(parents=True)
    for name in ("a", "sub/a"):
        shape = read_index_png(run / "masks" / f"{name}.png").shape
        (masks / f"{name}.png").write_bytes(index_png(wanted(shape)))
    command("improve", run, "-o", tmp_path / "x", "--from", masks)
    correct(run, "a", "sub/a")
    command("improve", run, "-o", tmp_path / "y")
    heads = [read_head(tmp_path / name / "head.safetensors").fingerprint for name in "xy"]
    assert heads[0] == heads[1]
    (masks / "classes.txt").write_text("background\ndog\ncat\n")
    refused = command("improve", run, "-o", tmp_path / "z", "--from", masks, code=2)
    assert "are of other words than the run: background, dog, cat" in refused.stderr
    assert not (tmp_path / "z").exists()


def test_new_photos_are_masked_with_the_head(
    run: Path, few_photos: Path, tmp_path: Path, command: Command
) -> None:
    correct(run, "a", "b")
    command("improve", run, "-o", tmp_path / "better")
    head = tmp_path / "better" / "head.safetensors"
    common = ("--threshold", "0.1", "--refine", "none", "--head", head)
    command("mask", few_photos, *WORDS, "-o", tmp_path / "more", *common)
    for name in ("a", "sub/a"):
        masks = [read_index_png(tmp_path / r / "masks" / f"{name}.png") for r in ("better", "more")]
        assert np.array_equal(*masks)
    refused = command("mask", few_photos, "-w", "cat", "-b", "wall", "-o", tmp_path / "n", *common, code=2)
    assert "The head was fitted with other words: cat, dog, puppy, not cat" in refused.stderr
    refused = command("mask", few_photos, "--student", "s.pt", "-o", tmp_path / "n", "--head", head, code=2)
    assert "--head and --student exclude each other" in refused.stderr


def test_learning_from_itself(run: Path, tmp_path: Path, command: Command) -> None:
    """Something that helps on images left out; the same command goes on."""
    result = command("improve", run, "-o", tmp_path / "self", "--self", "--rounds", "1")
    assert "Learned from 3 images: the run's own confident pixels, refined by PAMR" in result.stderr
    assert (tmp_path / "self" / "head.safetensors").exists()
    command("improve", run, "-o", tmp_path / "self", "--self", "--rounds", "1")


def test_what_is_refused(run: Path, few_photos: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "better"
    assert "has no corrected masks to learn from" in command("improve", run, "-o", out, code=2).stderr
    both = command("improve", run, "-o", out, "--self", "--from", tmp_path, code=2)
    assert "--self and --from exclude each other" in both.stderr
    correct(run, "a")
    before = sorted(path.name for path in run.iterdir())
    assert "holds another run" in command("improve", run, "-o", run, code=2).stderr
    assert sorted(path.name for path in run.iterdir()) == before
    command("tag", few_photos, "-w", "cat", "-o", tmp_path / "tags")
    tags = command("improve", tmp_path / "tags", "-o", out, code=2)
    assert "is not a run of a CLIP and words" in tags.stderr
    command("mask", few_photos, *WORDS, "--method", "cls-seg", "-o", tmp_path / "cls")
    assert "cls-seg, which masks tags" in command("improve", tmp_path / "cls", "-o", out, code=2).stderr
    assert not out.exists()
    shutil.rmtree(tmp_path / "cls")


def test_a_run_of_tags_inside_the_recipe_is_repeated(
    few_photos: Path, tmp_path: Path, command: Command
) -> None:
    """The recipe of --only-tags holds a tagger's recipe; it comes back as it was."""
    command("mask", few_photos, *WORDS, "--only-tags", "--refine", "crf", "-o", tmp_path / "run")
    correct(tmp_path / "run", "a")
    command("improve", tmp_path / "run", "-o", tmp_path / "better")
    with Run(tmp_path / "run") as run:
        recipe = run_recipe(run)
    assert (recipe.among, recipe.crf) == ("tags", "cls-seg")
    assert recipe.tagger is not None
    assert recipe.tagger.words == ("cat", "dog, puppy")
