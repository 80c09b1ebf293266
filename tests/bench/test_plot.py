import math
import re
from xml.etree import ElementTree

from tagmask.bench.plot import bars_svg

VALUES = {"dog": 20.0, "cat": 80.0, "a <b> & 'c' that is very long indeed": 0.0, "none": math.nan}
SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_to_scale_best_first() -> None:
    drawing = ElementTree.fromstring(bars_svg("IoU", VALUES, 40.0))
    bars = [float(r.attrib["width"]) for r in drawing.iter(f"{SVG}rect")]
    assert bars == sorted(bars, reverse=True)
    assert len(bars) == 3  # a class that is not in the ground truth has no bar
    assert bars[1] / bars[0] == 0.25
    assert bars[2] == 0
    texts = [t.text or "" for t in drawing.iter(f"{SVG}text")]
    assert texts.index("cat") < texts.index("dog") < texts.index("none")
    assert "not in the ground truth" in texts
    assert "a <b> & 'c' that is very …" in texts


def test_mean_line_is_to_scale() -> None:
    drawing = bars_svg("IoU", VALUES, 40.0)
    lines = re.findall(r"class='m' x1='([\d.]+)'", drawing)
    start, end = (float(re.findall(r"x1='([\d.]+)'", part)[0]) for part in _grid(drawing, 0, 5))
    assert abs(float(lines[0]) - (start + 0.4 * (end - start))) < 0.2
    assert "class='m'" not in bars_svg("IoU", VALUES, math.nan)


def _grid(drawing: str, *ticks: int) -> list[str]:
    lines = re.findall(r"<line class='g'[^>]*>", drawing)
    return [lines[tick] for tick in ticks]


def test_height_grows_with_the_classes() -> None:
    def height(count: int) -> int:
        values = {f"class {i}": 1.0 for i in range(count)}
        return int(ElementTree.fromstring(bars_svg("IoU", values, 1.0)).attrib["height"])

    assert height(171) - height(170) == height(2) - height(1)
