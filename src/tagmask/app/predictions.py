"""Tags and masks of an image as Label Studio's results."""

import uuid
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tagmask.app.label_config import Control
from tagmask.regions import class_regions, components
from tagmask.regions.run_lengths import brush_rle
from tagmask.results import Segmentation, Tags
from tagmask.types import Size

__all__ = ["Prediction", "RegionOptions", "brush_results", "choice_results"]

_PLACES: Final = 4


@dataclass(frozen=True)
class RegionOptions:
    """How masks become regions."""

    kind: Literal["class", "component"] = "class"
    """One region for each label found, or one for each connected part."""
    min_area: int = 1
    """Smaller regions are left out, in pixels."""


@dataclass(frozen=True)
class Prediction:
    """The results of one image."""

    result: list[dict[str, Any]] = field(default_factory=list)
    score: float = 0.0
    """The lowest confidence among the results, 0..1."""


def brush_results(
    control: Control, segmentation: Segmentation, options: RegionOptions
) -> list[dict[str, Any]]:
    """Return a brush mask for each region of a segmentation whose classes are the control's labels."""
    labels, first = segmentation.labels, int(segmentation.background)
    end = first + len(control.labels)
    confidence = segmentation.class_confidence or {}
    regions = (
        class_regions(labels, first, end)
        if options.kind == "class"
        else components(labels, first, end, options.min_area)
    )
    size = labels.shape[0], labels.shape[1]
    return [
        {
            **_result(control, size),
            "value": {
                "format": "rle",
                "rle": brush_rle(region.full(size)),
                "brushlabels": [control.labels[region.label - first].name],
            },
            "score": _score(confidence[segmentation.words[region.label]]),
        }
        for region in regions
        if region.area >= options.min_area
    ]


def choice_results(control: Control, tags: Tags, size: Size) -> list[dict[str, Any]]:
    """Return one result with the choices that a tagger found, best first; none if it found none."""
    best_first = sorted(tags.chosen, key=lambda index: (-float(tags.scores[index]), index))
    chosen = best_first[:1] if control.single else best_first
    if not chosen:
        return []
    return [
        {
            **_result(control, size),
            "value": {"choices": [control.labels[index].name for index in chosen]},
            "score": _score(float(tags.scores[chosen[-1]])),
        }
    ]


def _result(control: Control, size: Size) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex[:10],
        "type": control.kind,
        "from_name": control.from_name,
        "to_name": control.to_name,
        "origin": "manual",
        "image_rotation": 0,
        "original_width": size[1],
        "original_height": size[0],
    }


def _score(value: float) -> float:
    """A score as Label Studio accepts it: 0..1."""
    return round(min(max(value, 0.0), 1.0), _PLACES)
