"""The taggers' rows of the papers' tables, beside TagCLIP's own.

What no paper says (input, sentences and background of TagCLIP's rows for CLIP, DPT and CLIP Surgery; words of
SPARC's data files) is as for TagCLIP itself, or as the method's authors have it elsewhere.
"""

from tagmask.settings.kinds import AnyTagRecipe
from tagmask.settings.taggers import (
    PLAIN,
    ClipTagRecipe,
    DptRecipe,
    PiaaRecipe,
    SparcRecipe,
    SurgeryTagRecipe,
)
from tagmask.settings.words import read_list

__all__ = ["tagger_recipes"]

_TAGCLIPS_NAMES = {
    "voc2007": ("voc_tag", "background_voc"),
    "voc2012": ("voc_tag", "background_voc"),
    "coco2014": ("coco80_tag", "background_coco"),
    "coco2017": ("coco80_tag", "background_coco"),
}
_DPTS_NAMES = {
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


def tagger_recipes() -> list[AnyTagRecipe]:
    """CLIP, CLIP Surgery, DPT, SPARC and PIAA on the data sets of their tables."""
    return [*_clip(softmax=False), *_clip(softmax=True), *_surgery(), *_dpt(), *_sparc(), *_piaa()]


def _clip(*, softmax: bool) -> list[AnyTagRecipe]:
    return [
        ClipTagRecipe(
            name=f"clip{'-softmax' if softmax else ''}/{dataset}",
            words=read_list(words),
            background=read_list(background),
            templates=read_list("prompts_tag85"),
            softmax=softmax,
        )
        for dataset, (words, background) in _TAGCLIPS_NAMES.items()
    ]


def _surgery() -> list[AnyTagRecipe]:
    names = {dataset: words for dataset, (words, _) in _TAGCLIPS_NAMES.items()} | {"nus-wide": "nus81"}
    return [
        SurgeryTagRecipe(
            name=f"clip-surgery/{dataset}",
            words=read_list(words),
            background=(),
            templates=read_list("prompts_tag85"),
        )
        for dataset, words in names.items()
    ]


def _dpt() -> list[AnyTagRecipe]:
    return [
        DptRecipe(
            name=f"{name}/{dataset}",
            words=read_list(words),
            background=(),
            templates=(PLAIN,),
            softmax=softmax,
        )
        for name, softmax in (("dpt", "none"), ("dpt-softmax", "each"))
        for dataset, words in _DPTS_NAMES.items()
    ]


def _sparc() -> list[AnyTagRecipe]:
    return [
        SparcRecipe(
            name=f"sparc/{dataset}",
            words=read_list(words),
            background=(),
            templates=read_list("sclip_templates80"),
        )
        for dataset, words in (_OFFICIAL_NAMES | {"coco2017": "piaa_coco80"}).items()
    ]


def _piaa() -> list[AnyTagRecipe]:
    """Temperatures of refinement, best patch and class token."""
    scales = {
        "voc2007": (100.0, 200.0, 80.0),
        "voc2012": (100.0, 200.0, 80.0),
        "coco2014": (0.01, 400.0, 80.0),
        "nus-wide": (500.0, 400.0, 10.0),
    }
    return [
        PiaaRecipe(
            name=f"piaa/{dataset}",
            words=read_list(_OFFICIAL_NAMES[dataset]),
            background=(),
            templates=("a photo of a {}",),
            refine_scale=refinement,
            patch_scale=patch,
            class_scale=token,
        )
        for dataset, (refinement, patch, token) in scales.items()
    ]
