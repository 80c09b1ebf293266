"""Convert the published annotations of data sets to index PNGs."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import PIL.Image

from tagmask.checks import check_choice
from tagmask.data.coco_stuff import COARSE, CONVERTED_SUFFIX, OBJECT, STUFF, raw_masks
from tagmask.data.folders import first_folder, missing, named_files
from tagmask.data.instances import open_coco
from tagmask.data.lists import read_ids
from tagmask.data.mat_file import read_array
from tagmask.data.miniature import open_miniature, scene_image, scene_mask, scene_names, scene_tags
from tagmask.data.pixels import Codes, read_labels
from tagmask.data.prepare import Job
from tagmask.data.sample import Labels
from tagmask.data.scenes import CITY_IDS
from tagmask.data.voc import devkit
from tagmask.errors import ImageError, InputError
from tagmask.masks import index_png
from tagmask.reading import read_text
from tagmask.settings.parse import dataset_name
from tagmask.settings.words import read_list
from tagmask.types import Image

__all__ = ["CONVERTERS", "Converter", "jobs_of"]


_LARGEST_LABEL = 65535


@dataclass(frozen=True)
class Converter:
    """A conversion of one data set."""

    about: str
    """One line: source and result."""
    jobs: Callable[[Path, str], list[Job]]
    """Returns the jobs for the data set's root and a split."""
    splits: tuple[str, ...] = ("val", "train")
    """The first is the default."""


def jobs_of(name: str, root: Path, split: str | None = None) -> list[Job]:
    """Return the files that a converter will write, as jobs.

    Raises:
        InputError: an unknown converter or split, or a folder without the required files.
    """
    name = dataset_name(name)
    check_choice("data set to prepare", name, tuple(CONVERTERS))
    converter = CONVERTERS[name]
    if split is not None:
        check_choice(f"split of {name}", split, converter.splits)
    return converter.jobs(Path(root).expanduser(), split or converter.splits[0])


# -- From one index mask to another --------------------------------------------------------------------------


def _png(read: Callable[[], Labels]) -> bytes:
    return index_png(read().astype(np.uint8))


def _remap(source: Path, meaning: Codes) -> bytes:
    return _png(partial(read_labels, source, None, meaning))


def _stuff_jobs(suffix: str, meaning: Codes, root: Path, split: str) -> list[Job]:
    folder, ids = raw_masks(root, split)
    return [Job(folder / f"{i}{suffix}.png", partial(_remap, folder / f"{i}.png", meaning)) for i in ids]


def _city_jobs(root: Path, split: str) -> list[Job]:
    folder = first_folder(root, [f"cityscapes/gtFine/{split}", f"gtFine/{split}"], "Cityscapes' labels")
    cities = sorted(city for city in folder.iterdir() if city.is_dir())
    files = [city / f"{id_}_gtFine_" for city in cities for id_ in named_files(city, "_gtFine_labelIds.png")]
    return [
        Job(
            file.with_name(f"{file.name}labelTrainIds.png"),
            partial(_remap, file.with_name(f"{file.name}labelIds.png"), CITY_IDS),
        )
        for file in files
    ]


# -- From polygons, run lengths, MATLAB files and drawings ---------------------------------------------------


def _instances_jobs(year: str, root: Path, split: str) -> list[Job]:
    samples = open_coco(root, year, split).samples
    target = Path("semantic81") / f"{split}{year}"
    return [
        Job(root / target / f"{sample.id}.png", partial(_png, sample.read_mask))
        for sample in samples
        if sample.read_mask is not None
    ]


def _from_matlab(source: Path, name: str, meaning: Mapping[int, int]) -> bytes:
    values = read_array(source, name)
    if values.ndim != 2 or not values.size:
        raise ImageError(f"{source}: its {name!r} has the shape {values.shape}. A mask has (h, w).")
    table = np.full(max(meaning) + 2, -1)  # the last one stands for all unknown labels
    table[list(meaning)] = list(meaning.values())
    # NaN is unknown too.
    known = (values >= 0) & (values <= max(meaning)) & (values == np.floor(values))
    labels = table[np.where(known, values, len(table) - 1).astype(np.int64)]
    if labels.min() < 0:
        unknown = values[labels < 0].flat[0]
        whole = np.isfinite(unknown) and unknown == np.floor(unknown)
        raise ImageError(
            f"{source} has the unknown label {int(unknown) if whole else unknown}. "
            f"The data set has {len(meaning)} labels."
        )
    return _png(lambda: labels)


def _context_jobs(root: Path, split: str) -> list[Job]:
    """Map PASCAL Context's 459 labels to 59 by name, others to 0; also write the list of labelled images."""
    home = devkit(root, "2010")
    folder = first_folder(home, ["trainval", "context/trainval"], "PASCAL Context's MATLAB files")
    meaning = _context_meaning(folder.parent / "labels.txt")
    labelled = set(named_files(folder, ".mat"))
    ids = [i for i in read_ids(home / "ImageSets" / "Main" / f"{split}.txt") if i in labelled]
    if not ids:
        raise missing(f"No {split} image of {home} has a MATLAB file in {folder}", home)
    return [Job(home / "ImageSets" / "SegmentationContext" / f"{split}.txt", partial(_lines, ids))] + [
        Job(
            home / "SegmentationClassContext" / f"{id_}.png",
            partial(_from_matlab, folder / f"{id_}.mat", "LabelMap", meaning),
        )
        for id_ in ids
    ]


def _context_meaning(path: Path) -> dict[int, int]:
    """Map the numbers of `labels.txt` (lines `2: aeroplane`) to class indices; 0 stays 0."""
    try:
        text = read_text(path, "PASCAL Context's list of labels", "Give its labels.txt.")
        rows = [line.split(":", 1) for line in text.splitlines() if line.strip()]
        numbers = {name.strip(): _label(number) for number, name in rows}
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path} has a line that is not 'NUMBER: NAME' ({error}). Download it again."
        ) from error
    words = read_list("sclip_context59")
    absent = [word for word in words if word not in numbers]
    if absent:
        raise InputError(f"{path} lacks {', '.join(absent)}. Give the labels.txt of the 459 labels.")
    return {0: 0} | dict.fromkeys(numbers.values(), 0) | {numbers[w]: i for i, w in enumerate(words, start=1)}


def _label(text: str) -> int:
    label = int(text)
    if not 0 <= label <= _LARGEST_LABEL:
        raise ValueError(f"{text.strip()[:20]} is no label")
    return label


def _stuff10k_jobs(root: Path, split: str) -> list[Job]:
    home = first_folder(root, ["coco_stuff10k", "cocostuff-10k-v1.1", "."], "COCO-Stuff 10k")
    ids = read_ids(home / "imageLists" / f"{split}.txt")
    # The 10k release counts raw ids from 1; the toolboxes' converted masks count classes from 1.
    meaning = {0: 0} | {raw + 1: index + 1 for raw, index in enumerate(STUFF[:182]) if index >= 0}
    return [
        Job(
            home / "annotations" / f"{id_}{CONVERTED_SUFFIX['coco-stuff']}.png",
            partial(_from_matlab, home / "annotations" / f"{id_}.mat", "S", meaning),
        )
        for id_ in ids
    ]


def _rgb_png(read: Callable[[], Image]) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(read()).save(file, "PNG")
    return file.getvalue()


def _miniature_jobs(root: Path, split: str) -> list[Job]:
    """Write the drawn scenes in the layout of `folder`."""
    jobs = [Job(root / "classes.txt", partial(_lines, open_miniature(split).classes))]
    names = scene_names(split)
    for name in names:
        seed = int(name)
        jobs.append(Job(root / "images" / f"{name}.png", partial(_rgb_png, partial(scene_image, seed))))
        jobs.append(Job(root / "masks" / f"{name}.png", partial(_png, partial(scene_mask, seed))))
    return [*jobs, Job(root / "tags.txt", partial(_scene_tags, names))]


def _scene_tags(names: Sequence[str]) -> bytes:
    return _lines([" ".join([name, *map(str, scene_tags(int(name)))]) for name in names])


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {
        "coco-object": Converter(
            "COCO-Stuff's raw masks -> NAME_instanceTrainIds.png in the same folder (81 classes)",
            partial(_stuff_jobs, CONVERTED_SUFFIX["coco-object"], OBJECT),
        ),
        "coco-stuff": Converter(
            "COCO-Stuff's raw masks -> NAME_labelTrainIds.png in the same folder (171 classes)",
            partial(_stuff_jobs, CONVERTED_SUFFIX["coco-stuff"], STUFF),
        ),
        "coco-stuff27": Converter(
            "COCO-Stuff's raw masks -> NAME_coarse27.png in the same folder (27 groups)",
            partial(_stuff_jobs, "_coarse27", COARSE),
        ),
        "coco-stuff10k": Converter(
            "the 10k release's MATLAB files -> NAME_labelTrainIds.png in the same folder",
            _stuff10k_jobs,
            ("test", "train"),
        ),
        "coco2014": Converter(
            "instances -> semantic81/val2014/NAME.png (81 classes)", partial(_instances_jobs, "2014")
        ),
        "coco2017": Converter(
            "instances -> semantic81/val2017/NAME.png (81 classes)", partial(_instances_jobs, "2017")
        ),
        "context": Converter(
            "MATLAB files with 459 labels -> SegmentationClassContext and its list", _context_jobs
        ),
        "cityscapes": Converter("labelIds -> labelTrainIds in the same folder (19 classes)", _city_jobs),
        "miniature": Converter(
            "drawn scenes -> images/, masks/, classes.txt, tags.txt (the layout of `folder`)",
            _miniature_jobs,
            ("test", "long"),
        ),
    }
)
"""Converters by name."""
