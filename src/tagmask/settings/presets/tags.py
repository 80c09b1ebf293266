"""Presets of the tagging methods.

Settings that no paper states (input size, templates and background of TagCLIP's rows for CLIP, DPT and CLIP
Surgery; words of SPARC's data files) are those of TagCLIP, or those that the method's authors use elsewhere.
"""

from tagmask.papers.clip_surgery_tags import SurgeryTagSettings
from tagmask.papers.clip_tags import ClipTagSettings
from tagmask.papers.dpt import DptSettings
from tagmask.papers.freecp import FreecpTagSettings
from tagmask.papers.piaa import PiaaSettings
from tagmask.papers.sparc import SparcSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.settings.recipes import TagRecipe
from tagmask.settings.words import read_list

__all__ = ["PLAIN", "tag_presets", "tagclip_presets"]

PLAIN = "a photo of a {}."
"""The plain prompt template."""

_TAGCLIP_NAMES = {
    "voc2007": ("voc_tag", "background_voc"),
    "voc2012": ("voc_tag", "background_voc"),
    "coco2014": ("coco80_tag", "background_coco"),
    "coco2017": ("coco80_tag", "background_coco"),
}
_DPT_NAMES = {
    "voc2007": "voc_tag",
    "voc2012": "voc_tag",
    "coco2014": "dpt_coco80",
    "coco2017": "dpt_coco80",
    "nus-wide": "nus81",
}
_OFFICIAL_NAMES = {
    "voc2007": "piaa_voc",
    "voc2012": "piaa_voc",
    "coco2014": "piaa_coco80",
    "nus-wide": "nus81",
}


def tag_presets() -> list[TagRecipe]:
    """Return the recipes of every tagging method on the data sets of its tables."""
    return [
        *tagclip_presets(),
        *_clip(softmax=False),
        *_clip(softmax=True),
        *_surgery(),
        *_dpt(),
        *_freecp(),
        *_sparc(),
        *_piaa(),
    ]


def tagclip_presets() -> list[TagRecipe]:
    """Return TagCLIP's recipes, as in the authors' program: COCO-Stuff differs from VOC and COCO."""
    stuff = TagRecipe(
        name="tagclip/coco-stuff",
        method="tagclip",
        words=read_list("cocostuff171_tag"),
        background=(),
        templates=read_list("prompts_tag85"),
        tag_tau=0.1,
        variant=TagclipSettings(attention_layers=tuple(range(11)), candidate_tau=0.1),
    )
    return [
        *(
            TagRecipe(
                name=f"tagclip/{dataset}",
                method="tagclip",
                words=read_list(words),
                background=read_list(background),
                templates=read_list("prompts_tag85"),
                variant=TagclipSettings(),
            )
            for dataset, (words, background) in _TAGCLIP_NAMES.items()
        ),
        stuff,
    ]


def _clip(*, softmax: bool) -> list[TagRecipe]:
    method = "clip-softmax" if softmax else "clip"
    return [
        TagRecipe(
            name=f"{method}/{dataset}",
            method=method,
            words=read_list(words),
            background=read_list(background),
            templates=read_list("prompts_tag85"),
            variant=ClipTagSettings(softmax=softmax),
        )
        for dataset, (words, background) in _TAGCLIP_NAMES.items()
    ]


def _surgery() -> list[TagRecipe]:
    names = {dataset: words for dataset, (words, _) in _TAGCLIP_NAMES.items()} | {"nus-wide": "nus81"}
    return [
        TagRecipe(
            name=f"clip-surgery/{dataset}",
            method="clip-surgery",
            words=read_list(words),
            background=(),
            templates=read_list("prompts_tag85"),
            variant=SurgeryTagSettings(),
        )
        for dataset, words in names.items()
    ]


def _dpt() -> list[TagRecipe]:
    return [
        TagRecipe(
            name=f"{name}/{dataset}",
            method=name,
            words=read_list(words),
            background=(),
            templates=(PLAIN,),
            variant=DptSettings(softmax=softmax),
        )
        for name, softmax in (("dpt", "none"), ("dpt-softmax", "each"))
        for dataset, words in _DPT_NAMES.items()
    ]


def _freecp() -> list[TagRecipe]:
    """FreeCP as a tagger, which was not published: TagCLIP's names and background, FreeCP's threshold."""
    return [
        TagRecipe(
            name=f"freecp/{dataset}",
            method="freecp",
            words=read_list(words),
            background=read_list(background),
            templates=read_list("sclip_templates80"),
            variant=FreecpTagSettings(),
        )
        for dataset, (words, background) in _TAGCLIP_NAMES.items()
    ]


def _sparc() -> list[TagRecipe]:
    return [
        TagRecipe(
            name=f"sparc/{dataset}",
            method="sparc",
            words=read_list(words),
            background=(),
            templates=read_list("sclip_templates80"),
            variant=SparcSettings(),
        )
        for dataset, words in (_OFFICIAL_NAMES | {"coco2017": "piaa_coco80"}).items()
    ]


def _piaa() -> list[TagRecipe]:
    """PIAA's recipes, with the logit scales of refinement, best patch and class token per data set."""
    scales = {
        "voc2007": (100.0, 200.0, 80.0),
        "voc2012": (100.0, 200.0, 80.0),
        "coco2014": (0.01, 400.0, 80.0),
        "nus-wide": (500.0, 400.0, 10.0),
    }
    return [
        TagRecipe(
            name=f"piaa/{dataset}",
            method="piaa",
            words=read_list(_OFFICIAL_NAMES[dataset]),
            background=(),
            templates=("a photo of a {}",),
            variant=PiaaSettings(refine_scale=refinement, patch_scale=patch, class_scale=token),
        )
        for dataset, (refinement, patch, token) in scales.items()
    ]
