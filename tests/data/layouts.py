"""Small versions of the data sets' folders: two or three tiny images each, in the published layout."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from tagmask.masks import palette
from tagmask.settings.words import read_list

SIZE = (6, 8)
"""(h, w) of every image."""


def photo(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    PILImage.fromarray(pixels).save(path)


def mask(path: Path, labels: np.ndarray, *, coloured: bool = True) -> None:
    """An index PNG: with VOC's palette, or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = PILImage.fromarray(labels.astype(np.uint8))
    if coloured:
        image.putpalette(palette().tobytes())
    image.save(path)


def rows(*values: int) -> np.ndarray:
    """A mask of SIZE whose columns repeat `values`."""
    return np.resize(np.array(values, np.uint8), SIZE)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def annotation(path: Path, *objects: tuple[str, bool]) -> None:
    """A VOC annotation: names, and whether each is difficult."""
    things = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult>"
        "<part><name>head</name></part></object>"
        for name, difficult in objects
    )
    text(path, f"<annotation><folder>VOC</folder>{things}</annotation>")


def matlab(path: Path, **arrays: np.ndarray) -> None:
    """A MATLAB 5 file of uint16 arrays, each compressed."""

    def element(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    whole = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    for name, array in arrays.items():
        body = element(6, struct.pack("<II", 11, 0)) + element(5, struct.pack("<ii", *array.shape))
        body += element(1, name.encode()) + element(4, array.astype("<u2").tobytes(order="F"))
        packed = zlib.compress(element(14, body))
        whole += struct.pack("<II", 15, len(packed)) + packed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)


def voc2007(root: Path) -> None:
    home = root / "VOCdevkit" / "VOC2007"
    text(home / "ImageSets" / "Main" / "test.txt", "000001", "000002")
    for id_ in ("000001", "000002"):
        photo(home / "JPEGImages" / f"{id_}.jpg")
    annotation(home / "Annotations" / "000001.xml", ("person", True), ("dog", False), ("person", False))
    annotation(home / "Annotations" / "000002.xml", ("train", True), ("cat", False))


def voc2012(root: Path) -> None:
    home = root / "VOCdevkit" / "VOC2012"
    text(home / "ImageSets" / "Segmentation" / "val.txt", "2007_000033", "2007_000042")
    text(
        home / "ImageSets" / "Segmentation" / "train_aug.txt",
        "/JPEGImages/2007_000042.jpg /SegmentationClassAug/2007_000042.png",
    )
    for id_, labels in {"2007_000033": rows(0, 1, 255), "2007_000042": rows(0, 19, 20, 255)}.items():
        photo(home / "JPEGImages" / f"{id_}.jpg")
        mask(home / "SegmentationClass" / f"{id_}.png", labels)
    mask(home / "SegmentationClassAug" / "2007_000042.png", rows(0, 19), coloured=False)
    annotation(home / "Annotations" / "2007_000033.xml", ("aeroplane", False), ("bird", True))
    annotation(home / "Annotations" / "2007_000042.xml", ("tvmonitor", False), ("train", False))


def context(root: Path) -> None:
    """PASCAL Context before conversion: MATLAB files with another label list, in another order."""
    home = root / "VOCdevkit" / "VOC2010"
    text(home / "ImageSets" / "Main" / "val.txt", "2008_000002", "2008_000003", "2008_000009")
    words = [*reversed(read_list("sclip_context59")), "accordion"]
    text(home / "labels.txt", *(f"{number}: {word}" for number, word in enumerate(words, start=1)))
    for id_, labels in {"2008_000002": rows(0, 1, 60), "2008_000003": rows(59, 60)}.items():
        photo(home / "JPEGImages" / f"{id_}.jpg")
        matlab(home / "trainval" / f"{id_}.mat", LabelMap=labels)


def context_prepared(root: Path) -> None:
    home = root / "VOC2010"
    text(home / "ImageSets" / "SegmentationContext" / "val.txt", "2008_000002")
    photo(home / "JPEGImages" / "2008_000002.jpg")
    mask(home / "SegmentationClassContext" / "2008_000002.png", rows(0, 1, 59))


def coco(root: Path, year: str = "2017") -> None:
    """Two images with objects and one without; an id past 80, a crowd, an overlap, two-part polygons."""
    names = [("person", 1), ("dining table", 67), ("toothbrush", 90)]
    others = (i for i in range(1, 90) if i not in (1, 67, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
    ids = sorted([*(number for _, number in names), *[next(others) for _ in range(77)]])
    by_id = {number: name for name, number in names}
    categories = [{"id": i, "name": by_id.get(i, f"thing {i}")} for i in ids]
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (139, 285, 632)
    ]
    crowd = np.zeros(SIZE, bool)
    crowd[1, 2:5] = True
    annotations = [
        region(139, 90, [[0, 0, 2, 0, 2, 2, 0, 2]], 4),  # small, listed first, must stay in front
        region(139, 1, [[0, 0, 8, 0, 8, 3, 0, 3], [6, 4, 8, 4, 8, 6, 6, 6], [1, 1, 2, 2]], 28),
        {**region(285, 67, {"size": list(SIZE), "counts": run_lengths(crowd)}, 3), "iscrowd": 1},
    ]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    text(root / "annotations" / f"instances_val{year}.json", json.dumps(whole))
    for image in images:
        photo(root / f"val{year}" / str(image["file_name"]))


def region(image: int, category: int, segmentation: object, area: float) -> dict[str, object]:
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "area": area,
        "iscrowd": 0,
    }


def run_lengths(inside: np.ndarray) -> list[int]:
    """COCO's run lengths: alternating runs of 0 and 1, starting with 0, in column order."""
    counts, last = [0], False
    for column in range(inside.shape[1]):
        for row in range(inside.shape[0]):
            if inside[row, column] != last:
                counts.append(0)
                last = not last
            counts[-1] += 1
    return counts


def coco_stuff(root: Path) -> None:
    for id_, labels in {"000000000139": rows(0, 12, 91, 255), "000000000724": rows(89, 181)}.items():
        photo(root / "val2017" / f"{id_}.jpg")
        mask(root / "stuffthingmaps" / "val2017" / f"{id_}.png", labels, coloured=False)


def coco_stuff10k(root: Path) -> None:
    name = "COCO_train2014_000000000077"
    text(root / "imageLists" / "test.txt", name)
    photo(root / "images" / f"{name}.jpg")
    matlab(root / "annotations" / f"{name}.mat", S=rows(0, 1, 13, 182))


def coco_stuff10k_prepared(root: Path) -> None:
    name = "COCO_train2014_000000000077"
    photo(root / "images" / "test2014" / f"{name}.jpg")
    mask(root / "annotations" / "test2014" / f"{name}_labelTrainIds.png", rows(0, 1, 171), coloured=False)


def ade20k(root: Path) -> None:
    home = root / "ADEChallengeData2016"
    photo(home / "images" / "validation" / "ADE_val_00000001.jpg")
    mask(home / "annotations" / "validation" / "ADE_val_00000001.png", rows(0, 1, 150), coloured=False)


def cityscapes(root: Path) -> None:
    home = root / "cityscapes"
    for city, name in (("frankfurt", "frankfurt_000000_000294"), ("munster", "munster_000000_000019")):
        photo(home / "leftImg8bit" / "val" / city / f"{name}_leftImg8bit.png")
        mask(home / "gtFine" / "val" / city / f"{name}_gtFine_labelIds.png", rows(0, 7, 33), coloured=False)


def folder(root: Path) -> None:
    text(root / "classes.txt", "background", "cat", "dog")
    text(root / "tags.txt", "a 1", "sub/b 0 1")
    text(root / "val.txt", "sub/b")
    photo(root / "images" / "a.png")
    photo(root / "images" / "sub" / "b.jpg")
    mask(root / "masks" / "a.png", rows(0, 2, 255))
    mask(root / "masks" / "sub" / "b.png", rows(1, 2))


BUILD: Mapping[str, Callable[[Path], None]] = {
    "voc2007": voc2007,
    "voc2007-devkit": voc2007,
    "voc2007-sure": voc2007,
    "voc2012": voc2012,
    "voc21": voc2012,
    "voc20": voc2012,
    "context60": context_prepared,
    "context59": context_prepared,
    "coco2014": lambda root: coco(root, "2014"),
    "coco2017": coco,
    "coco-object": coco_stuff,
    "coco-stuff": coco_stuff,
    "coco-stuff27": coco_stuff,
    "coco-stuff10k": coco_stuff10k_prepared,
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "folder": folder,
    "miniature": lambda root: None,
}
"""A small folder for every data set."""
