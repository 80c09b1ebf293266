"""Runs killed at random moments, then gone on with, against a run that nobody interrupted."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import FoundImage
from tests.runs.stub_producer import produce

TIMES = {"updated", "seconds"}


def rows(run):
    with Run(run) as done:
        return [{k: v for k, v in vars(row).items() if k not in TIMES} for row in done]


def start(photos, run, begun, pause=0.002):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.runs.stub_producer", str(photos), str(run), str(begun), str(pause)],
        cwd=Path(__file__).parents[2],
    )


def kill_and_go_on(tmp_path, tree, images, kills, seed):
    photos, run, begun = tmp_path / "photos", tmp_path / "run", tmp_path / "begun"
    photos.mkdir()
    for i in range(images):
        (photos / f"{i:04d}.png").write_bytes(i.to_bytes(4, "big") * 5)
    chance = random.Random(seed)
    killed = 0
    while killed < kills:
        process = start(photos, run, begun)
        seen = len(begun.read_text().splitlines()) if begun.exists() else 0
        # At work first: a process killed while it imports is no test. Then at any moment.
        while (len(begun.read_text().splitlines()) if begun.exists() else 0) <= seen:
            assert process.poll() is None, "ended before it was killed: give more images"
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed += 1
    assert start(photos, run, begun).wait() == 0
    produce(photos, tmp_path / "uninterrupted")
    assert rows(run) == rows(tmp_path / "uninterrupted")
    files, expected = tree(run), tree(tmp_path / "uninterrupted")
    for different in ("run.db",):  # holds times
        del files[different], expected[different]
    assert files == expected  # nothing lost, doubled or left over
    again = Counter(begun.read_text().splitlines())
    assert len(again) == images
    assert sum(again.values()) <= images + killed  # one image at a time was in work
    assert begun.exists()


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_three_kills(tmp_path, tree):
    kill_and_go_on(tmp_path, tree, images=60, kills=3, seed=0)


@pytest.mark.kills
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(tmp_path, tree, seed):
    kill_and_go_on(tmp_path, tree, images=200, kills=15, seed=seed)


@pytest.mark.kills
def test_a_hundred_thousand_images_begin_within_five_seconds_and_keep_descriptors_flat(tmp_path):
    found = [
        FoundImage(Path(f"/p/{i // 1000}/{i}.jpg"), PurePosixPath(f"{i // 1000}/{i}.jpg"))
        for i in range(100_000)
    ]
    for _ in range(2):
        started = time.monotonic()
        with RunFolder.open(tmp_path / "run", RunIdentity("tag", {}), None) as folder:
            plan = folder.plan(found)
            assert time.monotonic() - started < 5
            before = len(list(Path("/proc/self/fd").iterdir()))
            for number, task in enumerate(plan):
                if number == 2000:
                    break
                folder.done(task, ImageResult(record={"scores": list(range(50))}))
            assert len(list(Path("/proc/self/fd").iterdir())) <= before
    started = time.monotonic()
    with Run(tmp_path / "run") as done:
        assert sum(1 for _ in done) == 100_000
    assert time.monotonic() - started < 5
