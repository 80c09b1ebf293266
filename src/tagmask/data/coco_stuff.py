"""COCO-Stuff, and COCO-Object, which is derived from it: masks of things and stuff on COCO's images.

    coco/
      val2017/000000000139.jpg                          (or images/val2017/)
      stuffthingmaps/val2017/000000000139.png           raw ids: 0 to 90 things, 91 to 181 stuff, 255 none
      annotations/val2017/000000000139_labelTrainIds.png       converted: 0 to 170, 255
      annotations/val2017/000000000139_instanceTrainIds.png    converted: 0 none, 1 to 80

Eleven raw ids are unused; the other 171, in order, are classes 0 to 170. The 10k release counts from 1, with
0 for unlabelled.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from tagmask.data.folders import first_folder, named_files, on_disk
from tagmask.data.lists import read_ids, shipped_tags
from tagmask.data.pixels import Codes, codes, plain, without_zero
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError
from tagmask.settings.words import read_list

__all__ = [
    "COARSE",
    "CONVERTED_SUFFIX",
    "OBJECT",
    "STUFF",
    "coarse_names",
    "object_names",
    "open_coco_object",
    "open_coco_stuff",
    "open_coco_stuff10k",
    "raw_ids",
    "raw_masks",
]

_MASKS = (
    "stuffthingmaps/{part}",
    "annotations/{part}",
    "stuffthingmaps_trainvalset/{part}",
    "stuffthingmaps_pixelmaps/{part}",
    "stuffthingmaps_pixelmaps",
)
"""Mask folders of the release and of the toolboxes."""

CONVERTED_SUFFIX: Mapping[str, str] = {"coco-stuff": "_labelTrainIds", "coco-object": "_instanceTrainIds"}
"""Suffix of the converted masks' file names, by data set."""


@cache
def raw_ids() -> tuple[tuple[int, int | None, int], ...]:
    """Return rows of raw id, class of 171 (None if unused), group of 27."""
    text = (resources.files(__package__) / "published" / "cocostuff_ids.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return tuple((int(raw), None if index == "-" else int(index), int(coarse)) for raw, index, coarse in rows)


def _stuff() -> Codes:
    return codes({raw: index for raw, index, _ in raw_ids() if index is not None})


def _coarse() -> Codes:
    return codes({raw: coarse for raw, index, coarse in raw_ids() if index is not None})


def _object() -> Codes:
    """As in SCLIP's configuration: things are 1 to 80, everything else (also unlabelled) is background."""
    things = {raw: index + 1 for raw, index, _ in raw_ids() if index is not None and index < 80}
    return codes({255: 0} | {raw: 0 for raw, _, _ in raw_ids() if raw > 90} | things)


STUFF, COARSE, OBJECT = _stuff(), _coarse(), _object()
"""Raw ids to the 171 classes, to the 27 groups, to the 81 classes of COCO-Object."""


def coarse_names() -> tuple[str, ...]:
    """Return the names of COCO-Stuff's 27 groups: 12 of things, then 15 of stuff."""
    text = (resources.files(__package__) / "published" / "cocostuff_coarse27.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def object_names() -> tuple[str, ...]:
    """Return "background" and COCO's 80 categories by COCO's own names."""
    return ("background", *(line.split(", ")[0] for line in read_list("sclip_coco_object")[1:]))


def open_coco_stuff(root: Path, split: str, *, coarse: bool = False) -> Dataset:
    """Open COCO-Stuff 164k: 171 classes, or their 27 groups; unlabelled pixels are not scored.

    Args:
        root: COCO's folder, or the folder that contains `coco` or `coco_stuff164k`.
        split: "val" (all 5000 of val2017), "train", or "curated": the 4172 of val2017 that TagCLIP and
            CLS-SEG score; the list and its tags (of the 171 classes) are shipped with this package.
        coarse: masks of the 27 groups; tags are still of the 171 classes.

    Raises:
        InputError: a missing folder.
    """
    part = "train2017" if split == "train" else "val2017"
    listed: Mapping[str, tuple[int, ...]] | None = None
    if split == "curated":
        raw = shipped_tags("coco-stuff_curated", len(raw_ids()))
        listed = {id_: tuple(STUFF[tag] for tag in of_image) for id_, of_image in raw.items()}
    words = read_list("cocostuff171_tag")
    name, meaning = ("coco-stuff27", COARSE) if coarse else ("coco-stuff", STUFF)
    converted = {} if coarse else {CONVERTED_SUFFIX["coco-stuff"]: plain(len(words))}
    samples = _samples(root, part, {**converted, "": meaning}, listed)
    return Dataset(name, coarse_names() if coarse else words, words if listed else (), samples)


def open_coco_object(root: Path, split: str) -> Dataset:
    """Open COCO-Object, derived from COCO-Stuff's masks: background and 80 classes; all pixels are scored.

    Args:
        root: as for `open_coco_stuff`.
        split: "val" or "train".

    Raises:
        InputError: a missing folder.
    """
    meanings = {CONVERTED_SUFFIX["coco-object"]: plain(81), "": OBJECT}
    return Dataset("coco-object", object_names(), (), _samples(root, f"{split}2017", meanings, None))


def open_coco_stuff10k(root: Path, split: str) -> Dataset:
    """Open COCO-Stuff 10k: 171 classes; from images/, annotations/, and imageLists/ if it exists.

    Masks are `annotations/test2014/NAME_labelTrainIds.png`: 0 unlabelled, 1 to 171.

    Raises:
        InputError: a missing folder.
    """
    words = read_list("cocostuff171_tag")
    home = first_folder(root, ["coco_stuff10k", "cocostuff-10k-v1.1", "."], "COCO-Stuff 10k")
    images = first_folder(home, [f"images/{split}2014", "images"], "images")
    masks = home / "annotations" / (f"{split}2014" if images.name.endswith("2014") else "")
    listed = home / "imageLists" / f"{split}.txt"
    ids = read_ids(listed) if listed.is_file() else named_files(images, ".jpg")
    meaning = without_zero(len(words))
    samples = [
        on_disk(id_, images / f"{id_}.jpg", masks / f"{id_}{CONVERTED_SUFFIX['coco-stuff']}.png", meaning)
        for id_ in ids
    ]
    return Dataset("coco-stuff10k", words, (), samples)


def raw_masks(root: Path, split: str) -> tuple[Path, Sequence[str]]:
    """Return the folder of raw masks, and their ids.

    Raises:
        InputError: there are no raw masks.
    """
    _, masks = _folders(root, f"{split}2017")
    ids = [name for name in named_files(masks, ".png") if "_" not in name]
    if not ids:
        raise InputError(f"No raw masks such as 000000000139.png in {masks}. Give COCO's folder.")
    return masks, ids


def _folders(root: Path, part: str) -> tuple[Path, Path]:
    homes = ("coco_stuff164k", "coco", ".")
    candidates = [f"{home}/{folder}" for home in homes for folder in (part, f"images/{part}")]
    images = first_folder(root, candidates, f"COCO's {part} images")
    home = images.parent.parent if images.parent.name == "images" else images.parent
    mask_folders = [folder.format(part=part) for folder in _MASKS]
    return images, first_folder(home, mask_folders, "COCO-Stuff's masks")


def _samples(
    root: Path, part: str, meanings: Mapping[str, Codes], listed: Mapping[str, tuple[int, ...]] | None
) -> list[Sample]:
    """Return one sample per image. `meanings` are mask suffixes; the first whose file exists is used."""
    images, masks = _folders(root, part)
    available = set(named_files(masks, ".png"))
    samples = []
    for id_ in listed or named_files(images, ".jpg"):
        suffix = next((suffix for suffix in meanings if f"{id_}{suffix}" in available), "")
        tags = listed[id_] if listed else None
        samples.append(
            on_disk(id_, images / f"{id_}.jpg", masks / f"{id_}{suffix}.png", meanings[suffix], tags)
        )
    return samples
