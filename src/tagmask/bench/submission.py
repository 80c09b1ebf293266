"""Archives of masks in the layout that PASCAL VOC 2012's evaluation server takes.

    results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png

An index PNG per image of the split, of the image's size, with values 0 (background) to 20. The competition
says what the method was trained on: comp5 on VOC 2012's own training data alone, comp6 on any data.
"""

import io
import tarfile
from collections.abc import Iterable
from contextlib import ExitStack
from gzip import GzipFile
from pathlib import Path
from typing import IO, TypeAlias, cast

import numpy as np
from jaxtyping import UInt8, UInt16

from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.files import atomic_open
from tagmask.masks import IndexMap, index_png

__all__ = ["COMPETITIONS", "DATA_SETS", "Mask", "Submission"]

COMPETITIONS = ("comp5", "comp6")
DATA_SETS = ("voc2012", "voc21")
"""Data sets that the server scores."""

_CLASSES = 21

Mask: TypeAlias = UInt8[np.ndarray, "_ _"] | UInt16[np.ndarray, "_ _"]
"""Class per pixel; masks differ in size."""


class Submission:
    """An archive to write for the server.

    Args:
        file: the archive; `.tar`, or `.tar.gz` or `.tgz`, which are compressed.
        data: name of the data set.
        split: name of its split.
        competition: "comp5": trained on VOC 2012's own data alone; "comp6": on any data, such as a CLIP.

    Raises:
        InputError: another data set, an unknown competition, or a file with another ending.

    Source:
        The development kit of PASCAL VOC 2012 (Everingham and Winn, 2012): "Segmentation task".
    """

    def __init__(self, file: Path, data: str, split: str, competition: str = "comp6") -> None:
        check_choice("competition", competition, COMPETITIONS)
        if data not in DATA_SETS:
            raise InputError(
                f"The server scores PASCAL VOC 2012, not {data}. Give --dataset {' or '.join(DATA_SETS)}."
            )
        if not file.name.endswith((".tar", ".tar.gz", ".tgz")):
            raise InputError(f"The submission {file} is no archive. Name it FILE.tar or FILE.tar.gz.")
        self.file = file
        self.folder = f"results/VOC2012/Segmentation/{competition}_{split}_cls"

    def write(self, masks: Iterable[tuple[str, Mask]]) -> int:
        """Write the archive, the same bytes for the same masks.

        Args:
            masks: the id and the labels of every image of the split.

        Returns:
            The number of masks.

        Raises:
            InputError: a mask holds a value that the server refuses; no file is written.
            OutputError: the file cannot be written.
        """
        count = 0
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(atomic_open(self.file))
            if not self.file.name.endswith(".tar"):
                # Without a time in its header, which would make the same masks another file.
                zipped = GzipFile(fileobj=file, mode="wb", filename="", mtime=0)
                file = cast(IO[bytes], stack.enter_context(zipped))
            archive = stack.enter_context(tarfile.open(fileobj=file, mode="w"))
            for id_, labels in masks:
                content = index_png(_checked(id_, labels))
                entry = tarfile.TarInfo(f"{self.folder}/{id_}.png")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                count += 1
        return count


def _checked(id_: str, labels: IndexMap) -> IndexMap:
    highest = int(labels.max(initial=0))
    if highest >= _CLASSES:
        raise InputError(
            f"The mask of {id_} has the value {highest}, which the server refuses. Give masks in which every "
            f"pixel has a class, 0 to {_CLASSES - 1}."
        )
    return labels.astype(np.uint8)
