"""The settings behind each row of the papers' tables.

A recipe is data; a data set's name means nothing to the methods themselves.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tagmask.settings.family import family
from tagmask.settings.kinds import MaskRecipe, Recipe, TagMaskRecipe, TagRecipe
from tagmask.settings.tag_tables import tagger_recipes
from tagmask.settings.words import read_list

__all__ = ["all_recipes"]


@cache
def all_recipes() -> Mapping[str, Recipe]:
    """Every recipe by name."""
    recipes: list[Recipe] = [*_tagclip(), *tagger_recipes(), *_sclip(), *_sclip(pamr_steps=10)]
    by_dataset = {recipe.name.partition("/")[2]: recipe for recipe in _sclip()}
    recipes += [*family(by_dataset), *family(by_dataset, pamr_steps=10)]
    recipes += [*_cls_seg(), *_cls_seg(crf=True), *_clip_es(), *_clip_es(crf=True)]
    return MappingProxyType({recipe.name: recipe for recipe in recipes})


def _tagclip() -> list[TagRecipe]:
    """Table 10 of settings in the authors' program: VOC and COCO alike, COCO-Stuff on its own."""
    voc, coco = read_list("voc_tag"), read_list("coco80_tag")
    not_voc, not_coco = read_list("background_voc"), read_list("background_coco")
    prompts = read_list("prompts_tag85")
    return [
        TagRecipe(name="tagclip/voc2007", words=voc, background=not_voc, templates=prompts),
        TagRecipe(name="tagclip/voc2012", words=voc, background=not_voc, templates=prompts),
        TagRecipe(name="tagclip/coco2014", words=coco, background=not_coco, templates=prompts),
        TagRecipe(name="tagclip/coco2017", words=coco, background=not_coco, templates=prompts),
        TagRecipe(
            name="tagclip/coco-stuff",
            words=read_list("cocostuff171_tag"),
            background=(),
            templates=prompts,
            attention_layers=tuple(range(11)),
            candidate_tau=0.1,
            tag_tau=0.1,
        ),
    ]


def _sclip(pamr_steps: int = 0) -> list[MaskRecipe]:
    """The eight benchmarks of the authors' configurations; only three have a background class."""
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
    ]


def _cls_seg(crf: bool = False) -> list[TagMaskRecipe]:
    """Annotation-free segmentation of TagCLIP's paper, as its copy of CLIP-ES has it."""
    method = "cls-seg+crf" if crf else "cls-seg"
    taggers = {recipe.name.removeprefix("tagclip/"): recipe for recipe in _tagclip()}

    def recipe(
        dataset: str,
        prompts: str,
        rivals: str,
        *,
        layers: tuple[int, ...] = tuple(range(4, 12)),
        box_threshold: float = 0.7,
        background_power: float | None = 1.0,
    ) -> TagMaskRecipe:
        tagger = taggers[dataset]
        return TagMaskRecipe(
            name=f"{method}/{dataset}",
            words=tagger.words,
            prompts=read_list(prompts),
            background=read_list(rivals),
            tagger=tagger,
            attention_layers=layers,
            box_threshold=box_threshold,
            background_power=background_power,
            crf="cls-seg" if crf else None,
            crf_wrapped=crf,
        )

    return [
        recipe("voc2012", "voc_seg", "background_voc", layers=tuple(range(4, 11)), box_threshold=0.4),
        recipe("coco2017", "coco80_seg", "background_coco"),
        recipe("coco-stuff", "cocostuff171_seg", "background_cocostuff_seg", background_power=None),
    ]


def _clip_es(crf: bool = False) -> list[TagMaskRecipe]:
    """CLIP-ES on its own: true labels are given, and pixels it is unsure of after the CRF are cut."""
    method = "clip-es+crf" if crf else "clip-es"

    def recipe(dataset: str, words: str, prompts: str, rivals: str, box_threshold: float) -> TagMaskRecipe:
        return TagMaskRecipe(
            name=f"{method}/{dataset}",
            words=read_list(words),
            prompts=read_list(prompts),
            background=read_list(rivals),
            tagger=None,
            box_threshold=box_threshold,
            confidence=0.95 if crf else None,
            crf="cls-seg" if crf else None,
            crf_wrapped=crf,
        )

    return [
        recipe("voc2012", "voc_tag", "voc_seg", "background_voc", 0.4),
        recipe("coco2014", "coco80_tag", "coco80_seg", "background_coco", 0.7),
    ]
