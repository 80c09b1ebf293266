"""Presets of the dense methods: SCLIP on its eight benchmarks, and the others in its harness.

All use SCLIP's class files, so that their results are comparable. ClearCLIP and SFP were published with other
names for a few classes: "clearclip+names/voc21" has those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from tagmask.dense.rule import LayerSettings, VariantSettings
from tagmask.settings.recipes import MaskRecipe
from tagmask.settings.words import read_list
from tagmask.variants.pearl import PearlSettings
from tagmask.variants.resclip import ResclipSettings
from tagmask.variants.sc_clip import ScClipSettings
from tagmask.variants.sfp import SfpSettings

__all__ = ["dense_presets"]

_SETS = ("voc21", "voc20", "context60", "context59", "coco-object", "coco-stuff", "cityscapes", "ade20k")
_BACKGROUND = ("voc21", "context60", "coco-object")


@dataclass(frozen=True)
class _Protocol:
    """The settings in which one method differs from SCLIP's, per data set."""

    variant: VariantSettings = field(default_factory=VariantSettings)
    """The method's settings."""
    logit_scale: float = 40.0
    scales: Mapping[str, float] = field(default_factory=dict)
    """Logit scales of data sets that have another."""
    thresholds: tuple[float, float, float] = (0.1, 0.1, 0.1)
    """`prob_thd` of VOC21, Context60 and COCO-Object; 0 for the other data sets."""
    area_thd: float | None = None
    """`area_thd` of VOC21; None for the other data sets."""
    short_sides: Mapping[str, int] = field(default_factory=dict)
    """Short sides in pixels that are not the default (336; 560 for Cityscapes)."""
    every: Mapping[str, Any] = field(default_factory=dict)
    """Recipe fields for every data set."""
    some: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recipe fields for one data set."""


_WHOLE = {"crop": None, "two_resizes": True}
"""NACLIP, ResCLIP and PEARL take VOC's images whole, and resize twice."""
_TLP = 25
"""Steps of text-guided Laplacian propagation (TLP) in PEARL."""


def _residual(
    temp: float, rcs_share: float, sfr_scale: float, sfr_share: float = 0.7
) -> dict[str, ResclipSettings]:
    """ResCLIP's settings for one data set."""
    settings = ResclipSettings(temp_thd=temp, rcs_share=rcs_share, sfr_scale=sfr_scale, sfr_share=sfr_share)
    return {"variant": settings}


_PROTOCOLS: Mapping[str, _Protocol] = MappingProxyType(
    {
        # These four were not published in this harness: they use NACLIP's settings, with windows everywhere.
        "clip": _Protocol(),
        "maskclip": _Protocol(),
        "clip-surgery": _Protocol(LayerSettings()),
        "gem": _Protocol(LayerSettings()),
        "clearclip": _Protocol(
            logit_scale=50.0,
            thresholds=(0.5, 0.15, 0.4),
            short_sides=MappingProxyType(dict.fromkeys(_SETS, 448)),
            every=MappingProxyType({"crop": 448, "stride": 224, "pad_windows": True}),
            some=MappingProxyType({"cityscapes": {"crop": 224, "stride": 224}}),
        ),
        "naclip": _Protocol(some=MappingProxyType({"voc21": _WHOLE, "voc20": _WHOLE})),
        "resclip": _Protocol(
            ResclipSettings(),
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
            ),
        ),
        "sc-clip": _Protocol(
            ScClipSettings(),
            scales=MappingProxyType({"voc21": 50.0, "coco-object": 55.0}),
            thresholds=(0.15, 0.15, 0.35),
            area_thd=0.1,
        ),
        "sfp": _Protocol(
            SfpSettings(),
            scales=MappingProxyType({"voc21": 50.0, "coco-object": 55.0}),
            thresholds=(0.15, 0.15, 0.35),
            area_thd=0.1,
            short_sides=MappingProxyType({"ade20k": 384}),
        ),
        "pearl": _Protocol(
            PearlSettings(),
            every=MappingProxyType({"tlp_steps": _TLP}),
            some=MappingProxyType(
                {
                    "voc21": _WHOLE,
                    "voc20": _WHOLE,
                    "cityscapes": {"variant": PearlSettings(alpha=0.3), "tlp_grid": 224},
                    "ade20k": {"variant": PearlSettings(alpha=0.3)},
                }
            ),
        ),
    }
)


def dense_presets() -> list[MaskRecipe]:
    """Return the recipes of every dense method on the eight benchmarks, with and without PAMR.

    SCLIP also has COCO-Stuff 10k.
    """
    sclip = {recipe.name.partition("/")[2]: recipe for recipe in _sclip()}
    return [*_sclip(), *_sclip(pamr_steps=10), *_others(sclip), *_others(sclip, pamr_steps=10)]


def _sclip(pamr_steps: int = 0) -> list[MaskRecipe]:
    """The authors' configurations: the paper's eight benchmarks and COCO-Stuff 10k, in their program alone.

    Only three have a background class.
    """
    method = "sclip+pamr" if pamr_steps else "sclip"

    def recipe(
        dataset: str,
        file: str,
        *,
        background: bool = False,
        short_side: int = 336,
        logit_scale: float = 40.0,
        prob_thd: float = 0.0,
        area_thd: float | None = None,
    ) -> MaskRecipe:
        lines = read_list(file)
        return MaskRecipe(
            name=f"{method}/{dataset}",
            words=lines[1:] if background else lines,
            background=tuple(lines[0].split(", ")) if background else (),
            templates=read_list("sclip_templates80"),
            short_side=short_side,
            logit_scale=logit_scale,
            prob_thd=prob_thd,
            area_thd=area_thd,
            pamr_steps=pamr_steps,
        )

    return [
        recipe("voc21", "sclip_voc21", background=True, logit_scale=65.0, prob_thd=0.1, area_thd=0.1),
        recipe("voc20", "sclip_voc20"),
        recipe("context60", "sclip_context60", background=True, logit_scale=50.0, prob_thd=0.1),
        recipe("context59", "sclip_context59"),
        recipe("coco-object", "sclip_coco_object", background=True, logit_scale=50.0, prob_thd=0.1),
        recipe("coco-stuff", "sclip_coco_stuff", short_side=448),
        recipe("cityscapes", "sclip_cityscapes", short_side=560),
        recipe("ade20k", "sclip_ade20k"),
        recipe("coco-stuff10k", "sclip_coco_stuff"),
    ]


def _others(sclip: Mapping[str, MaskRecipe], pamr_steps: int = 0) -> list[MaskRecipe]:
    """The other methods, from SCLIP's recipes by data set."""
    suffix = "+pamr" if pamr_steps else ""
    presets = []
    for method, protocol in _PROTOCOLS.items():
        for dataset in _SETS:
            recipe = replace(_recipe(method, protocol, dataset, sclip[dataset]), pamr_steps=pamr_steps)
            if pamr_steps:  # in place of TLP
                recipe = replace(recipe, tlp_steps=0)
            presets.append(replace(recipe, name=f"{method}{suffix}/{dataset}"))
            if not pamr_steps and (renamed := _published_names(method, dataset, recipe)) != recipe:
                presets.append(replace(renamed, name=f"{method}+names/{dataset}"))
    return presets


def _recipe(method: str, protocol: _Protocol, dataset: str, base: MaskRecipe) -> MaskRecipe:
    thresholds = dict(zip(_BACKGROUND, protocol.thresholds, strict=True))
    default_short_side = 560 if dataset == "cityscapes" else 336
    fields: dict[str, Any] = {
        "variant": protocol.variant,
        "short_side": protocol.short_sides.get(dataset, default_short_side),
        "logit_scale": protocol.scales.get(dataset, protocol.logit_scale),
        "prob_thd": thresholds.get(dataset, 0.0),
        "area_thd": protocol.area_thd if dataset == "voc21" else None,
        **protocol.every,
        **protocol.some.get(dataset, {}),
    }
    return replace(base, method=method, **fields)


def _published_names(method: str, dataset: str, recipe: MaskRecipe) -> MaskRecipe:
    """The recipe with the class names that the method was published with."""
    if method == "clearclip" and dataset in ("voc21", "voc20", "coco-object"):
        single = {"person": "person", "television monitor": "tvmonitor"}
        words = tuple(single.get(line.split(", ")[0], line) for line in recipe.words)
        return replace(recipe, words=words, background=("background",) if recipe.background else ())
    if method == "sfp" and dataset in ("voc21", "voc20", "cityscapes"):
        words = tuple(
            ", ".join(name.replace("person", "people") for name in line.split(", ")) for line in recipe.words
        )
        return replace(recipe, words=words)
    return recipe
