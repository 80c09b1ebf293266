"""The tables of `tagmask improve`: corrections help, the error bars are those of scenes and seeds."""

import re

import numpy as np
import pytest

import tagmask
from tagmask.bench.miniature import improvement
from tagmask.bench.miniature.ground_truth import scenes


def values_of(line: str) -> list[float]:
    return [float(value) for value in re.findall(r"([0-9.]+) ±", line)]


def test_a_few_corrections_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(improvement, "METHODS", {"sclip": ()})
    lines = list(improvement.curve_lines(tagmask.load("miniature"), scenes(8), (0, 8), seeds=2, pool=8))
    assert lines[:2] == ["| mIoU here, by corrected scenes | 0 | 8 |", "|---|---|---|"]
    assert [line.split(" | ")[0] for line in lines[2:4]] == [
        "| sclip, lowest confidence first",
        "| sclip, at random",
    ]
    for line in lines[2:4]:
        before, after = values_of(line)
        assert after > before


def test_learning_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unrefined method comes closer to its refined masks."""
    monkeypatch.setattr(improvement, "METHODS", {"sclip": ()})
    lines = list(improvement.self_lines(tagmask.load("miniature"), scenes(3), (0, 1)))
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| sclip, 0 rounds", "| sclip, 1 round"]
    before, after = (float(value) for value in re.findall(r"([0-9.]+) -> ([0-9.]+)", lines[3])[0])
    assert after > before
    assert values_of(lines[2]) != values_of(lines[3])


def test_the_error_of_the_mean_over_seeds() -> None:
    """Seeds 10 and 14 without a spread over scenes: 12, and 4 / sqrt(2) / sqrt(2)."""
    assert improvement._mean_of_seeds([np.full(5, 10.0), np.full(5, 14.0)]) == "12.0 ± 2.0"
