"""The GPU benchmark, on a processor: all works run, and what it counts and times is what it says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.gpu import WORKS, count_flops, main, measure, seconds_of
from torch.nn import functional

import tagmask
from benchmarks import gpu
from tagmask.clip.model import Block
from tagmask.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    monkeypatch.setattr(gpu, "SMALL", replace(gpu.SMALL, batches=(1,), windows=(1, 2)))


def run(out: Path, *arguments: str) -> dict:
    main(["--device", "cpu", "--small", "--repeats", "1", "--out", str(out / "gpu.json"), *arguments])
    return json.loads((out / "gpu.json").read_text())


def test_every_work_runs_and_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, "--precision", "float32")
    rows = report["rows"]
    assert {row["work"] for row in rows} == set(WORKS)
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| ") for line in printed) == 1 + len(rows)
    for row in rows:
        assert row["error"] is None
        assert row["images_per_s"] == pytest.approx(row["batch"] / row["seconds"])
        assert row["memory"] is None
        if row["work"] != "pamr":  # sums of neighbours: no product that torch counts
            share = row["flops"] / row["seconds"] / report["peaks"]["float32"]
            assert row["share_of_peak"] == pytest.approx(share)
    one, two = (row["flops"] for row in rows if row["work"] == "tower")
    assert two == 2 * one > 0


def test_compiled_rows_have_the_operations_of_the_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler itself cannot see through the shape checks of the tests."""
    compiled: list[tuple[torch.nn.Module, str]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *, backend: compiled.append((self, backend)))
    report = run(tmp_path, "--only", "tower", "--precision", "bfloat16", "--compile", "--backend", "eager")
    rows = report["rows"]
    assert [(row["compiled"], row["batch"]) for row in rows] == [
        (False, 1),
        (False, 2),
        (True, 1),
        (True, 2),
    ]
    assert [row["error"] for row in rows] == [None] * 4
    assert rows[0]["flops"] == rows[2]["flops"] > 0
    assert len(compiled) == len(tagmask.load("miniature", device="cpu").vision.blocks)
    assert all(isinstance(block, Block) and backend == "eager" for block, backend in compiled)


def test_a_row_that_does_not_fit_or_compile_says_so_and_others_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(clip, sizes, batch, compiler):
        if batch == 2:
            raise torch.OutOfMemoryError
        return lambda: None

    monkeypatch.setattr(gpu, "WORKS", {"tower": broken})
    rows = run(tmp_path, "--precision", "float32", "--compile", "--backend", "eager")["rows"]
    assert [row["error"] for row in rows[:2]] == [None, "out of memory"]
    assert len(rows) == 4

    def fails(clip, sizes, batch, compiler):
        raise RuntimeError("no kernel\nand a long trace")

    monkeypatch.setattr(gpu, "WORKS", {"tower": fails})
    clip = tagmask.load("miniature", device="cpu")
    row = gpu.measure_row("tower", clip, gpu.SMALL, 1, lambda _: None, 1)
    assert row.error == "RuntimeError: no kernel"
    assert "no kernel" in row.cells()
    with pytest.raises(RuntimeError, match="no kernel"):
        gpu.measure_row("tower", clip, gpu.SMALL, 1, None, 1)


def test_without_a_gpu_it_stops_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(name: str) -> torch.device:
        raise InputError(f"Cannot use device {name!r} on this machine.")

    monkeypatch.setattr(gpu, "choose_device", choose)
    with pytest.raises(SystemExit, match=r"^Cannot use device 'cuda'.*--device cpu --small"):
        main([])


def test_the_device_is_idle_before_and_after_a_timed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    clock = iter((10.0, 12.5))
    monkeypatch.setattr(torch.cpu, "synchronize", lambda: events.append("wait"))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: events.append("clock") or next(clock))
    assert seconds_of(lambda: events.append("work"), CPU) == 2.5
    assert events == ["wait", "clock", "work", "wait", "clock"]


def test_the_median_is_of_the_calls_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "WARM_UP", 2)
    times, calls = iter((1.0, 7.0, 2.0)), []
    monkeypatch.setattr(gpu, "seconds_of", lambda work, device: work() or next(times))
    assert measure(lambda: calls.append(1), CPU, 3) == (2.0, None)
    assert len(calls) == 5


def test_products_and_attention_are_counted() -> None:
    a, q = torch.ones(8, 8), torch.ones(1, 2, 5, 4)
    assert count_flops(lambda: a @ a) == 2 * 8**3
    assert count_flops(lambda: functional.scaled_dot_product_attention(q, q, q)) == 4 * 2 * 5 * 5 * 4
