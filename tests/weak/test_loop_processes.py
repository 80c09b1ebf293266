"""Two processes train as one."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tagmask.errors import InputError
from tagmask.weak.loop import fit
from tagmask.weak.train_log import read_log
from tests.weak.tiny import TinySamples, TinyTask, config, start, tiny_validation


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    task = TinyTask(dropout=0.0, norm=False)
    fit(task, TinySamples(), config(), tmp_path / "one", validation=tiny_validation())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [
        start(tmp_path / "two", "shared", subprocess.PIPE, RANK=str(r), LOCAL_RANK=str(r), **shared)
        for r in range(2)
    ]
    try:
        outputs, errors = zip(*(process.communicate(timeout=300) for process in both), strict=True)
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[1] == ""  # only the first process reports
    if sys.platform == "linux":
        assert all("thread python" in each and "gloo" not in each for each in errors)
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert len(two) == 40
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)
    first = load_file(tmp_path / "one" / "model.safetensors")
    second = load_file(tmp_path / "two" / "model.safetensors")
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    # Each process validates on its share of the images.
    validations = [read_log(tmp_path / name, "validation.csv") for name in ("one", "two")]
    assert [row["step"] for row in validations[1]] == [15, 30, 40]
    for alone, together in zip(*validations, strict=True):
        assert together == pytest.approx(alone, abs=1.0)


def test_batches_not_divisible_by_the_processes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tagmask.weak.distributed import Ranks

    with pytest.raises(InputError, match=r"which is not divisible by 3 processes\. Give a multiple of 3"):
        Ranks(0, 3).share_of(4)
