"""The settings of the methods that came after SCLIP, and run in its harness.

All read SCLIP's class files, so that rows compare. ClearCLIP and SFP were published with other names for a
few classes: "clearclip+names/voc21" has those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from tagmask.settings.kinds import MaskRecipe

__all__ = ["family"]

_SETS = ("voc21", "voc20", "context60", "context59", "coco-object", "coco-stuff", "cityscapes", "ade20k")
_BACKGROUND = ("voc21", "context60", "coco-object")


@dataclass(frozen=True)
class _Protocol:
    """What one method changes of SCLIP's harness, data set by data set."""

    logit_scale: float = 40.0
    scales: Mapping[str, float] = field(default_factory=dict)
    """Where another."""
    thresholds: tuple[float, float, float] = (0.1, 0.1, 0.1)
    """`prob_thd` of VOC21, Context60 and COCO-Object; the others have none."""
    area_thd: float | None = None
    """Of VOC21."""
    short_sides: Mapping[str, int] = field(default_factory=dict)
    """Where not 336, and 560 for Cityscapes."""
    every: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every data set."""
    some: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of one data set."""


_WHOLE = {"crop": None, "two_resizes": True}
"""NACLIP and ResCLIP look at VOC's photos whole, and resize twice."""


def _residual(temp: float, rcs_share: float, sfr_scale: float, sfr_share: float = 0.7) -> dict[str, float]:
    """ResCLIP's numbers for one data set."""
    return {"temp_thd": temp, "rcs_share": rcs_share, "sfr_scale": sfr_scale, "sfr_share": sfr_share}


_PROTOCOLS: Mapping[str, _Protocol] = MappingProxyType(
    {
        # These four have no settings in this harness: NACLIP's, with windows everywhere.
        "clip": _Protocol(),
        "maskclip": _Protocol(),
        "clip-surgery": _Protocol(),
        "gem": _Protocol(),
        "clearclip": _Protocol(
            logit_scale=50.0,
            thresholds=(0.5, 0.15, 0.4),
            short_sides=MappingProxyType(dict.fromkeys(_SETS, 448)),
            every=MappingProxyType({"crop": 448, "stride": 224, "pad_windows": True}),
            some=MappingProxyType({"cityscapes": {"crop": 224, "stride": 224}}),
        ),
        "naclip": _Protocol(some=MappingProxyType({"voc21": _WHOLE, "voc20": _WHOLE})),
        "resclip": _Protocol(
            some=MappingProxyType(
                {
                    "voc21": {**_WHOLE, **_residual(0.50, 0.3, 2.2)},
                    "voc20": {**_WHOLE, **_residual(0.10, 0.6, 2.1, 0.6)},
                    "context60": _residual(0.30, 0.3, 1.8),
                    "context59": _residual(0.25, 0.4, 1.8),
                    "coco-object": _residual(0.11, 0.4, 1.8),
                    "coco-stuff": _residual(0.11, 0.4, 1.8),
                    "cityscapes": _residual(0.10, 0.2, 2.1, 0.6),
                    "ade20k": _residual(0.25, 0.3, 2.1),
                }
            )
        ),
        "sc-clip": _Protocol(
            scales=MappingProxyType({"voc21": 50.0, "coco-object": 55.0}),
            thresholds=(0.15, 0.15, 0.35),
            area_thd=0.1,
        ),
        "sfp": _Protocol(
            scales=MappingProxyType({"voc21": 50.0, "coco-object": 55.0}),
            thresholds=(0.15, 0.15, 0.35),
            area_thd=0.1,
            short_sides=MappingProxyType({"ade20k": 384}),
        ),
    }
)


def family(sclip: Mapping[str, MaskRecipe], pamr_steps: int = 0) -> list[MaskRecipe]:
    """Recipes "METHOD/DATASET" of every method, from SCLIP's recipes by data set."""
    suffix = "+pamr" if pamr_steps else ""
    found = []
    for method, protocol in _PROTOCOLS.items():
        for dataset in _SETS:
            made = replace(_recipe(method, protocol, dataset, sclip[dataset]), pamr_steps=pamr_steps)
            found.append(replace(made, name=f"{method}{suffix}/{dataset}"))
            if not pamr_steps and (names := _own_names(method, dataset, made)) != made:
                found.append(replace(names, name=f"{method}+names/{dataset}"))
    return found


def _recipe(method: str, protocol: _Protocol, dataset: str, base: MaskRecipe) -> MaskRecipe:
    thresholds = dict(zip(_BACKGROUND, protocol.thresholds, strict=True))
    usual = 560 if dataset == "cityscapes" else 336
    fields = {
        "short_side": protocol.short_sides.get(dataset, usual),
        "logit_scale": protocol.scales.get(dataset, protocol.logit_scale),
        "prob_thd": thresholds.get(dataset, 0.0),
        "area_thd": protocol.area_thd if dataset == "voc21" else None,
        **protocol.every,
        **protocol.some.get(dataset, {}),
    }
    return replace(base, method=method, **fields)


def _own_names(method: str, dataset: str, made: MaskRecipe) -> MaskRecipe:
    """The names that the method was published with."""
    if method == "clearclip" and dataset in ("voc21", "voc20", "coco-object"):
        single = {"person": "person", "television monitor": "tvmonitor"}
        words = tuple(single.get(line.split(", ")[0], line) for line in made.words)
        return replace(made, words=words, background=("background",) if made.background else ())
    if method == "sfp" and dataset in ("voc21", "voc20", "cityscapes"):
        words = tuple(
            ", ".join(name.replace("person", "people") for name in line.split(", ")) for line in made.words
        )
        return replace(made, words=words)
    return made
