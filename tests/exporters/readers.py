"""Read exports back, each in the way of the tools that open it: independent of the code that writes them."""

import base64
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

__all__ = ["READERS", "Read"]

Read = dict[str, dict[str, np.ndarray]]
"""Name of an image to the pixels of each word that has any."""


def read_coco(target: Path) -> Read:
    """With pycocotools: run lengths or polygons."""
    coco = COCO(str(target))
    found: Read = {image["file_name"]: {} for image in coco.imgs.values()}
    for annotation in coco.anns.values():
        words = found[coco.imgs[annotation["image_id"]]["file_name"]]
        mask = coco.annToMask(annotation).astype(bool)
        word = coco.cats[annotation["category_id"]]["name"]
        words[word] = words.get(word, np.zeros_like(mask)) | mask
        box = coco_mask.toBbox(coco.annToRLE(annotation)).tolist()
        assert box == annotation["bbox"]
        assert annotation["area"] == mask.sum()
    return found


def read_yolo(target: Path) -> Read:
    """As Ultralytics: points are cut to whole pixels, polygons are filled and their lines drawn.

    Supervision rounds points instead, which must give the same pixels.
    """
    description = _yaml(target / "data.yaml")
    names = [json.loads(text) for text in description["names"].values()]
    assert list(map(int, description["names"])) == list(range(len(names)))
    found: Read = {}
    for split in ("train", "val"):
        folder = target / description[split]
        for photo in sorted(folder.iterdir()):
            with PILImage.open(photo) as opened:
                assert opened.getexif().get(0x0112, 1) == 1
                size = opened.size
            words: dict[str, np.ndarray] = {}
            lines = (target / "labels" / split / f"{photo.stem}.txt").read_text().splitlines()
            for line in lines:
                label, *numbers = line.split()
                points = np.array(numbers, float).reshape(-1, 2)
                assert len(points) >= 3
                assert np.ptp(points, axis=0).min() > 0
                assert points.min() >= 0
                assert points.max() <= 1
                canvas = PILImage.new("1", size)
                cut = (points * size).astype(int)
                np.testing.assert_array_equal(np.round(points.astype(np.float32) * np.float32(size)), cut)
                corners = [tuple(p) for p in cut.tolist()]
                ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
                word, mask = names[int(label)], np.array(canvas)
                words[word] = words.get(word, np.zeros_like(mask)) | mask
            found[photo.name] = words
    return found


def read_label_studio(target: Path) -> Read:
    """As Label Studio: labels of the setup alone, brush masks bit by bit, their opacity."""
    setup = ElementTree.parse(target / "labeling_config.xml").getroot()
    labels = {label.attrib["value"]: label.attrib["background"] for label in setup.iter("Label")}
    assert len(set(labels.values())) == len(labels)
    assert {choice.attrib["value"] for choice in setup.iter("Choice")} == set(labels)
    parts = {part.attrib["name"]: part for part in setup}
    found: Read = {}
    for task in json.loads((target / "tasks.json").read_text(encoding="utf-8")):
        (prediction,) = task["predictions"]
        assert parts["image"].attrib["value"] == "$image"
        path = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
        assert path.endswith(task["data"]["file_name"])
        assert Path("/", path).is_file()
        words: dict[str, np.ndarray] = {}
        ids = [result["id"] for result in prediction["result"]]
        assert len(set(ids)) == len(ids)
        for result in prediction["result"]:
            assert parts[result["from_name"]].attrib["toName"] == result["to_name"] == "image"
            if result["type"] == "choices":
                assert set(result["value"]["choices"]) <= set(labels)
                continue
            (word,) = result["value"]["brushlabels"]
            assert word in labels
            size = result["original_height"], result["original_width"]
            rgba = _brush_values(result["value"]["rle"]).reshape(*size, 4)
            assert (rgba == rgba[..., :1]).all()
            words[word] = words.get(word, np.zeros(size, bool)) | (rgba[..., 3] > 0)
        found[task["data"]["file_name"]] = words
    return found


def _brush_values(data: list[int]) -> np.ndarray:
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        is_run = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    return np.array(values)


def read_labelme(target: Path) -> Read:
    """As labelme: points are cut to whole pixels, polygons filled and their lines drawn; masks are pasted."""
    found: Read = {}
    for file in sorted(target.rglob("*.json")):
        described = json.loads(file.read_text(encoding="utf-8"))
        photo = file.parent / described["imagePath"]
        with PILImage.open(photo) as opened:
            assert opened.getexif().get(0x0112, 1) == 1
            assert opened.size == (described["imageWidth"], described["imageHeight"])
            size = opened.size
        words: dict[str, np.ndarray] = {}
        for shape in described["shapes"]:
            canvas = np.zeros(size[::-1], bool)
            if shape["shape_type"] == "mask":
                (x0, y0), (x1, y1) = shape["points"]
                with PILImage.open(io.BytesIO(base64.b64decode(shape["mask"]))) as mask:
                    canvas[y0 : y1 + 1, x0 : x1 + 1] = np.array(mask).astype(bool)
            else:
                assert len(shape["points"]) >= 3
                drawn = PILImage.new("1", size)
                corners = [(int(x), int(y)) for x, y in shape["points"]]
                ImageDraw.Draw(drawn).polygon(corners, fill=1, outline=1)
                canvas = np.array(drawn)
            words[shape["label"]] = words.get(shape["label"], np.zeros_like(canvas)) | canvas
        found[photo.relative_to(target).as_posix()] = words
    return found


def _yaml(path: Path) -> dict[str, dict[str, str] | str]:
    """The few lines of YAML that are written there."""
    content: dict[str, dict[str, str] | str] = {}
    inner: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.strip().partition(": ")
        if line.startswith(" "):
            inner[key] = value
        elif line == "names:":
            content["names"] = inner
        else:
            content[key] = value
    return content


def read_panoptic(target: Path) -> Read:
    """As panopticapi: a pixel's colour is the id of its segment."""
    found: Read = {}
    for file in sorted((target / "annotations").glob("panoptic_*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        assert 0 not in names
        assert {category["isthing"] for category in content["categories"]} <= {0, 1}
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            image = images.pop(annotation["image_id"])
            with PILImage.open(file.with_suffix("") / annotation["file_name"]) as opened:
                assert opened.mode == "RGB"
                assert opened.size == (image["width"], image["height"])
                ids = np.array(opened).astype(int) @ [1, 256, 256**2]
            words = found[image["file_name"]] = {}
            segments = annotation["segments_info"]
            assert {segment["id"] for segment in segments} == set(np.unique(ids)) - {0}
            for segment in segments:
                mask = ids == segment["id"]
                y, x = np.nonzero(mask)
                box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
                assert (segment["area"], segment["bbox"]) == (mask.sum(), box)
                word = names[segment["category_id"]]
                words[word] = words.get(word, np.zeros_like(mask)) | mask
        assert not images
    return found


def read_voc(target: Path) -> Read:
    """As datumaro and CVAT: colours of palettes or pixels are looked up in labelmap.txt."""
    lines = (target / "labelmap.txt").read_text(encoding="utf-8").splitlines()
    fields = [line.split(":") for line in lines if not line.startswith("#")]
    assert {len(parts) for parts in fields} == {4}
    colours = {tuple(map(int, rgb.split(","))): name for name, rgb, _, _ in fields}
    assert len(colours) == len(fields)
    assert colours[0, 0, 0] == "background"
    found: Read = {}
    for file in sorted((target / "ImageSets" / "Segmentation").glob("*.txt")):
        for name in filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())):
            classes = _rgb(target / "SegmentationClass" / f"{name}.png")
            objects = _rgb(target / "SegmentationObject" / f"{name}.png") @ [65536, 256, 1]
            words: dict[str, np.ndarray] = {}
            for rgb in np.unique(classes.reshape(-1, 3), axis=0).tolist():
                words[colours[tuple(rgb)]] = (classes == rgb).all(axis=2)
            background = words.pop("background", np.zeros(classes.shape[:2], bool))
            np.testing.assert_array_equal(objects == 0, background)
            words.pop("ignored", None)
            for number in set(np.unique(objects)) - {0}:  # an object is of one class
                assert len(np.unique(classes[objects == number], axis=0)) == 1
            photos = target / "JPEGImages"
            found[_photo_of(name, photos) if photos.exists() else name] = words
    return found


def _rgb(path: Path) -> np.ndarray:
    with PILImage.open(path) as opened:
        return np.array(opened.convert("RGB")).astype(int)


def _photo_of(name: str, folder: Path) -> str:
    """The photo of an id: its name is the id and any ending."""
    parent = (folder / name).parent
    (photo,) = [path for path in parent.iterdir() if path.stem == Path(name).name and path.is_file()]
    return photo.relative_to(folder).as_posix()


def read_cvat(target: Path) -> Read:
    """Unpacked, as CVAT does; what it imports are the objects."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(target) as archive:
            archive.extractall(folder)
        root = Path(folder)
        assert [path.name for path in (root / "ImageSets/Segmentation").iterdir()] == ["default.txt"]
        assert "ignored" not in (root / "labelmap.txt").read_text(encoding="utf-8")
        return read_voc(root)


def read_folder(target: Path) -> Read:
    """Index PNGs of a folder's own layout."""
    words = (target / "classes.txt").read_text(encoding="utf-8").splitlines()
    photos = sorted(path for path in (target / "images").rglob("*") if path.is_file())
    names = [path.relative_to(target / "images") for path in photos]
    return {name.as_posix(): _indexed(target / "masks" / name.with_suffix(".png"), words) for name in names}


def read_hf(target: Path) -> Read:
    """As `datasets` does with an image folder: a row per image, files relative to the metadata."""
    words = json.loads((target / "id2label.json").read_text())
    assert list(map(int, words)) == list(range(len(words)))
    found: Read = {}
    for metadata in sorted(target.glob("*/metadata.jsonl")):
        for line in metadata.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert (metadata.parent / row["file_name"]).is_file()
            assert row["file_name"].count("/") == 1
            read = _indexed(metadata.parent / row["mask_file_name"], list(words.values()))
            assert row["tags"] == list(read)
            found[row["name"]] = read
    return found


def _indexed(path: Path, words: list[str]) -> dict[str, np.ndarray]:
    """The classes of an index PNG but the background; its ignore index names none."""
    with PILImage.open(path) as opened:
        labels = np.array(opened)
    ignore_index = 255 if len(words) <= 255 else 65535
    present = np.unique(labels[labels != ignore_index]).tolist()
    return {words[label]: labels == label for label in present if label or words[0] != "background"}


READERS: Mapping[str, Callable[[Path], Read]] = {
    "coco": read_coco,
    "coco-panoptic": read_panoptic,
    "cvat": read_cvat,
    "folder": read_folder,
    "hf": read_hf,
    "voc": read_voc,
    "yolo": read_yolo,
    "label-studio": read_label_studio,
    "labelme": read_labelme,
}
"""One for each format that holds masks."""

FLAT = {"yolo"}
"""Formats whose names have no folders."""

BARE = {"cvat"}
"""Formats whose names have no endings."""
