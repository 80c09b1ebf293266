"""Runs killed at random moments, then gone on with, against a run that nobody interrupted."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tagmask.runs.reader import Run
from tests.runs.many_images import many_images
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
def test_two_kills(tmp_path, tree):
    kill_and_go_on(tmp_path, tree, images=40, kills=2, seed=0)


@pytest.mark.kills
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(tmp_path, tree, seed):
    kill_and_go_on(tmp_path, tree, images=200, kills=15, seed=seed)


@pytest.mark.kills
def test_a_hundred_thousand_images_take_five_processor_seconds_to_begin_and_flat_memory(tmp_path):
    """Not by the clock, which also counts what else the machine does."""
    measured = many_images(tmp_path / "run", 100_000)
    assert measured["begin_seconds"] < 5
    assert measured["again_seconds"] < 5
    assert measured["list_seconds"] < 5
    assert measured["grown_bytes"] < 200_000
    assert measured["grown_descriptors"] <= 0
    assert (measured["again_done"], measured["listed"]) == (2000, 100_000)
