"""A CVAT auto-annotation function: masks, polygons or tags of your words in a task's images.

    cvat-cli task auto-annotate 12 --function-module tagmask.bridges.cvat -p words=str:"cat;dog"

cvat-cli calls `create` with the parameters given by `-p NAME=TYPE:VALUE`. The task needs labels with the
words' names.

Source:
    cvat-sdk 2.80.0: auto_annotation/interface.py, auto_annotation/driver.py and masks.py.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image

from tagmask.api import Segmenter, Tagger
from tagmask.checks import check_choice, check_installed, check_number
from tagmask.clip.load import load
from tagmask.regions import REGION_KINDS, Region, components, corner_ring
from tagmask.regions.run_lengths import row_runs
from tagmask.settings.parse import is_automatic

if TYPE_CHECKING:
    from cvat_sdk.auto_annotation import (
        DetectionAnnotation,
        DetectionFunctionContext,
        DetectionFunctionSpec,
    )

__all__ = ["DetectionFunction", "create"]

_LOG = logging.getLogger(__name__)


class DetectionFunction:
    """What CVAT's driver calls with each image.

    Args:
        spec: the labels.
        annotate: gives the annotations of an image.
    """

    def __init__(
        self,
        spec: "DetectionFunctionSpec",
        annotate: Callable[["DetectionFunctionContext", PIL.Image.Image], "list[DetectionAnnotation]"],
    ) -> None:
        self.spec = spec
        self._annotate = annotate

    def detect(
        self, context: "DetectionFunctionContext", image: PIL.Image.Image
    ) -> "list[DetectionAnnotation]":
        """Return the annotations of an image; none if it fails, with the reason in the log.

        It never raises: CVAT's driver uploads a task's annotations at the end, so that an exception would
        lose those of all images before.

        Args:
            context: its `conf_threshold` is the least confidence, 0..1, or None for no limit; with
                `conv_mask_to_poly`, masks are returned as polygons.
            image: an image of the task.
        """
        try:
            return self._annotate(context, image)
        except Exception:
            _LOG.exception("No annotations for %s", getattr(context, "frame_name", "an image"))
            return []


def create(
    words: str | Sequence[str],
    weights: str | None = None,
    method: str | None = None,
    background: str | Sequence[str] | None = None,
    annotations: str = "masks",
    regions: str = "component",
    min_area: int = 1,
    device: str = "auto",
    precision: str = "auto",
    **settings: Any,  # noqa: ANN401
) -> DetectionFunction:
    """Make a detection function; this loads the weights.

    Args:
        words: separated by semicolons, as in "cat;dog, puppy", or a list. A label has the name of its word,
            without synonyms.
        weights: as in `tagmask.load`.
        method: of `tagmask.methods()`.
        background: texts for everything that matches no word, as `words`; "" for no background, "auto" for
            words chosen to be unlike `words`.
        annotations: "masks", or "tags" for labels of whole images.
        regions: one mask per "component" (connected part) or per "class".
        min_area: least number of pixels of a mask; smaller ones are left out.
        device: as in `tagmask.load`.
        precision: as in `tagmask.load`.
        **settings: of `Segmenter` or `Tagger`, such as prob_thd=0.3.

    Raises:
        InputError: cvat-sdk is not installed, or unusable words or settings.
        WeightsError: unusable weights.
    """
    check_installed("The CVAT function", "cvat")
    check_choice("annotations", annotations, ("masks", "tags"))
    check_choice("regions", regions, REGION_KINDS)
    check_number("min_area", min_area, 1, whole=True)
    texts = _texts(words)
    others = background if background is None or is_automatic(background) else _texts(background)
    if method is not None:
        settings["method"] = method
    clip = load(weights, device=device, precision=precision)
    if annotations == "tags":
        tagger = Tagger(clip, texts, background=others, **settings)
        return DetectionFunction(_spec(tagger.words, 0, "tag"), lambda *call: _tags(tagger, *call))
    segmenter = Segmenter(clip, texts, background=others, **settings)
    spec = _spec(segmenter.words, int(segmenter.background), "mask")
    return DetectionFunction(spec, lambda *call: _masks(segmenter, regions, min_area, *call))


def _texts(words: str | Sequence[str]) -> list[str]:
    if isinstance(words, str):
        return [word.strip() for word in words.split(";") if word.strip()]
    return list(words)


def _spec(words: Sequence[str], first: int, kind: str) -> "DetectionFunctionSpec":
    from cvat_sdk import auto_annotation as cvat

    labels = [cvat.label_spec(words[label], label, type=kind) for label in range(first, len(words))]
    return cvat.DetectionFunctionSpec(labels=labels)


def _tags(
    tagger: Tagger, context: "DetectionFunctionContext", image: PIL.Image.Image
) -> "list[DetectionAnnotation]":
    from cvat_sdk import auto_annotation as cvat

    tags, least = tagger(image), context.conf_threshold
    return [cvat.tag(c) for c in tags.chosen if least is None or tags.scores[c] >= least]


def _masks(
    segmenter: Segmenter,
    regions: str,
    min_area: int,
    context: "DetectionFunctionContext",
    image: PIL.Image.Image,
) -> "list[DetectionAnnotation]":
    from cvat_sdk import auto_annotation as cvat

    seg, least = segmenter(image, confidence=True), context.conf_threshold
    confidence = seg.class_confidence or {}
    found: list[DetectionAnnotation] = []
    for region in seg.regions(regions, min_area=min_area):
        score = min(confidence[seg.words[region.label]], 1.0)
        if least is not None and score < least:
            continue
        if not context.conv_mask_to_poly:
            found.append(cvat.mask(region.label, _mask_points(region), score=score))
            continue
        found += [cvat.polygon(region.label, points, score=score) for points in _polygon_points(region)]
    return found


def _mask_points(region: Region) -> list[float]:
    """Return run lengths by rows inside the box, outside pixels first, then the box with its last pixels."""
    x0, y0, x1, y1 = region.box
    return [*map(float, row_runs(region.mask).tolist()), *map(float, (x0, y0, x1 - 1, y1 - 1))]


def _polygon_points(region: Region) -> list[list[float]]:
    """Return one outline along the pixels' edges for each connected part, with holes cut open."""
    corner = np.array([region.left, region.top])
    return [
        (corner_ring(part.mask) + corner + (part.left, part.top)).ravel().astype(float).tolist()
        for part in components(region.mask.view(np.uint8), 1, 2)
    ]
