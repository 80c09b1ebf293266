"""Items of a report page, and the page parsed."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from tagmask.report import ReportItem
from tagmask.results import Segmentation, Tags

VOID = {"meta", "img", "input", "br", "link"}

HOSTILE = (
    "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='x' &amp; \x00\udcff"
)


class Page(HTMLParser):
    """Parse a page; fail if elements are not nested properly."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"duplicate attribute in {tag}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and (not kind or kind in a.get("class", "").split())]

    @property
    def words(self) -> str:
        return " ".join(self.text)


def random_image(h: int = 24, w: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def segmentation(labels: np.ndarray, words: tuple[str, ...], *, background: bool = True) -> Segmentation:
    return Segmentation(words=words, labels=labels, scores=None, background=background, precision="float32")


def halves(h: int = 24, w: int = 32) -> np.ndarray:
    """Background on the left; on the right cat above dog, a quarter each."""
    labels = np.zeros((h, w), np.uint8)
    labels[: h // 2, w // 2 :] = 1
    labels[h // 2 :, w // 2 :] = 2
    return labels


def tags(words: tuple[str, ...] = ("cat", "dog", "cup"), **changes: object) -> Tags:
    values = {"scores": np.array([0.3, 0.9, 0.1], np.float32), "chosen": (1,), "threshold": 0.5}
    return Tags(words=words, precision="float32", **(values | changes))


WORDS = ("background", "cat", "dog")


def report_item(**changes: object) -> ReportItem:
    default = ReportItem("a.jpg", random_image(), tags(), (("sclip", segmentation(halves(), WORDS)),))
    return replace(default, **changes)


def decoded(html: str) -> list[np.ndarray]:
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int) for data in images]
