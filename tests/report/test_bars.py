"""Tag bars: every word, best first, with the threshold in its place."""

import re

import numpy as np
import pytest

from tagmask.report.bars import tag_bars
from tagmask.results import Tags


def rows(html: str) -> list[str]:
    """Return the words of the bars in order, with THRESHOLD in its place."""
    items = re.findall(r"<li( class=\"threshold\")?.*?</li>", html.split("</ol>")[0])
    words = re.findall(r'<li class="threshold">|class="word" title="([^"]*)"', html.split("</ol>")[0])
    assert len(items) == len(words)
    return [word or "THRESHOLD" for word in words]


def tags(scores: list[float], threshold: float, chosen: tuple[int, ...] = ()) -> Tags:
    words = tuple(f"w{i}" for i in range(len(scores)))
    return Tags(words, np.array(scores, np.float32), chosen, threshold, "float32")


@pytest.mark.parametrize(
    ("scores", "threshold", "expected"),
    [
        ([0.1, 0.9, 0.5], 0.3, ["w1", "w2", "THRESHOLD", "w0"]),
        ([0.1, 0.9, 0.5], 0.95, ["THRESHOLD", "w1", "w2", "w0"]),
        ([0.1, 0.9, 0.5], 0.0, ["w1", "w2", "w0", "THRESHOLD"]),
        ([0.5, 0.5, 0.25], 0.5, ["THRESHOLD", "w0", "w1", "w2"]),  # tags must exceed the threshold
        ([0.1, float("nan"), 0.5], 0.3, ["w2", "THRESHOLD", "w0", "w1"]),
        ([0.1, 0.2], float("nan"), ["w1", "w0"]),
        ([0.0, 0.0], 0.0, ["THRESHOLD", "w0", "w1"]),
        ([], 0.5, ["THRESHOLD"]),
    ],
)
def test_order_and_threshold(scores: list[float], threshold: float, expected: list[str]) -> None:
    assert rows(tag_bars(tags(scores, threshold), {}, [])) == expected


def test_lengths_are_proportional() -> None:
    html = tag_bars(tags([0.2, 0.8, -0.1], 0.4), {}, [])
    assert re.findall(r"--v:([\d.]+)", html) == ["1.0000", "0.2500", "0.0000"]
    assert re.findall(r"--threshold:([\d.]+)", html) == ["0.5000"]


def test_tags_are_marked_and_linked_to_their_masks() -> None:
    html = tag_bars(tags([0.2, 0.8, 0.7], 0.4, (1, 2)), {"w1": 4}, ["#000000"] * 4 + ["#123456"])
    marked = re.findall(r'<li class="tag"( data-slot="4")? style="[^"]*?(--c:#123456)?"', html)
    assert marked == [(' data-slot="4"', "--c:#123456"), ("", "")]
    assert html.count("(tag)") == 2


def test_other_words_are_folded() -> None:
    scores = [0.5 - 0.001 * i for i in range(100)]
    html = tag_bars(tags(scores, 0.4895, (0, 70)), {}, [])
    bars = rows(html)
    # Eleven above the threshold, three below it, and the tag far below.
    assert bars == [*(f"w{i}" for i in range(11)), "THRESHOLD", "w11", "w12", "w13", "w70"]
    rest = re.findall(r"<li>(w\d+) <span>(0\.\d{3})</span>", html)
    assert rest == [(f"w{i}", f"{scores[i]:.3f}") for i in range(14, 100) if i != 70]
    assert "85 more words below" in html
