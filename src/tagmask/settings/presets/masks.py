"""Presets of methods that mask tags, CLS-SEG and CLIP-ES, with and without their CRF, and their baselines."""

from tagmask.dense.rule import LayerSettings, VariantSettings
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.settings.presets.tags import tagclip_presets
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.settings.words import read_list

__all__ = ["mask_presets"]


def mask_presets() -> list[TagFirstRecipe | MaskRecipe]:
    """Return the recipes of CLS-SEG and CLIP-ES on the data sets of their tables, and of their baselines."""
    return [*_cls_seg(), *_cls_seg(crf=True), *_clip_es(), *_clip_es(crf=True), *_baselines()]


def _cls_seg(crf: bool = False) -> list[TagFirstRecipe]:
    """CLS-SEG, the annotation-free segmentation of TagCLIP's paper, with the settings of its CLIP-ES copy."""
    method = "cls-seg+crf" if crf else "cls-seg"
    taggers = {recipe.name.removeprefix("tagclip/"): recipe for recipe in tagclip_presets()}

    def recipe(
        dataset: str,
        prompts: str,
        background: str,
        *,
        layers: tuple[int, ...] = tuple(range(4, 12)),
        box_threshold: float = 0.7,
        background_power: float | None = 1.0,
    ) -> TagFirstRecipe:
        tagger = taggers[dataset]
        return TagFirstRecipe(
            name=f"{method}/{dataset}",
            method="cls-seg",
            words=tagger.words,
            prompts=read_list(prompts),
            background=read_list(background),
            tagger=tagger,
            variant=ClipEsSettings(
                attention_layers=layers, box_threshold=box_threshold, background_power=background_power
            ),
            crf="cls-seg" if crf else None,
            crf_wrapped=crf,
        )

    return [
        recipe("voc2012", "voc_seg", "background_voc", layers=tuple(range(4, 11)), box_threshold=0.4),
        recipe("coco2017", "coco80_seg", "background_coco"),
        recipe("coco-stuff", "cocostuff171_seg", "background_cocostuff_seg", background_power=None),
    ]


def _clip_es(crf: bool = False) -> list[TagFirstRecipe]:
    """CLIP-ES: ground-truth tags are given; with the CRF, pixels of low confidence are ignored."""
    method = "clip-es+crf" if crf else "clip-es"

    def recipe(
        dataset: str, words: str, prompts: str, background: str, box_threshold: float
    ) -> TagFirstRecipe:
        return TagFirstRecipe(
            name=f"{method}/{dataset}",
            method="clip-es",
            words=read_list(words),
            prompts=read_list(prompts),
            background=read_list(background),
            tagger=None,
            variant=ClipEsSettings(box_threshold=box_threshold, confidence=0.95 if crf else None),
            crf="cls-seg" if crf else None,
            crf_wrapped=crf,
        )

    return [
        recipe("voc2012", "voc_tag", "voc_seg", "background_voc", 0.4),
        recipe("coco2014", "coco80_tag", "coco80_seg", "background_coco", 0.7),
    ]


def _baselines() -> list[MaskRecipe]:
    """The dense methods that TagCLIP's paper sets beside CLS-SEG, whose settings it does not state.

    Those of TagCLIP's own patch scores: the image at its own size, TagCLIP's names and templates. Each pixel
    gets its best text; the background texts are label 0.
    """
    methods: dict[str, tuple[VariantSettings, str | None]] = {
        "clip": (VariantSettings(), "bilinear-half"),
        "maskclip": (VariantSettings(), "bilinear-half"),
        "clip-surgery": (LayerSettings(), None),
    }
    taggers = {recipe.name.partition("/")[2]: recipe for recipe in tagclip_presets()}
    return [
        MaskRecipe(
            name=f"{method}+native/{dataset}",
            method=method,
            variant=variant,
            words=taggers[dataset].words,
            background=taggers[dataset].background,
            templates=taggers[dataset].templates,
            short_side=None,
            crop=None,
            positions=positions,
        )
        for method, (variant, positions) in methods.items()
        for dataset in ("voc2012", "coco2017", "coco-stuff")
    ]
