"""The report page shows its items, escapes all text and fetches nothing."""

import base64
import hashlib
import io
import re

import numpy as np
import PIL.Image
import pytest

from tagmask.errors import InputError, ShapeError
from tagmask.masks import overlay_colours
from tagmask.report import ReportItem, render
from tagmask.results import Tags
from tests.report.pages import HOSTILE, WORDS, Page, halves, random_image, report_item, segmentation, tags

# --- self-contained and well-formed ---


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_every_item_is_shown(count: int) -> None:
    page = Page(
        render("Title", "Lead", [report_item(name=f"{i}.jpg") for i in range(count)], {"time": "3 s"})
    )
    assert len(page.all("article")) == count
    assert [f"{i}.jpg" in page.text for i in range(count)] == [True] * count
    assert {"Title", "Lead", "time", "3 s"} <= set(page.text)
    assert page.all("html") == [{"lang": "en"}]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    groups = [a["name"] for a in page.all("input") if "checked" in a]
    assert len(set(groups)) == len(groups), "two buttons of a group are checked"
    # A single item needs no switches for all items.
    assert bool(page.all("div", "all")) == (count > 1)


def test_nothing_is_fetched() -> None:
    html = render("t", "l", [report_item(truth=segmentation(halves(), WORDS))], {})
    page = Page(html)
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert not re.search(r"https?://|url\(|@import|@font-face|//# source", html)
    assert not page.all("link")
    assert not page.all("iframe")


def test_policy_allows_only_the_pages_script() -> None:
    html = render("t", "l", [report_item()], {})
    (policy,) = [a["content"] for a in Page(html).all("meta") if a.get("http-equiv")]
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")


def test_hostile_text_is_escaped() -> None:
    words = ("background", HOSTILE, "dog")
    page = Page(
        html := render(
            HOSTILE,
            HOSTILE,
            [
                report_item(
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
    expected = HOSTILE.replace("\x00\udcff", "\ufffd\ufffd")
    # Title, heading, lead, three metadata texts; the switch for all; for each item its name, note, two
    # switches, two legends and the tag. The word is too long for a label on its region.
    assert page.text.count(expected) == 6 + 1 + 2 * 7
    html.encode("utf-8")


def test_labels_on_regions_are_escaped() -> None:
    words = ("background", "<b>&", "dog")
    page = Page(render("t", "l", [report_item(segmentations=(("m", segmentation(halves(), words)),))], {}))
    assert len(page.all("span", "name")) == 2
    assert page.text.count("<b>&") == 2


def test_same_arguments_same_page() -> None:
    pages = [render("t", "l", [report_item(), report_item(name="b")], {"a": "b"}) for _ in range(2)]
    assert pages[0] == pages[1]


def test_embedded_images_match_the_input() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[:, 45:] = (200, 40, 40)
    page = Page(
        render(
            "t",
            "l",
            [ReportItem("x", image, None, ()), ReportItem("y", random_image(1000, 2000), None, ())],
            {},
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
    items = []
    for i in range(8):
        smooth = PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((320, 240))
        patches = np.kron(rng.integers(0, 30, (15, 20), dtype=np.uint8), np.ones((16, 16), np.uint8))
        masks = segmentation(patches, words, background=False)
        scores = rng.random(30, dtype=np.float32)
        items.append(
            ReportItem(
                f"{i}",
                np.asarray(smooth),
                Tags(words, scores, (3,), 0.5, "float32"),
                (("a", masks), ("b", masks)),
                masks,
            )
        )
    assert len(render("t", "l", items, {}).encode()) < 2_000_000


# --- overlays and legends ---


def test_colours_match_the_overlay() -> None:
    page = Page(render("t", "l", [report_item()], {}))
    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in overlay_colours(3)]
    paths = {a["data-slot"]: a for a in page.all("path")}
    assert set(paths) == {"0", "1", "2"}
    assert paths["0"]["class"] == "bare"
    assert [paths[s]["style"] for s in "12"] == [f"--c:{colours[1]}", f"--c:{colours[2]}"]


def test_word_has_the_same_colour_in_all_layers() -> None:
    other = segmentation(np.where(halves() == 1, 1, 0).astype(np.uint8), ("dog", "cat"), background=False)
    page = Page(render("t", "l", [report_item(truth=other)], {}))
    styles: dict[str, set[str]] = {}
    for a in page.all("path"):
        styles.setdefault(a["data-slot"], set()).add(a.get("style", "bare"))
    assert {slot: len(s) for slot, s in styles.items()} == {"0": 1, "1": 1, "2": 1}


def test_shares_and_no_label() -> None:
    labels = halves()
    labels[:, :8] = 255
    page = Page(render("t", "l", [report_item(segmentations=(("m", segmentation(labels, WORDS)),))], {}))
    assert re.findall(r"(background|cat|dog|no label) +(\d+\.\d%|\d+%)", page.words) == [
        ("background", "25.0%"),
        ("cat", "25.0%"),
        ("dog", "25.0%"),
        ("no label", "25.0%"),
    ]


def test_16_bit_labels() -> None:
    words = tuple(f"w{i}" for i in range(300))
    labels = np.full((24, 32), 65535, np.uint16)
    labels[:12] = 299
    page = Page(
        render(
            "t", "l", [report_item(segmentations=(("m", segmentation(labels, words, background=False)),))], {}
        )
    )
    assert [a["data-slot"] for a in page.all("path")] == ["299"]
    assert "w299" in page.text


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_found(value: int) -> None:
    labels = np.full((24, 32), value, np.uint8)
    empty = report_item(tags=tags(chosen=()), segmentations=(("m", segmentation(labels, WORDS)),))
    page = Page(render("t", "l", [empty], {}))
    assert "None of the words was found." in page.text
    assert not page.all("span", "name")
    assert ("background" if value == 0 else "no label") in page.words
    assert "100%" in page.text
    assert "tags: none" in page.all("img")[0]["alt"]


def test_items_without_tags_masks_or_ground_truth() -> None:
    page = Page(render("t", "l", [report_item(tags=None), report_item(segmentations=())], {}))
    assert len(page.all("ol", "bars")) == 1
    assert len(page.all("svg")) == 1
    assert "ground truth" not in page.text


def test_objects_found() -> None:
    predicted = halves()
    predicted[:12, 16:] = 0
    truth = halves()
    truth[:, :8] = 255  # not counted
    both = report_item(
        segmentations=(("m", segmentation(predicted, WORDS)),), truth=segmentation(truth, WORDS), name="both"
    )
    page = Page(render("t", "l", [both], {}))
    assert [a["value"] for a in page.all("input") if a["name"] == "source-0"] == ["m", "ground truth"]
    assert "Objects found: 1 of 2." in page.text


def test_objects_found_are_not_counted_where_words_differ() -> None:
    truth = segmentation(halves(), ("grass", "cat", "dog"), background=False)
    assert "found" not in Page(render("t", "l", [report_item(truth=truth)], {})).words


def test_every_layer_can_be_switched_to() -> None:
    masks = tuple((f"m{i}", segmentation(halves(), WORDS)) for i in range(4))
    html = render("t", "l", [report_item(segmentations=masks)], {})
    page = Page(html)
    for i in range(4):
        assert len(page.all("input", f"source-{i}")) == 1
        assert len(page.all("div", f"layer-{i}")) == 2
    assert [f".source-{i}:checked) .layer-{i}{{display:block}}" in html for i in range(5)] == [0, 1, 1, 1, 0]


def test_long_legends_are_folded() -> None:
    words = tuple(f"w{i:03}" for i in range(40))
    labels = np.kron(np.arange(40, dtype=np.uint8).reshape(5, 8), np.ones((6, 6), np.uint8))
    page = Page(
        render(
            "t",
            "l",
            [
                ReportItem(
                    "x", random_image(30, 48), None, (("m", segmentation(labels, words, background=False)),)
                )
            ],
            {},
        )
    )
    assert len(page.all("button")) == 40
    assert set(words) <= set(page.text)
    assert "28 more words" in page.text


def test_outlines_of_large_images_keep_their_position() -> None:
    labels = np.full((1000, 1501), 255, np.uint8)
    labels[250:500, 300:1200] = 0
    masks = segmentation(labels, ("cat",), background=False)
    html = render("t", "l", [ReportItem("x", random_image(1000, 1501), None, (("m", masks),))], {})
    width, height = (float(n) for n in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', html)[0])
    (path,) = [a["d"] for a in Page(html).all("path")]
    x, y, *steps = (int(n) for n in re.findall(r"-?\d+", path))
    xs, ys = x + np.cumsum([0, *steps[::2]]), y + np.cumsum([0, *steps[1::2]])
    extent = [xs.min() / width, xs.max() / width, ys.min() / height, ys.max() / height]
    assert np.abs(np.array(extent) - (300 / 1501, 1200 / 1501, 0.25, 0.5)).max() < 0.005


# --- invalid arguments ---


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"a\.jpg.*\(24, 32\).*\(5, 5\)"):
        render(
            "t",
            "l",
            [report_item(segmentations=(("m", segmentation(np.zeros((5, 5), np.uint8), WORDS)),))],
            {},
        )
    with pytest.raises(InputError, match="label 2, but only 2 words"):
        render("t", "l", [report_item(segmentations=(("m", segmentation(halves(), WORDS[:2])),))], {})
    with pytest.raises(ShapeError, match="2 words and 3 scores"):
        render("t", "l", [report_item(tags=tags(("a", "b")))], {})
    with pytest.raises(ShapeError, match="at least one pixel"):
        render("t", "l", [ReportItem("e", np.zeros((0, 4, 3), np.uint8), None, ())], {})
