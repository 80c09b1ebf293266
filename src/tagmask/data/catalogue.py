"""All data sets by name: how to open them, their splits, where to download them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from tagmask.checks import check_choice, did_you_mean, shown
from tagmask.data.coco_stuff import open_coco_object, open_coco_stuff, open_coco_stuff10k
from tagmask.data.instances import open_coco
from tagmask.data.miniature import open_miniature
from tagmask.data.pairs import open_pairs
from tagmask.data.sample import Dataset
from tagmask.data.scenes import open_ade20k, open_cityscapes, open_context
from tagmask.data.voc import open_voc_masks, open_voc_tags
from tagmask.errors import InputError
from tagmask.plugins import load_installed
from tagmask.settings.parse import class_lines, dataset_name

__all__ = [
    "DATASETS",
    "Entry",
    "entry",
    "known_datasets",
    "open_dataset",
    "register_dataset",
    "registered_dataset",
    "split_of",
]


@dataclass(frozen=True)
class Entry:
    """A data set, or a variant of its labels."""

    about: str
    """One line: its labels."""
    open: Callable[[Path, str], Dataset]
    """Opens it from its root and the name of a split."""
    splits: Mapping[str, int | None]
    """Published number of images per split (None: any number); the first split is the default."""
    source: str
    """Where to download it, as text."""
    own_lists: bool = False
    """Whether a user's own list, in the folder of the published lists, is also a split."""
    words: tuple[str, ...] = ()
    """Registered data sets only: the class lines of its recipes, METHOD/NAME; empty if it has none."""
    background: tuple[str, ...] | None = None
    """Background texts of those recipes; None for the method's own."""


_VOC07_SPLITS = {"test": 4952, "trainval": 5011, "train": 2501, "val": 2510}
_VOC12_SPLITS = {"val": 1449, "train": 1464, "trainval": 2913, "trainaug": 10582}
_COCO17_SPLITS = {"val": 5000, "train": 118287}
_VOC07 = (
    "PASCAL VOC's site: VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar, unpacked into one folder"
)
_VOC12 = (
    "PASCAL VOC's site: VOCtrainval_11-May-2012.tar; for trainaug also SBD's masks as index PNGs "
    "(SegmentationClassAug) and its list trainaug.txt; for test, which has no masks, VOC2012test.tar"
)
_CONTEXT = (
    "PASCAL VOC's site: VOCtrainval_03-May-2010.tar; PASCAL-Context's site: trainval.tar.gz (MATLAB files) "
    "and labels.txt, copied into VOC2010, then `tagmask data prepare context ROOT`"
)
_COCO = "COCO's site: the images {0}2017.zip (2014: {0}2014.zip) and annotations_trainval2017.zip (2014)"
_STUFF = "COCO's site: val2017.zip, train2017.zip; COCO-Stuff's page: stuffthingmaps_trainval2017.zip"
_STUFF10K = (
    "COCO-Stuff's page: cocostuff-10k-v1.1.zip (MATLAB files), then `tagmask data prepare coco-stuff10k ROOT`"
)
_ADE = "the MIT Scene Parsing Benchmark's site: ADEChallengeData2016.zip"
_CITY = "Cityscapes' site, with an account: leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"

_ENTRIES = {
    "voc2007": Entry(
        "tags, 20 classes; difficult objects count as present (TagCLIP)",
        lambda root, split: open_voc_tags(root, "2007", split, "present"),
        _VOC07_SPLITS | {"tagclip-test": 4952},
        _VOC07,
        own_lists=True,
    ),
    "voc2007-devkit": Entry(
        "tags, 20 classes; classes with only difficult objects are left out of scoring (the devkit)",
        lambda root, split: open_voc_tags(root, "2007", split, "left out"),
        _VOC07_SPLITS,
        _VOC07,
        own_lists=True,
    ),
    "voc2007-sure": Entry(
        "tags, 20 classes; difficult objects count as absent (TaI-DPT)",
        lambda root, split: open_voc_tags(root, "2007", split, "absent"),
        _VOC07_SPLITS,
        _VOC07,
        own_lists=True,
    ),
    "voc2012": Entry(
        "tags, 20 classes, and masks, 21, of the segmentation split; difficult objects count as present",
        lambda root, split: open_voc_tags(root, "2012", split, "present"),
        _VOC12_SPLITS | {"tagclip-val": 1449, "test": 1456},
        _VOC12,
        own_lists=True,
    ),
    "voc21": Entry(
        "masks, 20 classes and background",
        lambda root, split: open_voc_masks(root, split, background=True),
        _VOC12_SPLITS,
        _VOC12,
        own_lists=True,
    ),
    "voc20": Entry(
        "masks, 20 classes; background pixels are not scored",
        lambda root, split: open_voc_masks(root, split, background=False),
        _VOC12_SPLITS,
        _VOC12,
        own_lists=True,
    ),
    "context60": Entry(
        "masks, PASCAL Context's 59 classes and background",
        lambda root, split: open_context(root, split, background=True),
        {"val": 5105, "train": 4998},
        _CONTEXT,
    ),
    "context59": Entry(
        "masks, PASCAL Context's 59 classes; background pixels are not scored",
        lambda root, split: open_context(root, split, background=False),
        {"val": 5105, "train": 4998},
        _CONTEXT,
    ),
    "coco2014": Entry(
        "tags, 80 classes, and masks, 81, drawn from the instances",
        lambda root, split: open_coco(root, "2014", split),
        {"val": 40504, "train": 82783},
        _COCO.format("val"),
    ),
    "coco2017": Entry(
        "tags, 80 classes, and masks, 81, drawn from the instances",
        lambda root, split: open_coco(root, "2017", split),
        {**_COCO17_SPLITS, "tagclip-val": 4952},
        _COCO.format("val"),
    ),
    "coco-object": Entry(
        "masks, 80 classes and background, derived from COCO-Stuff (SCLIP)",
        open_coco_object,
        _COCO17_SPLITS,
        _STUFF,
    ),
    "coco-stuff": Entry(
        "masks, 171 classes; the split curated also has tags",
        open_coco_stuff,
        _COCO17_SPLITS | {"curated": 4172},
        _STUFF,
    ),
    "coco-stuff27": Entry(
        "masks, 27 groups of classes; tags, 171 (TagCLIP, CLS-SEG)",
        lambda root, split: open_coco_stuff(root, split, coarse=True),
        {"curated": 4172, **_COCO17_SPLITS},
        _STUFF,
    ),
    "coco-stuff10k": Entry(
        "masks, 171 classes, on images of COCO 2014",
        open_coco_stuff10k,
        {"test": 1000, "train": 9000},
        _STUFF10K,
    ),
    "ade20k": Entry("masks, 150 classes", open_ade20k, {"val": 2000, "train": 20210}, _ADE),
    "cityscapes": Entry("masks, 19 classes", open_cityscapes, {"val": 500, "train": 2975}, _CITY),
    "folder": Entry(
        "your own folder: classes.txt, images/, and masks/ (index PNGs) or tags.txt or both",
        open_pairs,
        {"all": None},
        "your own images and masks",
        own_lists=True,
    ),
    "miniature": Entry(
        "drawn scenes with exact ground truth: tags, 24 classes, and masks, 25; needs no folder",
        lambda _, split: open_miniature(split),
        {"test": 300, "long": 5000},
        "none needed: it is drawn",
    ),
}

DATASETS: Mapping[str, Entry] = MappingProxyType(_ENTRIES)
"""Built-in data sets by name."""

_REGISTERED: dict[str, Entry] = {}
"""Data sets added by `register_dataset`, until the process ends."""


def known_datasets() -> Mapping[str, Entry]:
    """Return all data sets by name, registered ones last."""
    load_installed()
    return {**DATASETS, **_REGISTERED}


def registered_dataset(name: str) -> Entry | None:
    """Return the data set that a user has registered with this name, or None."""
    if name in DATASETS:
        return None
    load_installed()
    return _REGISTERED.get(name)


def register_dataset(
    name: str,
    open: Callable[[Path, str], Dataset],
    *,
    words: Sequence[str] = (),
    background: Sequence[str] | None = None,
    splits: Mapping[str, int | None] | None = None,
    about: str = "custom data set",
    source: str = "registered with tagmask.register_dataset",
) -> None:
    """Add a data set of your own: `tagmask bench` and `tagmask data` then take its name.

    With `words`, every method has a recipe for it, METHOD/NAME, with the settings for own words. Without, it
    can be used where the words come from elsewhere: `bench run RECIPE --dataset NAME`, `bench masks`.

    Args:
        name: lower-case letters, digits and hyphens; not the name of a built-in data set. A data set that was
            registered under this name is replaced.
        open: a function from its folder and the name of a split to its samples.
        words: class lines, one for each class but the background, in the order of its labels and tags.
        background: background texts of masks. None: those of the method. []: masks without a background
            class, whose label 0 is the first word.
        splits: number of images of each split, None for any number; the first is the default. Default: a
            split "all".
        about: a line for `tagmask data list`.
        source: where to download it, as text.

    Raises:
        InputError: an invalid name, or that of a built-in data set; no splits; invalid words.

    Example:
        >>> register_dataset("two-scenes", lambda root, split: open_dataset("miniature", root), words=["cat"])
        >>> entry("two-scenes").about
        'custom data set'
    """
    if name in DATASETS or dataset_name(name) != name:
        raise InputError(f"Data set {name!r} is built in. Register yours under another name.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise InputError(f"Invalid data set name {name!r}. Use lower-case letters, digits and hyphens.")
    if splits is not None and not splits:
        raise InputError(f"Data set {name!r} has no splits. Give one, as in splits={{'val': None}}.")
    _REGISTERED[name] = Entry(
        about=about,
        open=open,
        splits=dict(splits or {"all": None}),
        source=source,
        words=class_lines("words", words),
        background=None if background is None else class_lines("background", background),
    )


def entry(name: str) -> Entry:
    """Return the entry called `name`.

    Raises:
        InputError: an unknown name.
    """
    name = dataset_name(name)
    found = DATASETS.get(name) or registered_dataset(name)
    if found is None:
        hint = did_you_mean(name, known_datasets())
        raise InputError(f"Unknown data set {shown(name)}.{hint} See `tagmask data list`.")
    return found


def split_of(name: str, split: str | None) -> str:
    """Return the given split, or the data set's default.

    Raises:
        InputError: an unknown data set or split.
    """
    known = entry(name)
    if split is None:
        return next(iter(known.splits))
    if not known.own_lists:
        check_choice(f"split of {name}", split, tuple(known.splits))
    return split


def open_dataset(name: str, root: Path, split: str | None = None) -> Dataset:
    """Open a data set: reads its lists and annotations; images and masks are read on demand.

    Args:
        name: one of `DATASETS`, or a registered one.
        root: its folder; for most data sets the parent folder also works.
        split: one of its splits; None for the default, which papers report on.

    Returns:
        The data set. A missing or damaged image or mask raises when it is read, so that a run can count it;
        `tagmask.data.check` finds all of them in advance.

    Raises:
        InputError: an unknown name or split, or a folder without the required files.

    Example:
        >>> scenes = open_dataset("miniature", Path())
        >>> len(scenes.samples), scenes.samples[0].read_image().shape
        (300, (240, 320, 3))
    """
    known, split = entry(name), split_of(name, split)
    return replace(known.open(Path(root).expanduser(), split), name=dataset_name(name))
