"""Folders of masks: atomic writing, resuming, errors."""

import json
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
from tagmask.errors import InputError, OutputError
from tagmask.masks import index_png, read_index_png
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.weak import mask_folder
from tagmask.weak.mask_folder import MaskSource, left_out, mask_file, read_mask, words_of, write_masks
from tagmask.weak.samples import find_pairs
from tagmask.weak.seeds import from_cams, from_masks, from_segmenter, sweep_thresholds
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
    assert [outcome.reason for outcome in outcomes] == [None] * 3
    assert read_mask(mask_file(seeds, "sub/c"), 3).tolist() == [[1] * 8] * 6
    assert words_of(seeds) == WORDS


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
    with pytest.raises(InputError, match=r"started with other settings \(threshold was 0\.3, is 0\.4\)"):
        list(write_masks(images, source(ones, threshold=0.4), tmp_path / "seeds"))


def test_two_processes_never_work_in_one_folder(photos: Path, tmp_path: Path) -> None:
    images = find_images([photos])
    first = write_masks(images, source(ones), tmp_path / "seeds")
    next(first)
    with pytest.raises(InputError, match="Another process is working"):
        next(write_masks(images, source(ones), tmp_path / "seeds"))
    first.close()


def test_one_failing_image_does_not_stop_the_others(photos: Path, tmp_path: Path) -> None:
    def make(image: FoundImage) -> np.ndarray:
        return np.full((6, 8), 9 if image.path.name == "b.png" else 1, np.uint8)

    outcomes = list(write_masks(find_images([photos]), source(make), tmp_path / "seeds"))
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    assert "has label 9, but there are only 3 classes" in str(outcomes[1].reason)
    assert not mask_file(tmp_path / "seeds", "b").exists()
    assert left_out(tmp_path / "seeds") == {"b"}
    assert [pair.name for pair in find_pairs(photos, tmp_path / "seeds")] == ["a", "sub/c"]
    list(write_masks(find_images([photos]), source(ones), tmp_path / "seeds"))
    assert left_out(tmp_path / "seeds") == frozenset()


def test_a_folder_without_any_mask_is_not_finished(photos: Path, tmp_path: Path) -> None:
    def make(image: FoundImage) -> np.ndarray:
        raise InputError("nothing to see")

    outcomes = list(write_masks(find_images([photos]), source(make), tmp_path / "seeds"))
    assert all(outcome.reason == "nothing to see" for outcome in outcomes)
    with pytest.raises(InputError, match="are incomplete"):
        words_of(tmp_path / "seeds")


def test_a_full_disk_stops_with_the_reason_and_leaves_no_partial_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OutputError(f"{path} cannot be written: No space left on device. Clear some.")

    monkeypatch.setattr(mask_folder, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
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
    wanted = segmenter(shapes[2], tags=[2, 0]).labels
    assert np.array_equal(read_index_png(mask_file(tmp_path / "seeds", "a")), wanted)
    assert words_of(tmp_path / "seeds") == segmenter.words
    missing = list(write_masks(images, from_segmenter(segmenter, {"b": (1,)}), tmp_path / "others"))
    assert "No tags given for the image 'a'" in str(missing[0].error)


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
    list(write_masks(images, from_cams(cams, WORDS[1:], found.best), tmp_path / "seeds"))
    assert np.array_equal(
        read_index_png(mask_file(tmp_path / "seeds", "sub/c")), (ramp > np.float32(found.best)) * 2
    )
    (truth / "a.png").unlink()
    with pytest.raises(InputError, match="needs at least one such image"):
        sweep_thresholds(images, cams, truth, 2)


def test_existing_masks_are_checked_and_copied(photos: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "a.png").write_bytes(index_png(np.full((6, 8), 2, np.uint8)))
    (old / "b.png").write_bytes(index_png(np.full((8, 6), 2, np.uint8)))
    outcomes = list(write_masks(find_images([photos]), from_masks(old, WORDS), tmp_path / "seeds"))
    assert outcomes[0].error is None
    assert "Give masks at the images' size" in str(outcomes[1].reason)
    assert "There is no mask" in str(outcomes[2].error)


def test_an_invalid_stage_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text(json.dumps({"kind": "seeds"}))
    with pytest.raises(InputError, match=r"stage\.json cannot be read.*Remove it to start over"):
        words_of(tmp_path)
