"""`tagmask mask` into run folders: going on, refusals, failures, signals, summaries, COCO files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask import Run, Segmentation, Segmenter
from tagmask.masks import index_png, read_index_png
from tests.cli.conftest import Command, noise_image, palette_png_without_palette, wait_until_done

WORDS = ("-w", "cat", "-w", "dog", "-b", "wall")


def results(run: Path) -> dict[str, object]:
    """What a run holds of each image, but times."""
    with Run(run) as read:
        assert read.counts.get("todo", 0) == 0
        return {row.key: (row.shares, row.confidence, row.absent, row.tags) for row in read}


def mtimes(run: Path) -> dict[str, int]:
    masks = run / "masks"
    return {path.relative_to(masks).as_posix(): path.stat().st_mtime_ns for path in masks.rglob("*.png")}


# -- promise 1: the same command goes on -------------------------------------------------------------------


def test_the_same_command_goes_on(few_photos: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    (few_photos / "broken.jpg").write_text("no image")
    first = command("mask", few_photos, *WORDS, "-o", out, code=1)
    assert "3 of 4 images done" in first.stderr
    before = mtimes(out)
    noise_image(9).save(few_photos / "new.png")
    noise_image(8).save(few_photos / "broken.jpg")
    noise_image(7, (20, 20)).save(few_photos / "b.png")
    (few_photos / "a.png").unlink()
    (out / "masks" / "sub" / "a.png").unlink()
    second = command("mask", few_photos, *WORDS, "-o", out)
    assert (
        "0 of 4 were done; 1 failed before and are tried again; 1 changed since and are done again; "
        "1 lost their mask and are done again; 1 no longer there."
    ) in second.stderr
    after = mtimes(out)
    assert set(after) == {"a.png", "b.png", "broken.png", "new.png", "sub/a.png"}
    assert [name for name in before if after[name] == before[name]] == ["a.png"]
    third = command("mask", few_photos, *WORDS, "-o", out)
    assert "4 of 4 were done; 1 no longer there." in third.stderr
    assert mtimes(out) == after
    assert third.stdout == ""


def test_again_redoes_all_and_leaves_corrections(few_photos: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    command("mask", few_photos, *WORDS, "-o", out, "--no-overlay")
    corrected = out / "corrected" / "a.png"
    corrected.parent.mkdir()
    corrected.write_bytes(index_png(np.ones((24, 32), np.uint8)))
    content, before = corrected.read_bytes(), mtimes(out)
    again = command("mask", few_photos, *WORDS, "-o", out, "--no-overlay", "--again")
    assert "3 of 3 images done" in again.stderr
    assert all(time_ > before[name] for name, time_ in mtimes(out).items())
    assert corrected.read_bytes() == content


# -- promise 2: nothing of others is overwritten -----------------------------------------------------------


def test_other_words_are_refused_with_each_difference(
    few_photos: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "run"
    command("mask", few_photos, *WORDS, "-o", out)
    before = mtimes(out)
    refused = command("mask", few_photos, "-w", "cow", "-b", "wall", "-o", out, "--threshold", 0.3, code=2)
    assert "holds a run with other settings" in refused.stderr
    assert "cow" in refused.stderr
    assert "prob_thd" in refused.stderr
    assert mtimes(out) == before


@pytest.mark.parametrize("name", ["masks/a.png", "overlays/x.jpg", "classes.json", "annotations.json"])
def test_foreign_outputs_are_refused(name: str, few_photos: Path, tmp_path: Path, command: Command) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    refused = command("mask", few_photos, *WORDS, "-o", tmp_path / "out", code=2)
    assert "is never overwritten" in refused.stderr
    assert mine.read_text() == "mine"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]


# -- promise 4: signals ------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_signals_stop_within_two_seconds_and_the_run_goes_on(
    few_photos: Path, tmp_path: Path, sclip_weights: Path, command: Command
) -> None:
    shutil.rmtree(few_photos)
    few_photos.mkdir()
    noise_image(0).save(few_photos / "0.png")
    for number in range(1, 1000):
        os.link(few_photos / "0.png", few_photos / f"{number}.png")
    main = [sys.executable, "-c", "from tagmask.cli.main import main; main()"]
    options = [*WORDS, "--weights", sclip_weights, "--precision", "float32", "--device", "cpu"]
    commands = {signal.SIGINT: ["mask", "--no-overlay"], signal.SIGTERM: ["tag"]}
    started = {
        number: subprocess.Popen(
            [*main, *arguments, few_photos, *options, "-o", tmp_path / str(number)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for number, arguments in commands.items()
    }
    try:
        for number, process in started.items():
            out = tmp_path / str(number)
            wait_until_done(out, 3, lambda process=process: process.poll() is None)
            process.send_signal(number)
            began = time.monotonic()
            _, stderr = process.communicate(timeout=60)
            assert time.monotonic() - began < 2
            assert process.returncode == 128 + number
            assert f"What is done is kept in {out}; run the same command to go on." in stderr
            assert not list(out.rglob("*.part"))
            with Run(out) as run:
                assert 3 <= run.counts["done"] < 1000
                if run.kind == "mask":
                    assert all(run.mask_path(row).exists() for row in run.select(status="done"))
    finally:
        for process in started.values():
            process.kill()
            process.communicate()


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    few_photos: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("mask", few_photos, *WORDS, "-o", tmp_path / "whole", "--format", "png,coco")
    first, sent = read_index_png(tmp_path / "whole" / "masks" / "a.png"), []

    def interrupted(labels: np.ndarray) -> bytes:
        if not np.array_equal(labels, first):  # images are recorded in order, but encoded in any
            wait_until_done(tmp_path / "run", 1)
            if not sent:
                sent.append(True)
                os.kill(os.getpid(), signal.SIGINT)
        return index_png(labels)

    with monkeypatch.context() as patch:
        patch.setattr("tagmask.cli.mask.index_png", interrupted)
        arguments = ("mask", few_photos, *WORDS, "-o", tmp_path / "run", "--format", "png,coco")
        stopped = command(*arguments, "--workers", 1, code=130)
    assert "run the same command to go on" in stopped.stderr
    assert not (tmp_path / "run" / "annotations.json").exists()
    resumed = command(*arguments)
    assert " of 3 were done." in resumed.stderr
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    annotations = (tmp_path / "run" / "annotations.json").read_text()
    assert [image["file_name"] for image in json.loads(annotations)["images"]] == [
        "a.png",
        "b.png",
        "sub/a.png",
    ]
    assert annotations == (tmp_path / "whole" / "annotations.json").read_text()


# -- promise 5: an image's failure is its own --------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_failures_stay_with_their_images(tmp_path: Path, command: Command) -> None:
    photos, out = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    (photos / "palette.png").write_bytes(palette_png_without_palette())
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "around").symlink_to(".", target_is_directory=True)
    noise_image(0).save(photos / "whole.jpg")
    (photos / "broken.jpg").write_bytes((photos / "whole.jpg").read_bytes()[:40])
    result = command("mask", photos, *WORDS, "-o", out, code=1)
    with Run(out) as run:
        assert run.counts == {"todo": 0, "done": 1, "failed": 3}
        errors = {row.name: row.error for row in run.failed}
    assert set(errors) == {"palette", "loop", "broken"}
    assert "symbolic links" in str(errors["loop"])
    assert "no palette" in str(errors["palette"])
    assert str(tmp_path) not in "".join(map(str, errors.values()))  # runs are shared
    assert "failed: " in result.stderr
    assert "1 of 4 images done" in result.stderr
    assert "3 failed" in result.stderr
    assert not (out / "run.log").exists()  # which is for faults of the program


def test_an_image_too_long_for_a_jpeg_gets_a_mask_and_no_overlay(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def background(segmenter: Segmenter, pixels: np.ndarray, **options: object) -> Segmentation:
        labels = np.zeros(pixels.shape[:2], np.uint8)
        return Segmentation(
            words=segmenter.words, labels=labels, scores=None, background=True, precision="float32"
        )

    monkeypatch.setattr(Segmenter, "__call__", background)  # which takes seconds for this image
    photos, out = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    PILImage.new("RGB", (65501, 1)).save(photos / "long.png")
    noise_image(0).save(photos / "short.png")
    command("mask", photos, *WORDS, "-o", out)
    with PILImage.open(out / "masks" / "long.png") as mask:
        assert mask.size == (65501, 1)
    assert [path.name for path in (out / "overlays").iterdir()] == ["short.jpg"]


# -- promise 7: shards, and one producer -------------------------------------------------------------------


def test_shards_merged_are_the_whole_run(few_photos: Path, tmp_path: Path, command: Command) -> None:
    for number in range(4):
        noise_image(20 + number).save(few_photos / f"n{number}.png")
    command("mask", few_photos, *WORDS, "-o", tmp_path / "whole", "--no-overlay")
    shards = [tmp_path / "1", tmp_path / "2"]
    options = ("--no-overlay", "--keep-features")
    for number, shard in enumerate(shards, start=1):
        command("mask", few_photos, *WORDS, *options, "-o", shard, "--shard", f"{number}/2")
    sizes = [len(mtimes(shard)) for shard in shards]
    assert min(sizes) > 0
    assert sum(sizes) == 7
    merged = command("merge", *shards, "-o", tmp_path / "all")
    assert "7 images from 2 runs." in merged.stderr
    assert results(tmp_path / "all") == results(tmp_path / "whole")
    for name in mtimes(tmp_path / "whole"):
        assert (tmp_path / "all/masks" / name).read_bytes() == (tmp_path / "whole/masks" / name).read_bytes()
    kept = {
        path.relative_to(run / "features"): path.read_bytes()
        for run in shards
        for path in (run / "features").rglob("*.safetensors")
    }
    assert len(kept) == 7
    assert all((tmp_path / "all/features" / name).read_bytes() == content for name, content in kept.items())


def test_a_second_producer_is_refused(
    few_photos: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, refused = tmp_path / "run", []

    def second(result: object) -> str:
        child = subprocess.run(
            [sys.executable, "-c", _TAKE_LOCK, out / "run.lock"], capture_output=True, text=True, check=False
        )
        refused.append(child.stdout)
        return ""

    monkeypatch.setattr("tagmask.cli.mask._shares", second)
    command("mask", few_photos / "a.png", *WORDS, "-o", out)
    assert f"process {os.getpid()}" in refused[0]


_TAKE_LOCK = """
import sys
from pathlib import Path
from tagmask.errors import InputError
from tagmask.runs.lock import RunLock
try:
    RunLock.take(Path(sys.argv[1]), network=False)
except InputError as error:
    print(error)
"""


# -- promise 8: what is said at the end --------------------------------------------------------------------


def test_the_summary_names_the_five_least_confident(
    few_photos: Path, tmp_path: Path, command: Command
) -> None:
    for number in range(4):
        noise_image(20 + number).save(few_photos / f"n{number}.png")
    out = tmp_path / "run"
    result = command("mask", few_photos, *WORDS, "-o", out, "--no-overlay")
    lines = result.stderr.splitlines()
    assert lines[-1] == f"Results are in {out}."
    with Run(out) as run:
        least = [f"{row.name} ({row.confidence:.2f})" for row in run.select(order="confidence")][:5]
    assert lines[-2] == f"Least confident: {', '.join(least)}."
    assert lines[-3].startswith("7 of 7 images done in ")


def test_only_background_gives_a_hint(few_photos: Path, tmp_path: Path, command: Command) -> None:
    arguments = ("mask", few_photos, *WORDS, "--no-overlay")
    hint = "Every image came out as background. Lower --threshold"
    assert hint in command(*arguments, "-o", tmp_path / "1", "--threshold", 1.0).stderr
    assert hint not in command(*arguments, "-o", tmp_path / "2", "--threshold", 0.0).stderr


# -- promise 10, and what is an image ----------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="names")
def test_control_characters_in_names_are_escaped(tmp_path: Path, command: Command) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise_image(0).save(photos / "a\x1b[31mb.png")
    (photos / "c\x1b[2Jd.png").write_text("no image")
    result = command("mask", photos, *WORDS, "-o", tmp_path / "run\x1b[5m", code=1)
    assert "\x1b" not in result.output
    assert r"a\x1b[31mb.png" in result.stdout
    assert r"c\x1b[2Jd.png" in result.stderr


def test_outputs_are_no_photos(few_photos: Path, command: Command) -> None:
    command("mask", few_photos, *WORDS, "-o", few_photos)
    tagged = command("tag", few_photos, *WORDS, "--json")
    assert [json.loads(line)["path"] for line in tagged.stdout.splitlines()] == [
        str(few_photos / name) for name in ("a.png", "b.png", "sub/a.png")
    ]
    assert "3 of 3 were done." in command("mask", few_photos, *WORDS, "-o", few_photos).stderr


# -- COCO --------------------------------------------------------------------------------------------------


def test_coco_of_two_folders_with_equal_names(few_photos: Path, tmp_path: Path, command: Command) -> None:
    shutil.copytree(few_photos, tmp_path / "other")
    command("mask", few_photos, tmp_path / "other", *WORDS, "-o", tmp_path / "run", "--format", "png,coco")
    content = json.loads((tmp_path / "run" / "annotations.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    below = ("a.png", "b.png", "sub/a.png")
    assert sorted(names) == [f"{folder}/{name}" for folder in ("other", "photos") for name in below]


def test_corrected_masks_win_in_coco(few_photos: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    command("mask", few_photos, *WORDS, "-o", out, "--no-overlay")
    labels = np.zeros((24, 32), np.uint8)
    labels[3:7, 4:10] = 2
    (out / "corrected").mkdir()
    (out / "corrected" / "b.png").write_bytes(index_png(labels))
    command("export", out, "--to", "coco")
    content = json.loads((out / "annotations.json").read_text())
    (image,) = [image["id"] for image in content["images"] if image["file_name"] == "b.png"]
    found = [annotation for annotation in content["annotations"] if annotation["image_id"] == image]
    assert [(each["category_id"], each["area"], each["bbox"]) for each in found] == [(2, 24, [4, 3, 6, 4])]


def test_a_file_where_an_export_would_go_is_refused_before_any_image(
    few_photos: Path, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "images.csv").write_text("mine")
    refused = command("mask", few_photos, "-w", "cat", "--format", "png,csv", "-o", out, code=2)
    assert "images.csv is in the way" in refused.stderr
    assert (out / "images.csv").read_text() == "mine"
    assert not (out / "masks").exists()
