"""Region proposals as COCO's annotations, in Python or in JSON.

    {"segmentation": RLE, "area": ..., "bbox": ...}     of SAM's automatic mask generator, or of COCO
    {"size": [h, w], "counts": "..." or [...]}          run lengths alone, compressed or not

Only the segmentation is used: run lengths, polygons (which need pycocotools), or, in Python, a boolean array.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tagmask.data.regions import RegionError, RegionWork, region_runs
from tagmask.errors import InputError
from tagmask.json_items import list_items, object_items
from tagmask.regions.proposals import ProposalBuilder, Proposals
from tagmask.types import Size

__all__ = ["json_annotations", "read_annotations"]


def read_annotations(annotations: Iterable[object], size: Size) -> Proposals:
    """Return the regions of an image's annotations.

    Args:
        annotations: in any of the forms above.
        size: (h, w) of the image.

    Raises:
        InputError: naming the first invalid annotation.

    Example:
        >>> read_annotations([{"size": [1, 3], "counts": [1, 2]}], (1, 3)).index_map().tolist()
        [[-1, 0, 0]]
    """
    builder, work = ProposalBuilder(size), RegionWork(size[0] * size[1])
    for number, annotation in enumerate(annotations, start=1):
        try:
            _add(builder, annotation, work)
        except RegionError as error:
            raise InputError(f"region {number} is invalid: {error}") from error
    return builder.proposals()


def _add(builder: ProposalBuilder, annotation: object, work: RegionWork) -> None:
    if not isinstance(annotation, Mapping):
        raise RegionError("it is no object with a segmentation")
    region = annotation if "counts" in annotation else annotation.get("segmentation")
    if isinstance(region, np.ndarray):
        if region.dtype != bool or region.shape != builder.size:
            raise RegionError(
                f"its mask is {region.shape} of {region.dtype}, not bool of the image's size {builder.size}"
            )
        builder.add_mask(region)
        return
    parts = [np.array(runs, np.int64) for runs in region_runs(_plain(region), builder.size, work)]
    for runs in parts:
        # What is decoded: the columns from the region's first pixel to its last.
        work.paint(int(runs.sum()) - int(runs[:1].sum()) - (int(runs[-1]) if len(runs) % 2 else 0))
    if len(parts) == 1:
        builder.add_columns(parts[0])
    elif parts:
        builder.add_columns(_united(parts))


def _plain(region: object) -> object:
    """The segmentation as JSON has it: pycocotools gives bytes, others tuples."""
    if not isinstance(region, Mapping):
        return region
    size, counts = region.get("size"), region.get("counts")
    return {
        "size": list(size) if isinstance(size, tuple) else size,
        "counts": counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts,
    }


def _united(parts: list[np.ndarray]) -> np.ndarray:
    """Run lengths of the union of several parts."""
    flat = np.zeros(int(parts[0].sum()), bool)
    for runs in parts:
        flat |= np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(np.concatenate([[0], edges, [flat.size]]))


def json_annotations(data: bytes) -> Iterator[Any]:
    """Yield the annotations of one image from JSON, one by one: a list, or an object with `annotations`.

    Raises:
        ValueError: it is neither, or is not JSON.
    """
    text = data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")  # one character for each byte
    try:
        if text.lstrip(" \t\r\n").startswith("["):
            for annotation, _, _ in list_items(text):
                yield annotation
            return
        # An empty list yields nothing; a text without the word has no such list.
        if '"annotations"' not in text:
            raise ValueError("it is neither a list of regions nor an object with annotations")
        for key, value, _, _ in object_items(text, "annotations"):
            if key == "annotations":
                yield value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
