"""MCTformer's localisation maps of images, computed once and kept as files.

    FOLDER/run.json    what decides the maps
    FOLDER/NAME.npz    one array per class of the image's tags, named by its number (see `cam_files`)

An image without tags has no file.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np

from tagmask import __version__
from tagmask.files import write_bytes
from tagmask.images import read_image
from tagmask.papers.mctformer import PUBLISHED_MAPS, localisation_maps
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.runtime.tag_files import tags_of
from tagmask.weak.cam_files import Cams, read_cams
from tagmask.weak.mctformer_file import TrainedMctFormer

__all__ = ["LONGEST", "MapFiles", "write_maps"]

LONGEST: Final = 1024
"""Longer sides are reduced to this for the network, so that large photos fit in memory. PASCAL VOC and COCO
have none."""


class MapFiles:
    """The maps of images, by the images' whole relative names.

    Args:
        trained: computes the maps, with the published settings of its version.
        images: all images, which decide the files' names.
        tags: of the images, as `read_tags` returns them.
        folder: of the files.
        identity: what else decides the maps, as JSON values, such as a hash of the model.

    Raises:
        InputError: the folder has maps of another model or of other tags.
        OutputError: the folder is not writable.
    """

    def __init__(
        self,
        trained: TrainedMctFormer,
        images: Sequence[FoundImage],
        tags: Mapping[str, Sequence[int]],
        folder: Path,
        identity: Mapping[str, object],
    ) -> None:
        self._maps = replace(PUBLISHED_MAPS[trained.net.shape.version], longest=LONGEST)
        self._trained, self._tags, self._folder = trained, tags, folder
        self._names = dict(zip(images, map(str, output_names(images)), strict=True))
        settings = {"words": list(trained.words), **identity, **self.settings}
        RunFolder.open(folder, RunIdentity("maps", settings, {"tagmask": __version__}), images=False).close()

    @property
    def settings(self) -> dict[str, object]:
        """The settings of the maps, as JSON values."""
        return {f"maps.{name}": value for name, value in asdict(self._maps).items()}

    def of(self, image: FoundImage) -> Cams:
        """Read or compute the maps of an image; empty without tags.

        Raises:
            InputError: there are no tags for the image, or its file is damaged.
            ImageError: the image cannot be read.
            ShapeError: the image is smaller than a patch, or a file has maps of another size.
            OutputError: the file cannot be written.
        """
        tags = tags_of(image, self._tags)
        if not tags:
            return {}
        pixels, path = read_image(image.path), self._folder / f"{self._names[image]}.npz"
        if path.exists():
            return read_cams(path, len(self._trained.words), (pixels.shape[0], pixels.shape[1]))
        maps = localisation_maps(self._trained.net, pixels, tags, self._maps)
        write_maps(path, maps)
        return maps


def write_maps(path: Path, maps: Cams) -> None:
    """Write maps to a `.npz` file that `read_cams` reads, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    arrays = {str(c): cam for c, cam in maps.items()}
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # mypy matches names with its flags
    write_bytes(path, buffer.getvalue())
