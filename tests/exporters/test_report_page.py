"""The report page of a run: order, limits, escaping, corrections, and photos that are gone."""

import base64
import io
import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tagmask.errors import ImageError, InputError
from tagmask.exporters import EXPORTERS, report_page
from tagmask.exporters.export import Export
from tagmask.exporters.options import ExportOptions
from tagmask.exporters.report_page import write_report
from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images
from tests.cli.running import run as tagmask
from tests.report.pages import Page

HOSTILE = "<script>alert(1)<b onload='x'>"
WORDS = ("background", "cat", HOSTILE, "boat")
MASK_RUN = RunIdentity(
    "mask", {"words": list(WORDS[1:]), "settings": {"method": "sclip"}}, {"weights": "ViT"}
)


def left_half(label: int, h: int = 30, w: int = 40) -> np.ndarray:
    labels = np.zeros((h, w), np.uint8)
    labels[:, : w // 2] = label
    return labels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        PIL.Image.new("RGB", (40, 30), (60 * i, 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Path:
    """a, b, c done with falling confidence; d failed."""
    path = tmp_path / "run"
    with RunFolder.open(path, MASK_RUN, Classes(WORDS, 255), network=False) as folder:
        for i, task in enumerate(folder.plan(find_images([photos]))):
            if i == 3:
                folder.fail(task, ImageError("torn <i>apart</i> \x1b[31m"))
                continue
            folder.write_mask(task.name, index_png(left_half(1)))
            confidences = {"background": 0.9, "cat": 0.75 - i / 4}
            folder.done(
                task,
                ImageResult(
                    width=40,
                    height=30,
                    tags=["cat"],
                    shares={"background": 600, "cat": 600},
                    class_confidence=confidences,
                    confidence=0.75 - i / 4,
                    absent=list(WORDS[2:]),
                ),
            )
    return path


def written(run: Path) -> str:
    with Run(run) as rows:
        write_report(Export(rows, ExportOptions()), run / "report.html")
    return (run / "report.html").read_text("utf-8")


def articles(html: str) -> dict[str, str]:
    """The HTML of each image, by its name."""
    parts = re.findall(r"<article.*?</article>", html, flags=re.DOTALL)
    return {re.findall(r"<h2[^>]*>(.*?)</h2>", part)[0]: part for part in parts}


def test_least_confident_images_come_first_with_all_that_is_known(run: Path) -> None:
    html = written(run)
    items = articles(html)
    assert list(items) == ["c.png", "b.png", "a.png"]
    text = re.sub("<[^>]*>", "", items["c.png"])
    assert "Confidence 0.25." in text
    assert "cat 50.0% (0.25)" in text
    assert "background 50.0% (0.90)" in text
    assert "Absent: &lt;script&gt;" in text
    assert items["c.png"].count("<path") == 2
    words = Page(html).words
    assert "All 3 finished images are shown." in words
    assert "3 done, 1 failed" in words
    assert "sclip" in words


def test_photos_are_those_of_the_run_and_reduced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    PIL.Image.new("RGB", (1300, 650), (10, 200, 30)).save(tmp_path / "photos/wide.png")
    with RunFolder.open(tmp_path / "run", MASK_RUN, Classes(WORDS, 255), network=False) as folder:
        (task,) = folder.plan(find_images([tmp_path / "photos"]))
        folder.write_mask(task.name, index_png(left_half(1, 650, 1300)))
        folder.done(task, ImageResult(width=1300, height=650, confidence=0.5))
    html = written(tmp_path / "run")
    (jpeg,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)"', html)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(jpeg)))
    assert picture.size == (640, 320)
    assert np.abs(np.asarray(picture).mean((0, 1)) - (10, 200, 30)).max() < 3
    assert "1300 &times; 650" in html
    assert "The one finished image is shown." in html


def test_no_more_images_are_shown_than_the_limit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page, "_SHOWN", 2)
    html = written(run)
    assert list(articles(html)) == ["c.png", "b.png"]
    assert "2 of 3 finished images are shown: those with the lowest confidence." in html


def test_failed_images_are_listed_last(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html = written(run)
    failed = html[html.index("Failed images") :]
    assert html.index("Failed images") > html.rindex("</article>")
    assert "<b>d.png</b><span>torn &lt;i&gt;apart&lt;/i&gt; \\x1b[31m</span>" in failed
    monkeypatch.setattr(report_page, "_SHOWN", 0)
    assert "and 1 more" in written(run)


def test_names_and_words_are_escaped_and_nothing_is_fetched(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    name = os.fsdecode(b"<script>alert(2)<b>\x1b[31m\xff\n.png")
    PIL.Image.new("RGB", (40, 30)).save(photos / "plain.png")
    (photos / "plain.png").rename(photos / name)
    with RunFolder.open(tmp_path / "run", MASK_RUN, Classes(WORDS, 255), network=False) as folder:
        (task,) = folder.plan(find_images([photos]))
        folder.write_mask(task.name, index_png(left_half(2)))
        folder.done(task, ImageResult(width=40, height=30, class_confidence={HOSTILE: 0.5}, confidence=0.5))
    page = Page(html := written(tmp_path / "run"))  # also checks that elements are nested
    assert len(page.all("script")) == 1
    assert not page.all("b", "onload")
    assert "\x1b" not in html
    assert "<script>alert(2)<b>\ufffd[31m\ufffd\n.png" in page.text
    assert HOSTILE in page.text
    assert all(a["src"].startswith("data:") for a in page.all("img"))
    assert not re.search(r"(href|src|url\()\s*=?\s*[\"']?(https?:)?//", html)


def test_a_corrected_mask_wins(run: Path) -> None:
    (run / "corrected").mkdir()
    (run / "corrected/b.png").write_bytes(index_png(left_half(3)))
    text = {name: re.sub("<[^>]*>", "", part) for name, part in articles(written(run)).items()}
    assert "boat 50.0%" in text["b.png"]
    assert "cat 50.0%" not in text["b.png"]
    assert "(0.90)" not in text["b.png"]  # the confidence of another mask
    assert "(0.90)" in text["a.png"]
    assert "Mask corrected by a person. Absent: cat," in text["b.png"]
    assert "corrected" not in text["a.png"]


def test_photos_that_are_gone_changed_or_damaged_are_named(run: Path, photos: Path) -> None:
    (photos / "a.png").unlink()
    PIL.Image.new("RGB", (41, 31)).save(photos / "b.png")
    stat = (photos / "c.png").stat()
    (photos / "c.png").write_bytes(b"x" * stat.st_size)
    os.utime(photos / "c.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    items = articles(html := written(run))
    assert "<img" not in html
    assert str(photos) not in html  # reports are shared
    assert "The photo is no longer there." in items["a.png"]
    assert "The photo changed after the run." in items["b.png"]
    assert "is not one of JPEG" in items["c.png"]
    for part in items.values():
        assert "no picture" in part
        assert "50.0%" in part


def test_masks_that_do_not_fit_are_named(run: Path) -> None:
    (run / "masks/a.png").unlink()
    (run / "masks/b.png").write_bytes(index_png(left_half(9)))
    (run / "masks/c.png").write_bytes(index_png(left_half(1, 10, 10)))
    items = articles(html := written(run))
    assert str(run.parent) not in html
    assert "There is no file" in items["a.png"]
    assert "has label 9, which no word names." in items["b.png"]
    assert "is (10, 10), but its image was (30, 40) (h, w)." in items["c.png"]
    assert [("<img" in items[f"{name}.png"]) for name in "abc"] == [True, True, True]


@pytest.mark.parametrize("threshold", ["high", [], {}, None, True])
def test_a_threshold_that_is_no_number_is_not_drawn(tmp_path: Path, photos: Path, threshold: object) -> None:
    with RunFolder.open(tmp_path / "tags", RunIdentity("tag", {"words": ["cat"]})) as folder:
        for task in folder.plan(find_images([photos])):
            folder.done(task, ImageResult(tags=[], scores={"cat": 0.1}, record={"threshold": threshold}))
    assert "cat" in written(tmp_path / "tags")


def test_a_run_of_tags_shows_scores(tmp_path: Path, photos: Path) -> None:
    with RunFolder.open(tmp_path / "tags", RunIdentity("tag", {"words": ["cat", "dog"]})) as folder:
        for task in folder.plan(find_images([photos])):
            result = ImageResult(
                width=40, height=30, tags=["dog"], scores={"cat": 0.1, "dog": 0.9}, record={"threshold": 0.5}
            )
            folder.done(task, result)
    html = written(tmp_path / "tags")
    items = articles(html)
    assert list(items) == ["a.png", "b.png", "c.png", "d.png"]
    text = re.sub("<[^>]*>", " ", items["a.png"]).split()
    assert text[-8:] == ["Tags", "dog", "(tag)", "0.900", "threshold", "0.500", "cat", "0.100"]
    assert "tags: dog" in items["a.png"]
    assert "confidence" not in html[html.index("<body>") : html.index("<main>")]


def test_a_run_without_masks_or_tags_is_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "bench", RunIdentity("bench", {})):
        pass
    with pytest.raises(InputError, match="neither masks nor tags"):
        written(tmp_path / "bench")
    assert not (tmp_path / "bench/report.html").exists()


def test_the_commands_write_the_same_page(run: Path, tmp_path: Path) -> None:
    expected = written(run)
    (run / "report.html").unlink()
    assert EXPORTERS["report"].file_name == "report.html"
    for _ in range(2):  # written again over its own
        assert tagmask("export", run, "--to", "report").exit_code == 0
        assert (run / "report.html").read_text("utf-8") == expected


@pytest.mark.parametrize("option", [["--report"], ["--format", "png,report"]])
def test_mask_writes_the_page(option: list[str], photos: Path, tmp_path: Path, sclip_weights: Path) -> None:
    for name in "bcd":
        (photos / f"{name}.png").unlink()
    options = ["-w", "cat", "-w", "dog", "-b", "wall", "--weights", sclip_weights, "--no-overlay", *option]
    result = tagmask("mask", photos, *options, "-o", tmp_path / "out", "--precision", "float32")
    assert result.exit_code == 0, result.output
    assert list(articles((tmp_path / "out/report.html").read_text("utf-8"))) == ["a.png"]
