"""The page holds what it was given, as text and never as markup, and needs nothing from outside."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest

from tagmask.errors import InputError, ShapeError
from tagmask.masks import overlay_colours
from tagmask.report import ReportItem, render
from tagmask.results import Segmentation, Tags

VOID = {"meta", "img", "input", "br", "link"}
HOSTILE = (
    "</title></script><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='x' &amp; \x00\udcff"
)


class Page(HTMLParser):
    """Reads a page; fails where an element is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
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


def picture(h: int = 24, w: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def segmentation(labels: np.ndarray, words: tuple[str, ...], *, background: bool = True) -> Segmentation:
    return Segmentation(words=words, labels=labels, scores=None, background=background, precision="float32")


def halves(h: int = 24, w: int = 32) -> np.ndarray:
    """Background, then a quarter each of cat and dog, at the right."""
    labels = np.zeros((h, w), np.uint8)
    labels[: h // 2, w // 2 :] = 1
    labels[h // 2 :, w // 2 :] = 2
    return labels


def tags(words: tuple[str, ...] = ("cat", "dog", "cup"), **changes: object) -> Tags:
    values = {"scores": np.array([0.3, 0.9, 0.1], np.float32), "chosen": (1,), "threshold": 0.5}
    return Tags(words=words, precision="float32", **(values | changes))


WORDS = ("background", "cat", "dog")


def sight(**changes: object) -> ReportItem:
    plain = ReportItem("a.jpg", picture(), tags(), (("sclip", segmentation(halves(), WORDS)),))
    return replace(plain, **changes)


# --- whole in itself, and well formed ---


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_every_sight_is_shown(count: int) -> None:
    page = Page(render("Title", "Lead", [sight(name=f"{i}.jpg") for i in range(count)], {"time": "3 s"}))
    assert len(page.all("article")) == count
    assert [f"{i}.jpg" in page.text for i in range(count)] == [True] * count
    assert {"Title", "Lead", "time", "3 s"} <= set(page.text)
    assert page.all("html") == [{"lang": "en"}]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    groups = [a["name"] for a in page.all("input") if "checked" in a]
    assert len(set(groups)) == len(groups), "two buttons of a group are checked"
    # One sight needs no switches for all of them.
    assert bool(page.all("div", "all")) == (count > 1)


def test_nothing_is_fetched() -> None:
    html = render("t", "l", [sight(truth=segmentation(halves(), WORDS))], {})
    page = Page(html)
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert not re.search(r"https?://|url\(|@import|@font-face|//# source", html)
    assert not page.all("link")
    assert not page.all("iframe")


def test_the_policy_allows_the_script_and_no_other() -> None:
    html = render("t", "l", [sight()], {})
    (policy,) = [a["content"] for a in Page(html).all("meta") if a.get("http-equiv")]
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")


def test_hostile_text_stays_text() -> None:
    words = ("background", HOSTILE, "dog")
    page = Page(
        html := render(
            HOSTILE,
            HOSTILE,
            [
                sight(
                    name=HOSTILE,
                    note=HOSTILE,
                    tags=tags((HOSTILE, "dog", "cup"), chosen=(0, 1)),
                    segmentations=((HOSTILE, segmentation(halves(), words)),) * 2,
                )
            ]
            * 2,
            {HOSTILE: HOSTILE, "command": HOSTILE},
        )
    )
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 2
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    shown = HOSTILE.replace("\x00\udcff", "\ufffd\ufffd")
    # Title, heading, lead, three facts; the switch for all; for each sight name, note, two switches, two
    # legends and the tag. The word is too long to be written on its region.
    assert page.text.count(shown) == 6 + 1 + 2 * 7
    html.encode("utf-8")


def test_names_on_regions_are_text() -> None:
    words = ("background", "<b>&", "dog")
    page = Page(render("t", "l", [sight(segmentations=(("m", segmentation(halves(), words)),))], {}))
    assert len(page.all("span", "name")) == 2
    assert page.text.count("<b>&") == 2


def test_same_arguments_same_page() -> None:
    pages = [render("t", "l", [sight(), sight(name="b")], {"a": "b"}) for _ in range(2)]
    assert pages[0] == pages[1]


def test_the_picture_is_the_picture() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[:, 45:] = (200, 40, 40)
    page = Page(
        render(
            "t", "l", [ReportItem("x", image, None, ()), ReportItem("y", picture(1000, 2000), None, ())], {}
        )
    )
    small, large = (
        PIL.Image.open(io.BytesIO(base64.b64decode(a["src"].split(",")[1]))) for a in page.all("img")
    )
    assert small.size == (90, 60)
    assert np.abs(np.asarray(small, int) - image).mean() < 3
    assert large.size == (800, 400)
    assert [(a["width"], a["height"], a["loading"]) for a in page.all("img")] == [
        ("90", "60", "lazy"),
        ("2000", "1000", "lazy"),
    ]


def test_pages_stay_small() -> None:
    rng = np.random.default_rng(0)
    words = tuple(f"word {i}" for i in range(30))
    sights = []
    for i in range(8):
        smooth = PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((320, 240))
        patches = np.kron(rng.integers(0, 30, (15, 20), dtype=np.uint8), np.ones((16, 16), np.uint8))
        made = segmentation(patches, words, background=False)
        scores = rng.random(30, dtype=np.float32)
        sights.append(
            ReportItem(
                f"{i}",
                np.asarray(smooth),
                Tags(words, scores, (3,), 0.5, "float32"),
                (("a", made), ("b", made)),
                made,
            )
        )
    assert len(render("t", "l", sights, {}).encode()) < 2_000_000


# --- what lies over the picture ---


def test_colours_are_the_overlays() -> None:
    page = Page(render("t", "l", [sight()], {}))
    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in overlay_colours(3)]
    paths = {a["data-slot"]: a for a in page.all("path")}
    assert set(paths) == {"0", "1", "2"}
    assert paths["0"]["class"] == "bare"
    assert [paths[s]["style"] for s in "12"] == [f"--c:{colours[1]}", f"--c:{colours[2]}"]


def test_a_word_has_one_colour_in_all_layers() -> None:
    other = segmentation(np.where(halves() == 1, 1, 0).astype(np.uint8), ("dog", "cat"), background=False)
    page = Page(render("t", "l", [sight(truth=other)], {}))
    styles: dict[str, set[str]] = {}
    for a in page.all("path"):
        styles.setdefault(a["data-slot"], set()).add(a.get("style", "bare"))
    assert {slot: len(s) for slot, s in styles.items()} == {"0": 1, "1": 1, "2": 1}


def test_shares_and_no_label() -> None:
    labels = halves()
    labels[:, :8] = 255
    page = Page(render("t", "l", [sight(segmentations=(("m", segmentation(labels, WORDS)),))], {}))
    assert re.findall(r"(background|cat|dog|no label) +(\d+\.\d%|\d+%)", page.words) == [
        ("background", "25.0%"),
        ("cat", "25.0%"),
        ("dog", "25.0%"),
        ("no label", "25.0%"),
    ]


def test_labels_of_16_bits() -> None:
    words = tuple(f"w{i}" for i in range(300))
    labels = np.full((24, 32), 65535, np.uint16)
    labels[:12] = 299
    page = Page(
        render("t", "l", [sight(segmentations=(("m", segmentation(labels, words, background=False)),))], {})
    )
    assert [a["data-slot"] for a in page.all("path")] == ["299"]
    assert "w299" in page.text


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_found(value: int) -> None:
    labels = np.full((24, 32), value, np.uint8)
    empty = sight(tags=tags(chosen=()), segmentations=(("m", segmentation(labels, WORDS)),))
    page = Page(render("t", "l", [empty], {}))
    assert "None of the words was found." in page.text
    assert not page.all("span", "name")
    assert ("background" if value == 0 else "no label") in page.words
    assert "100%" in page.text
    assert "tagged with none of the words" in page.all("img")[0]["alt"]


def test_without_tags_masks_or_truth() -> None:
    page = Page(render("t", "l", [sight(tags=None), sight(segmentations=())], {}))
    assert len(page.all("ol", "bars")) == 1
    assert len(page.all("svg")) == 1
    assert "truth" not in page.text


def test_truth_and_agreement() -> None:
    found = halves()
    found[:12, 16:] = 0
    truth = halves()
    truth[:, :8] = 255  # not counted
    both = sight(
        segmentations=(("m", segmentation(found, WORDS)),), truth=segmentation(truth, WORDS), name="both"
    )
    page = Page(render("t", "l", [both], {}))
    assert [a["value"] for a in page.all("input") if a["name"] == "by-0"] == ["m", "truth"]
    assert "Agrees with the truth on 66.7% of the pixels." in page.text


def test_no_agreement_where_words_differ() -> None:
    truth = segmentation(halves(), ("grass", "cat", "dog"), background=False)
    assert "Agrees" not in Page(render("t", "l", [sight(truth=truth)], {})).words


def test_every_layer_can_be_switched_to() -> None:
    made = tuple((f"m{i}", segmentation(halves(), WORDS)) for i in range(4))
    html = render("t", "l", [sight(segmentations=made)], {})
    page = Page(html)
    for i in range(4):
        assert len(page.all("input", f"by-{i}")) == 1
        assert len(page.all("div", f"of-{i}")) == 2
    assert [f".by-{i}:checked) .of-{i}{{display:block}}" in html for i in range(5)] == [0, 1, 1, 1, 0]


def test_long_legends_are_folded_not_cut() -> None:
    words = tuple(f"w{i:03}" for i in range(40))
    labels = np.kron(np.arange(40, dtype=np.uint8).reshape(5, 8), np.ones((6, 6), np.uint8))
    page = Page(
        render(
            "t",
            "l",
            [ReportItem("x", picture(30, 48), None, (("m", segmentation(labels, words, background=False)),))],
            {},
        )
    )
    assert len(page.all("button")) == 40
    assert set(words) <= set(page.text)
    assert "28 more words" in page.text


def test_outlines_of_large_pictures_keep_their_place() -> None:
    labels = np.full((1000, 1501), 255, np.uint8)
    labels[250:500, 300:1200] = 0
    made = segmentation(labels, ("cat",), background=False)
    html = render("t", "l", [ReportItem("x", picture(1000, 1501), None, (("m", made),))], {})
    width, height = (float(n) for n in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', html)[0])
    (path,) = [a["d"] for a in Page(html).all("path")]
    x, y, *steps = (int(n) for n in re.findall(r"-?\d+", path))
    xs, ys = x + np.cumsum([0, *steps[::2]]), y + np.cumsum([0, *steps[1::2]])
    ends = [xs.min() / width, xs.max() / width, ys.min() / height, ys.max() / height]
    assert np.abs(np.array(ends) - (300 / 1501, 1200 / 1501, 0.25, 0.5)).max() < 0.005


# --- what is refused ---


def test_refusals() -> None:
    with pytest.raises(ShapeError, match=r"a\.jpg.*\(24, 32\).*\(5, 5\)"):
        render("t", "l", [sight(segmentations=(("m", segmentation(np.zeros((5, 5), np.uint8), WORDS)),))], {})
    with pytest.raises(InputError, match=r"label 2 .* 2 words"):
        render("t", "l", [sight(segmentations=(("m", segmentation(halves(), WORDS[:2])),))], {})
    with pytest.raises(ShapeError, match="2 words and 3 scores"):
        render("t", "l", [sight(tags=tags(("a", "b")))], {})
    with pytest.raises(ShapeError, match="at least one pixel"):
        render("t", "l", [ReportItem("e", np.zeros((0, 4, 3), np.uint8), None, ())], {})
