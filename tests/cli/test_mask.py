"""`tagmask mask` with predicted tags, tags files, CLS-SEG, refinement and COCO output."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import tagmask
from tagmask.clip.load import Clip
from tests.cli.masking import (
    BACKGROUND,
    OPTIONS,
    WORDS,
    _weights,
    done,
    fields_in,
    images_in,
    labels_in,
    masked,
    out,
    photos,
    segmenter,
    settings_in,
    tags_of,
)
from tests.cli.running import run

__all__ = ["_weights", "out", "photos"]

# -- Tags from the tagger or a file --------------------------------------------------------------------------


def test_only_tags_masks_predicted_tags(photos: Path, out: Path, sclip_model: Clip) -> None:
    masked(photos, *OPTIONS, "--only-tags", "-o", out)
    tags = tags_of(sclip_model, photos)
    assert any(len(found) < 3 for found in tags.values())
    expected = segmenter(sclip_model, among="tags")
    for name, labels in labels_in(out).items():
        assert set(np.unique(labels)) <= {0, *(tag + 1 for tag in tags[name])}
        np.testing.assert_array_equal(labels, expected(images_in(photos)[name]).labels)
    assert settings_in(out)["among"] == "tags"


@pytest.mark.parametrize("method", [None, "cls-seg"])
def test_written_tags_can_be_masked(photos: Path, out: Path, sclip_model: Clip, method: str | None) -> None:
    file = out.with_name("tags.txt")
    done("tag", photos, *OPTIONS, "--out", file, "--format", "paper")
    tags = tags_of(sclip_model, photos)
    lines = [" ".join([name, *map(str, tags[name])]) for name in ("a", "b", "c")]
    assert file.read_text().splitlines() == lines
    more = ("--method", method) if method else ()
    masked(photos, *OPTIONS, "--tags-file", file, *more, "-o", out)
    expected = segmenter(sclip_model, **({"method": method} if method else {}))
    found = labels_in(out)
    assert set(found) == set(tags)
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, expected(images_in(photos)[name], tags=tags[name]).labels)


def test_image_without_a_line_fails_and_the_others_succeed(photos: Path, out: Path) -> None:
    file = out.with_name("tags.txt")
    file.write_text("\ufeffc 1\r\na\r\nunheard-of 0\r\n", encoding="utf-8")
    stderr = masked(photos, *OPTIONS, "--tags-file", file, "-o", out, code=1)
    assert f"failed: {photos / 'b.png'}: No tags given for the image 'b'. Add a line for it." in stderr
    assert re.search(r"2 of 3 images done in .* s, 1 failed", stderr)
    found = labels_in(out)
    assert set(found) == {"a", "c"}
    assert set(np.unique(found["a"])) == {0}  # a line without tags
    assert set(np.unique(found["c"])) <= {0, 2}


def test_first_tag_of_a_line_wins_ties(photos: Path, out: Path) -> None:
    # Without a background word the maps of one row of patches are all 0: a tie everywhere.
    PILImage.fromarray(np.zeros((8, 90, 3), np.uint8)).save(photos / "row.png")
    words = out.with_name("words.txt")
    words.write_text("\n".join(tagmask.recipe("cls-seg/coco-stuff").words[:4]))
    file = out.with_name("tags.txt")
    file.write_text("row 3 1\n")
    recipe = ("--recipe", "cls-seg/coco-stuff", "-w", f"@{words}", "--no-background")
    masked(photos / "row.png", *recipe, "--tags-file", file, "-o", out)
    assert set(np.unique(labels_in(out)["row"])) == {3}
    classes = json.loads((out / "classes.json").read_text())["classes"]
    assert [entry["index"] for entry in classes] == [0, 1, 2, 3]
    assert classes[0]["name"] == "person"


def test_images_of_the_same_name_are_told_apart_by_their_folders(photos: Path, out: Path) -> None:
    PILImage.open(photos / "b.png").save(photos / "sub" / "a.png")
    file = out.with_name("tags.txt")
    done("tag", photos, *OPTIONS, "--out", file, "--format", "paper")
    assert [line.split()[0] for line in file.read_text().splitlines()] == ["a", "b", "sub/a", "sub/c"]
    for text in ("a 0\nb 0\nc 0\n", "a 0\nb 0\nsub/c 0\n"):
        file.write_text(text)
        stderr = masked(photos, *OPTIONS, "--tags-file", file, "-o", out, code=2)
        assert f"'a', which may mean {photos / 'a.png'} or {photos / 'sub' / 'a.png'}." in stderr
        assert not out.exists()
    file.write_text("a 0\nb 0\nsub/a 1\nc 0\n")
    masked(photos, *OPTIONS, "--tags-file", file, "-o", out)
    for name, values in {"a": {0, 1}, "sub/a": {0, 2}}.items():
        assert set(np.unique(np.array(PILImage.open(out / "masks" / f"{name}.png")))) <= values


def test_paper_format_needs_a_file(photos: Path) -> None:
    assert "Give --out tags.txt" in done("tag", photos, *OPTIONS, "--format", "paper", code=2)


def test_missing_tags_file_is_reported_before_weights_are_loaded(photos: Path, out: Path) -> None:
    recipe = ("--recipe", "clip-es/voc2012", "--weights", "nowhere.pt")
    assert "Give --tags-file FILE" in masked(photos, *recipe, "-o", out, code=2)


def test_space_in_an_image_name_is_refused_in_tags_files(photos: Path, out: Path) -> None:
    (photos / "a.png").rename(photos / "a b.png")
    file = out.with_name("tags.txt")
    stderr = done("tag", photos, *OPTIONS, "--out", file, "--format", "paper", code=2)
    assert "Tag files cannot hold the image name 'a b'" in stderr
    assert not file.exists()


# -- CLS-SEG ---------------------------------------------------------------------------------------------


def test_cls_seg_masks_the_tags_it_finds(photos: Path, out: Path, sclip_model: Clip) -> None:
    masked(photos, *OPTIONS, "--method", "cls-seg", "-o", out)
    expected = segmenter(sclip_model, method="cls-seg")
    tags = tags_of(sclip_model, photos)
    for name, labels in labels_in(out).items():
        seg = expected(images_in(photos)[name])
        assert seg.tags == tags[name]
        np.testing.assert_array_equal(labels, seg.labels)
    content = json.loads((out / "classes.json").read_text())
    assert content["classes"] == [
        {"index": 0, "name": "background", "colour": [0, 0, 0]},
        {"index": 1, "name": "cat", "colour": [128, 0, 0]},
        {"index": 2, "name": "dog", "colour": [0, 128, 0]},
        {"index": 3, "name": "cow", "colour": [128, 128, 0]},
    ]
    assert content["ignore_index"] == 255
    fields = fields_in(out)
    assert (fields["words"], fields["precision"]) == (["cat", "dog, puppy", "cow"], "float32")
    settings = fields["settings"]
    assert (settings["method"], settings["crf"], settings["pamr_steps"]) == ("cls-seg", None, 0)
    # The tagger's settings are needed to reproduce the masks.
    assert settings["tagger"]["words"] == WORDS
    assert settings["tagger"]["background"] == BACKGROUND
    assert settings["tagger"]["tag_tau"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (*OPTIONS, "--method", "cls-seg", "--only-tags"),
            "--only-tags has no effect with cls-seg",
        ),
        (
            (*OPTIONS, "--format", "png,yolo"),
            "Invalid --format 'png,yolo'. Give png, or png and coco, csv, cvat, report",
        ),
        ((*OPTIONS, "--format", "coco"), "Invalid --format 'coco'"),
        ((*OPTIONS, "--format", ""), "Invalid --format ''"),
        ((*OPTIONS, "--tags-file", "nowhere.txt"), "Tag file nowhere.txt cannot be read"),
        ((*OPTIONS, "--tags-file", "{photos}"), "cannot be read"),
        ((*OPTIONS, "--tags-file", "{photos}/../three.txt"), "has '3'. Give class indices from 0 to 2"),
        (
            (*OPTIONS, "--refine", "dcrf"),
            "Unknown --refine 'dcrf'. Did you mean crf? Give one of none",
        ),
        (
            ("--tags-file", "{photos}/../three.txt"),
            "No words are given. Give -w cat -w dog, -w @FILE or --recipe NAME",
        ),
    ],
)
def test_invalid_options_are_reported_before_anything_is_written(
    photos: Path, out: Path, arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "300")
    (photos.parent / "three.txt").write_text("a 3\n")
    options = [argument.format(photos=photos) for argument in arguments]
    assert message in masked(photos, *options, "-o", out, code=2)
    assert not out.exists()


def test_only_tags_of_a_recipe_that_masks_tags_is_explained(photos: Path, out: Path) -> None:
    stderr = masked(photos, "--recipe", "cls-seg/voc2012", "--only-tags", "-o", out, code=2)
    assert "--only-tags has no effect with cls-seg/voc2012, which always masks tags" in stderr


# -- Refinement ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sclip", "cls-seg"])
@pytest.mark.parametrize(
    ("refine", "settings"),
    [
        ("crf", {"crf": "cls-seg", "pamr_steps": 0}),
        ("pamr", {"crf": None, "pamr_steps": 10}),
        ("tlp", {"crf": None, "pamr_steps": 0, "tlp_steps": 25}),
        ("none", {"crf": None, "pamr_steps": 0}),
    ],
)
def test_refine_option(
    photos: Path, out: Path, sclip_model: Clip, method: str, refine: str, settings: dict[str, object]
) -> None:
    masked(photos / "a.png", *OPTIONS, "--method", method, "--refine", refine, "-o", out)
    recorded = settings_in(out)
    assert {name: recorded[name] for name in settings} == settings
    refined = segmenter(sclip_model, method=method, **settings)(photos / "a.png").labels
    plain = segmenter(sclip_model, method=method)(photos / "a.png").labels
    np.testing.assert_array_equal(labels_in(out)["a"], refined)
    assert (refined != plain).any() == (refine != "none")


def test_refinement_of_a_recipe_can_be_disabled(photos: Path, out: Path, sclip_model: Clip) -> None:
    file = out.with_name("tags.txt")
    file.write_text("a 14 7\n")
    arguments = (photos / "a.png", "--recipe", "clip-es+crf/voc2012", "--tags-file", file)
    masked(*arguments, "-o", out)
    assert (settings_in(out)["crf"], settings_in(out)["confidence"]) == ("cls-seg", 0.95)
    with_crf = labels_in(out)["a"]
    out = out.with_name("plain")
    masked(*arguments, "--refine", "none", "-o", out)
    assert settings_in(out)["crf"] is None
    plain = tagmask.Segmenter(sclip_model, recipe="clip-es/voc2012")(photos / "a.png", tags=[14, 7])
    np.testing.assert_array_equal(labels_in(out)["a"], plain.labels)
    assert 255 in with_crf
    assert 255 not in plain.labels


# -- COCO ------------------------------------------------------------------------------------------------


def check_annotations(out: Path, *, background: bool) -> list[str]:
    """Check that the regions reproduce the masks, and return the file names."""
    read = COCO(str(out / "annotations.json"))
    masks = labels_in(out)
    for image in read.loadImgs(read.getImgIds()):
        labels = masks[Path(image["file_name"]).stem]
        assert (image["height"], image["width"]) == labels.shape
        rebuilt = np.zeros(labels.shape, int) if background else np.full(labels.shape, 255)
        for annotation in read.loadAnns(read.getAnnIds(imgIds=[image["id"]])):
            runs = annotation["segmentation"]
            region = coco_mask.decode({"size": runs["size"], "counts": runs["counts"].encode()}) == 1
            rebuilt[region] = annotation["category_id"] - (not background)
            assert region.sum() == annotation["area"]
            assert 0 < annotation["score"] <= 1
        np.testing.assert_array_equal(rebuilt, labels)
    return [image["file_name"] for image in read.loadImgs(read.getImgIds())]


# pycocotools' decoder warns under newer NumPy.
DECODER = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@DECODER
@pytest.mark.parametrize("method", ["sclip", "cls-seg"])
def test_coco_annotations_hold_the_masks(photos: Path, out: Path, method: str) -> None:
    (photos / "broken.png").write_text("no image")
    masked(photos, *OPTIONS, "--method", method, "--format", "png,coco", "-o", out, code=1)
    assert check_annotations(out, background=True) == ["a.png", "b.png", "sub/c.png"]
    content = json.loads((out / "annotations.json").read_text(encoding="utf-8"))
    assert [(entry["id"], entry["name"]) for entry in content["categories"]] == [
        (1, "cat"),
        (2, "dog"),
        (3, "cow"),
    ]


@DECODER
def test_without_a_background_coco_counts_from_one(photos: Path, out: Path) -> None:
    masked(photos, *OPTIONS[:6], "--no-background", "--format", "coco , png", "-o", out)
    check_annotations(out, background=False)
    content = json.loads((out / "annotations.json").read_text())
    assert [entry["id"] for entry in content["categories"]] == [1, 2, 3]


def test_png_alone_writes_no_annotations(photos: Path, out: Path) -> None:
    masked(photos / "a.png", *OPTIONS, "-o", out)
    assert not (out / "annotations.json").exists()


# -- Settings are resolved once ----------------------------------------------------------------------------


@pytest.mark.parametrize(("as_", "quirk"), [("corrected", False), ("published", True)])
@pytest.mark.parametrize("how", [("--only-tags",), ("--method", "cls-seg")])
def test_quirks_reach_the_tagger(
    how: tuple[str, ...], as_: str, quirk: bool, photos: Path, out: Path
) -> None:
    masked(photos / "a.png", *OPTIONS, *how, "--as", as_, "-o", out)
    tagger = settings_in(out)["tagger"]
    assert isinstance(tagger, dict)
    assert (tagger["early_exit"], tagger["lose_border"]) == (quirk, quirk)


def failed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


# -- Purification --------------------------------------------------------------------------------------------


def test_words_can_be_dropped(photos: Path, out: Path, sclip_model: Clip) -> None:
    result = run("mask", photos, *OPTIONS, "--purify", "scores", "-o", out, "--precision", "float32")
    assert result.exit_code == 0, result.output
    assert settings_in(out)["purify"] == "scores"
    found = {name: segmenter(sclip_model, purify=True)(path) for name, path in images_in(photos).items()}
    for name, labels in labels_in(out).items():
        np.testing.assert_array_equal(labels, found[name].labels)
    assert any(seg.dropped for seg in found.values())
    with tagmask.Run(out) as rows:
        for row in rows:
            dropped = found[row.source.stem].dropped
            recorded = (row.record or {}).get("dropped", {})
            assert {word: each["reason"] for word, each in recorded.items()} == {
                word: each.reason for word, each in dropped.items()
            }
            assert set(dropped) <= set(row.absent or ())
            for word, each in list(dropped.items())[:1]:
                assert f"{word} ({each.reason} {each.score:.2f})" in " ".join(result.stdout.split())
    assert "purify" not in settings_after(photos, out.with_name("plain"))


def settings_after(photos: Path, out: Path) -> dict[str, object]:
    masked(photos, *OPTIONS, "-o", out)
    return settings_in(out)


def test_descriptions_come_from_a_file(photos: Path, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.json"
    file.write_text(json.dumps({"cat": ["a pet"], "dog": ["a pet", "it barks"], "cow": ["it gives milk"]}))
    masked(photos, *OPTIONS, "--purify", "tags", "--descriptions", file, "-o", out)
    assert str(fields_in(out)["descriptions"]).startswith("sentences sha256")
    for text, message in (
        ("[1", "is not JSON"),
        ('{"cat": ["a"]}', "descriptions has no 'dog'"),
        ('["a"]', "descriptions has 1 classes for 3 words"),
        ("3", "Give sentences for each word"),
    ):
        file.write_text(text)
        stderr = masked(photos, *OPTIONS, "--purify", "scores", "--descriptions", file, "-o", out, code=2)
        assert message in stderr
    assert "no effect without --purify" in masked(photos, *OPTIONS, "--descriptions", file, "-o", out, code=2)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--threshold", "0.3"], "--threshold) has no effect with purify"),
        (["--method", "cls-seg"], "Unknown setting purify of cls-seg"),
        (["--compare", "clip,sclip", "--descriptions", "x.json"], "--compare and --descriptions exclude"),
    ],
)
def test_options_that_do_not_fit_purification(
    photos: Path, out: Path, extra: list[str], message: str
) -> None:
    assert message in masked(photos, *OPTIONS, "--purify", "scores", *extra, "-o", out, code=2)
