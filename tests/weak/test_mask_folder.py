"""Folders of masks: atomic writing, resuming, errors."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask.errors import InputError
from tagmask.files import unwritable
from tagmask.masks import index_png, read_index_png
from tagmask.runs import folder as runs_folder
from tagmask.runs.folder import RunStopped
from tagmask.runs.reader import Run
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.weak.mask_folder import MaskSource, mask_files, read_mask, words_of, write_masks
from tagmask.weak.samples import find_pairs
from tagmask.weak.seeds import (
    SeedOptions,
    from_cams,
    from_masks,
    from_segmenter,
    seed_source,
    sweep_thresholds,
)
from tests.segmenters import make_segmenter

WORDS = ("background", "cat", "dog")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(folder / name)
    return folder


def source(make: Callable[[FoundImage], np.ndarray], **settings: object) -> MaskSource:
    return MaskSource("seeds", WORDS, {"source": "test", **settings}, make)


def ones(image: FoundImage) -> np.ndarray:
    return np.ones((6, 8), np.uint8)


def test_every_image_gets_a_mask(photos: Path, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    outcomes = list(write_masks(find_images([photos]), source(ones), seeds))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert read_mask(seeds / "masks" / "sub" / "c.png", 3).tolist() == [[1] * 8] * 6
    assert words_of(seeds) == WORDS
    with Run(seeds) as run:
        row = run["photos/sub/c.png"]
        assert (run.kind, row.name, row.width, row.height) == ("seeds", "sub/c", 8, 6)
        assert (row.shares, row.absent, row.confidence) == ({"cat": 48}, ("dog",), None)


def test_existing_masks_are_not_computed_again(photos: Path, tmp_path: Path) -> None:
    images = find_images([photos])
    stopped = write_masks(images, source(ones), tmp_path / "seeds")
    next(stopped)
    stopped.close()
    with pytest.raises(InputError, match=r"are incomplete\. Run the command that started them again"):
        words_of(tmp_path / "seeds")
    computed: list[str] = []

    def recording(image: FoundImage) -> np.ndarray:
        computed.append(image.path.name)
        return ones(image)

    list(write_masks(images, source(recording), tmp_path / "seeds"))
    assert computed == ["b.png", "c.png"]
    assert words_of(tmp_path / "seeds") == WORDS


def test_masks_of_other_settings_are_never_mixed(photos: Path, tmp_path: Path) -> None:
    images = find_images([photos])
    list(write_masks(images, source(ones, threshold=0.3), tmp_path / "seeds"))
    with pytest.raises(InputError, match=r"with other settings: threshold was 0\.3, is 0\.4\."):
        list(write_masks(images, source(ones, threshold=0.4), tmp_path / "seeds"))


def test_two_processes_never_work_in_one_folder(photos: Path, tmp_path: Path) -> None:
    images = find_images([photos])
    first = write_masks(images, source(ones), tmp_path / "seeds")
    next(first)
    with pytest.raises(InputError, match="is being written by process"):
        next(write_masks(images, source(ones), tmp_path / "seeds"))
    first.close()


def test_one_failing_image_does_not_stop_the_others(photos: Path, tmp_path: Path) -> None:
    def make(image: FoundImage) -> np.ndarray:
        return np.full((6, 8), 9 if image.path.name == "b.png" else 1, np.uint8)

    outcomes = list(write_masks(find_images([photos]), source(make), tmp_path / "seeds"))
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    assert "has label 9, but there are only 3 classes" in str(outcomes[1].error)
    assert not (tmp_path / "seeds" / "masks" / "b.png").exists()
    assert words_of(tmp_path / "seeds") == WORDS
    assert [pair.name for pair in find_pairs(photos, tmp_path / "seeds")] == ["a", "sub/c"]
    list(write_masks(find_images([photos]), source(ones), tmp_path / "seeds"))
    assert [pair.name for pair in find_pairs(photos, tmp_path / "seeds")] == ["a", "b", "sub/c"]


def test_a_folder_without_any_mask_is_not_finished(photos: Path, tmp_path: Path) -> None:
    def make(image: FoundImage) -> np.ndarray:
        raise InputError("nothing to see")

    outcomes = list(write_masks(find_images([photos]), source(make), tmp_path / "seeds"))
    assert all(outcome.error == "nothing to see" for outcome in outcomes)
    with pytest.raises(InputError, match="are incomplete"):
        words_of(tmp_path / "seeds")


def test_a_full_disk_stops_with_the_reason_and_leaves_no_partial_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runs_folder.write_bytes

    def full(path: Path, data: bytes) -> None:
        if path.suffix != ".png":
            return real(path, data)
        error = OSError(errno.ENOSPC, "No space left on device")
        raise unwritable(path, error) from error

    monkeypatch.setattr(runs_folder, "write_bytes", full)
    with pytest.raises(RunStopped, match="No space left on device"):
        list(write_masks(find_images([photos]), source(ones), tmp_path / "seeds"))
    monkeypatch.undo()
    assert not list((tmp_path / "seeds").rglob("*.png"))
    assert all(o.error is None for o in write_masks(find_images([photos]), source(ones), tmp_path / "seeds"))


def test_a_killed_run_resumes(photos: Path, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time, numpy as np
        from pathlib import Path
        from tagmask.runtime.folders import find_images
        from tagmask.weak.mask_folder import MaskSource, write_masks
        photos, seeds = map(Path, sys.argv[1:])
        def make(image):
            if image.path.name == "b.png":
                print("working", flush=True)
                time.sleep(60)
            return np.ones((6, 8), np.uint8)
        source = MaskSource("seeds", ("background", "cat", "dog"), {"source": "test"}, make)
        list(write_masks(find_images([photos]), source, seeds))
        """
    )
    seeds = tmp_path / "seeds"
    process = subprocess.Popen(
        [sys.executable, "-c", program, photos, seeds], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [file.name for file in seeds.rglob("*.png")] == ["a.png"]
    outcomes = list(write_masks(find_images([photos]), source(ones), seeds))
    assert all(outcome.error is None for outcome in outcomes)
    assert words_of(seeds) == WORDS


def test_invalid_masks_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with pytest.raises(InputError, match=r"There is no mask .*a\.png"):
        read_mask(file, 3)
    whole = index_png(np.array([[0, 2, 255]], np.uint8))
    file.write_bytes(whole)
    assert read_mask(file, 3).tolist() == [[0, 2, 255]]
    with pytest.raises(InputError, match=r"a\.png has label 2, but there are only 2 classes"):
        read_mask(file, 2)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        read_mask(file, 3)
    file.write_bytes(index_png(np.zeros((2, 2), np.uint16)))
    with pytest.raises(InputError, match="16 bits"):
        read_mask(file, 3)


def test_seeds_of_given_tags_match_the_segmenter(
    tagclip_model: tagmask.Tagger, tmp_path: Path, shapes: list[np.ndarray]
) -> None:
    (tmp_path / "photos").mkdir()
    PILImage.fromarray(shapes[2]).save(tmp_path / "photos" / "a.png")
    segmenter = make_segmenter(tagclip_model, "cls-seg")  # type: ignore[arg-type]
    images = find_images([tmp_path / "photos"])
    outcomes = list(write_masks(images, from_segmenter(segmenter, {"a": (2, 0)}), tmp_path / "seeds"))
    assert outcomes[0].error is None
    wanted = segmenter(shapes[2], tags=[2, 0], confidence=True)
    assert np.array_equal(read_index_png(tmp_path / "seeds" / "masks" / "a.png"), wanted.labels)
    with Run(tmp_path / "seeds") as run:
        (row,) = run
        assert (row.confidence, row.class_confidence) == (wanted.confidence, wanted.class_confidence)
        assert (row.shares, row.absent) == (wanted.pixels(), wanted.absent)
        assert row.tags == tuple(segmenter.words[1 + tag] for tag in wanted.tags or ())
    assert words_of(tmp_path / "seeds") == segmenter.words
    missing = list(write_masks(images, from_segmenter(segmenter, {"b": (1,)}), tmp_path / "others"))
    assert "No tags given for the image 'a'" in str(missing[0].error)


def test_tags_that_may_be_of_two_images_are_refused_before_the_weights_are_loaded(
    photos: Path, tmp_path: Path
) -> None:
    def clip() -> tagmask.Clip:
        raise AssertionError("not reached")

    (photos / "c.png").write_bytes(b"")
    (tmp_path / "tags.txt").write_text("sub/c 0\nc 1\nd 0\n")
    images = find_images([photos / "sub", photos])
    options = SeedOptions(("cat", "dog"), settings={"method": "cls-seg"}, tags_file=tmp_path / "tags.txt")
    with pytest.raises(InputError, match="has a line for 'c', which may mean"):
        seed_source(images, options, clip, tmp_path / "seeds")


def test_seeds_without_a_background_are_refused(tagclip_model: tagmask.Tagger) -> None:
    with pytest.raises(InputError, match="no background"):
        from_segmenter(make_segmenter(tagclip_model, "dense", background=[]))  # type: ignore[arg-type]


def test_seeds_from_activation_maps_and_the_threshold_sweep(photos: Path, tmp_path: Path) -> None:
    cams, truth = tmp_path / "cams", tmp_path / "truth"
    cams.mkdir()
    truth.mkdir()
    for name in "abc":
        ramp = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
        np.save(cams / f"{name}.npy", np.array({1: ramp}, object))
    (truth / "a.png").write_bytes(index_png((ramp > 0.255).astype(np.uint8) * 2))
    images = find_images([photos])
    found = sweep_thresholds(images, cams, truth, 2)
    assert 0.23 <= found.best <= 0.26
    list(write_masks(images, from_cams(images, cams, WORDS[1:], found.best), tmp_path / "seeds"))
    assert np.array_equal(
        read_index_png(tmp_path / "seeds" / "masks" / "sub" / "c.png"), (ramp > np.float32(found.best)) * 2
    )
    (truth / "a.png").unlink()
    with pytest.raises(InputError, match="needs at least one such image"):
        sweep_thresholds(images, cams, truth, 2)


def test_npz_maps_go_before_npy_and_files_of_other_kinds_are_refused(photos: Path, tmp_path: Path) -> None:
    cams = tmp_path / "cams"
    cams.mkdir()
    ramp = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    for name in "abc":
        np.savez_compressed(cams / f"{name}.npz", **{"1": ramp})
        np.save(cams / f"{name}.npy", np.array({1: 1 - ramp}, object))
    images = find_images([photos])
    list(write_masks(images, from_cams(images, cams, WORDS[1:], 0.5), tmp_path / "seeds"))
    made = read_index_png(tmp_path / "seeds" / "masks" / "a.png")
    assert np.array_equal(made, (ramp > np.float32(0.5)) * 2)
    (cams / "a.npz").unlink()
    (cams / "b.npz").unlink()
    (cams / "b.npy").unlink()
    np.savez_compressed(cams / "c.npz", **{"1": ramp[:, :-1]})
    *_, third = outcomes = list(
        write_masks(images, from_cams(images, cams, WORDS[1:], 0.4), tmp_path / "again")
    )
    assert outcomes[0].error is None
    assert "There is no file" in str(outcomes[1].error)
    assert "b.npz" in str(outcomes[1].error)
    assert "c.npz: the map of class 1 is (6, 7), but the image is (6, 8)" in str(third.error)


@pytest.mark.parametrize(
    "source",
    [
        lambda words: from_cams([], Path(), words, 0.5),
        lambda words: from_masks([], Path(), ["background", *words]),
    ],
)
def test_more_classes_than_masks_have_values_are_refused(source: Callable) -> None:
    assert len(source([f"word {i}" for i in range(254)]).words) == 255
    with pytest.raises(InputError, match="at most 254 classes, got 255"):
        source([f"word {i}" for i in range(255)])


def test_existing_masks_are_checked_and_copied(photos: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "a.png").write_bytes(index_png(np.full((6, 8), 2, np.uint8)))
    (old / "b.png").write_bytes(index_png(np.full((8, 6), 2, np.uint8)))
    images = find_images([photos])
    outcomes = list(write_masks(images, from_masks(images, old, WORDS), tmp_path / "seeds"))
    assert outcomes[0].error is None
    assert "Give masks at the images' size" in str(outcomes[1].error)
    assert "There is no mask" in str(outcomes[2].error)


def test_folders_of_an_earlier_version_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "stage.json").write_text("{}")
    images = find_images([photos])
    for use in (
        lambda: words_of(tmp_path / "old"),
        lambda: mask_files(tmp_path / "old", images),
        lambda: next(write_masks(images, source(ones), tmp_path / "old")),
    ):
        with pytest.raises(InputError, match=r"has a stage\.json and no run\.json\. Choose another folder"):
            use()
    assert [file.name for file in (tmp_path / "old").iterdir()] == ["stage.json"]


def test_any_exception_is_its_images_failure(photos: Path, tmp_path: Path) -> None:
    def make(image: FoundImage) -> np.ndarray:
        return ones(image) if image.path.name == "a.png" else {}[image.path.name]

    outcomes = list(write_masks(find_images([photos]), source(make), tmp_path / "seeds"))
    assert [o.error for o in outcomes] == [
        None,
        "unexpected KeyError: 'b.png'",
        "unexpected KeyError: 'c.png'",
    ]
    assert "KeyError" in (tmp_path / "seeds" / "run.log").read_text()


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(index_png(np.full((6, 8), value, np.uint8)))


def test_images_of_one_file_name_keep_their_own_masks(tmp_path: Path) -> None:
    photos, old = tmp_path / "photos", tmp_path / "old"
    for value, folder in enumerate(("a", "b")):
        (photos / folder).mkdir(parents=True)
        PILImage.new("RGB", (8, 6)).save(photos / folder / "1.png")
        save(old / folder / "1.png", value + 1)
    images = find_images([photos])
    assert not any(o.error for o in write_masks(images, from_masks(images, old, WORDS), tmp_path / "seeds"))
    for where in (old, tmp_path / "seeds"):
        pairs = find_pairs(photos, where)
        assert [pair.name for pair in pairs] == ["a/1", "b/1"]
        assert [int(read_mask(pair.seed, 3)[0, 0]) for pair in pairs] == [1, 2]


def test_a_mask_with_only_the_file_name_must_be_of_one_image(photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for name in "abc":
        save(flat / f"{name}.png", 1)
    assert [pair.seed.name for pair in find_pairs(photos, flat)] == ["a.png", "b.png", "c.png"]
    (photos / "other").mkdir()
    PILImage.new("RGB", (8, 6)).save(photos / "other" / "c.png")
    message = r"flat/c\.png could be of .*other/c\.png or of .*sub/c\.png\. Name such files by whole "
    with pytest.raises(InputError, match=message):
        find_pairs(photos, flat)
    with pytest.raises(InputError, match=message):
        from_masks(find_images([photos]), flat, WORDS)
    save(flat / "sub" / "c.png", 2)
    save(flat / "other" / "c.png", 2)
    assert [pair.seed.parent.name for pair in find_pairs(photos, flat)] == ["flat", "flat", "other", "sub"]


def test_masks_stay_paired_when_a_namesake_joins_or_the_folder_moves(photos: Path, tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    list(write_masks(find_images([photos]), source(ones), seeds))
    PILImage.new("RGB", (8, 6)).save(photos / "a.bmp")  # `output_names` alone would now say a.png.png
    images = find_images([photos])
    list(write_masks(images, source(ones), seeds))
    masks = [file and file.relative_to(seeds / "masks").as_posix() for file in mask_files(seeds, images)]
    assert masks == ["a.bmp.png", "a.png", "b.png", "sub/c.png"]
    moved = photos.rename(tmp_path / "elsewhere")
    (moved / "a.bmp").unlink()
    assert [pair.seed.exists() for pair in find_pairs(moved, seeds)] == [True] * 3


def test_an_image_that_is_gone_leaves_no_run_unfinished(photos: Path, tmp_path: Path) -> None:
    stopped = write_masks(find_images([photos]), source(ones), tmp_path / "seeds")
    next(stopped)
    stopped.close()
    (photos / "b.png").unlink()
    list(write_masks(find_images([photos]), source(ones), tmp_path / "seeds"))
    assert words_of(tmp_path / "seeds") == WORDS
