"""Presets of FreeCP: purification after four dense methods, on SCLIP's eight benchmarks."""

from collections.abc import Mapping
from types import MappingProxyType

from tagmask.dense.rule import LayerSettings, VariantSettings
from tagmask.settings.recipes import MaskRecipe
from tagmask.settings.words import read_list
from tagmask.variants.sclip import SclipSettings

__all__ = ["freecp_presets"]

_BASES: Mapping[str, VariantSettings] = MappingProxyType(
    {
        "sclip": SclipSettings(),
        "clearclip": VariantSettings(),
        "maskclip": VariantSettings(),
        "gem": LayerSettings(),
    }
)


def freecp_presets() -> list[MaskRecipe]:
    """Return the recipes "freecp+BASE/DATASET".

    Each class has one name: the authors' own for VOC and COCO-Object, SCLIP's for the others. The settings
    are those of the authors' program; `as_="published"` has its forms of the base methods too.
    """
    return [recipe for base, settings in _BASES.items() for recipe in _recipes(base, settings)]


def _recipes(base: str, settings: VariantSettings) -> list[MaskRecipe]:
    def recipe(
        dataset: str,
        words: str,
        redundancy: float,
        overlap: float,
        *,
        background: bool = False,
        short_side: int = 448,
        crop: int = 384,
    ) -> MaskRecipe:
        lines = read_list(words)
        return MaskRecipe(
            name=f"freecp+{base}/{dataset}",
            method=base,
            variant=settings,
            words=lines[1:] if background else lines,
            background=tuple(lines[0].split(", ")) if background else (),
            templates=read_list("sclip_templates80"),
            short_side=short_side,
            crop=crop,
            purify="scores",
            redundancy=redundancy,
            overlap=overlap,
        )

    return [
        recipe("voc21", "freecp_voc21", 0.15, 0.8, background=True),
        recipe("voc20", "freecp_voc20", 0.15, 0.7),
        recipe("context60", "sclip_context60", 0.10, 0.7, background=True),
        recipe("context59", "sclip_context59", 0.10, 0.7),
        recipe("coco-object", "freecp_coco_object", 0.15, 0.8, background=True),
        recipe("coco-stuff", "sclip_coco_stuff", 0.05, 0.7),
        recipe("cityscapes", "sclip_cityscapes", 0.10, 0.8, short_side=560, crop=224),
        recipe("ade20k", "sclip_ade20k", 0.05, 0.7),
    ]
