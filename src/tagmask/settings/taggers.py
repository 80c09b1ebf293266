"""The ways of tagging beside TagCLIP: what a recipe of each is, and each by name.

A method is a kind of recipe, the settings that make it this method, and what it asks own words with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tagmask.checks import check_choice
from tagmask.papers.clip_surgery_tags import SurgeryTagSettings
from tagmask.papers.clip_tags import ClipTagSettings
from tagmask.papers.dpt import DptSettings
from tagmask.papers.piaa import PiaaSettings
from tagmask.papers.sparc import SparcSettings
from tagmask.settings.kinds import AnyTagRecipe, TagRecipe, own_tags, without
from tagmask.settings.words import read_list

__all__ = [
    "TAG_METHODS",
    "ClipTagRecipe",
    "DptRecipe",
    "PiaaRecipe",
    "SparcRecipe",
    "SurgeryTagRecipe",
    "TagMethod",
    "own_recipe",
]

PLAIN = "a photo of a {}."


@dataclass(frozen=True, kw_only=True)
class ClipTagRecipe(ClipTagSettings, AnyTagRecipe):
    """CLIP, with or without softmax."""

    def __post_init__(self) -> None:
        ClipTagSettings.__post_init__(self)
        AnyTagRecipe.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class DptRecipe(DptSettings, AnyTagRecipe):
    """DPT's inference with plain prompts."""

    def __post_init__(self) -> None:
        DptSettings.__post_init__(self)
        AnyTagRecipe.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class SurgeryTagRecipe(SurgeryTagSettings, AnyTagRecipe):
    """CLIP Surgery's tags."""

    def __post_init__(self) -> None:
        SurgeryTagSettings.__post_init__(self)
        AnyTagRecipe.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class PiaaRecipe(PiaaSettings, AnyTagRecipe):
    """PIAA, which must be adapted to images before it can tag any."""

    def __post_init__(self) -> None:
        PiaaSettings.__post_init__(self)
        AnyTagRecipe.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class SparcRecipe(SparcSettings, AnyTagRecipe):
    """SPARC, which compares an image with others."""

    def __post_init__(self) -> None:
        SparcSettings.__post_init__(self)
        AnyTagRecipe.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class TagMethod:
    """One way of tagging."""

    kind: type[AnyTagRecipe]
    summary: str
    source: str
    settings: Mapping[str, object] = field(default_factory=dict)
    """What tells it from other methods of its kind."""
    own: Mapping[str, object] = field(default_factory=dict)
    """Settings for own words only."""
    templates: str | tuple[str, ...] = "prompts_tag85"
    """Sentences, or the name of a list of them."""
    background: bool = False
    """Own words compete with background names unless the caller says otherwise."""


_PHOTOS = {"min_patches": 196, "max_patches": 1200}
_TAGCLIP = "TagCLIP, Lin et al., AAAI 2024"
_DPT = "TaI-DPT, Guo et al., CVPR 2023, with plain prompts, here on a ViT"

TAG_METHODS: Mapping[str, TagMethod] = MappingProxyType(
    {
        "clip": TagMethod(
            kind=ClipTagRecipe,
            summary="cosine of the class token with each word",
            source="CLIP, Radford et al., ICML 2021",
            settings={"softmax": False},
            own=_PHOTOS,
            background=True,
        ),
        "clip-softmax": TagMethod(
            kind=ClipTagRecipe,
            summary="softmax of those cosines over all words and background names",
            source=f"CLIP, Radford et al., ICML 2021; as a baseline: {_TAGCLIP}",
            settings={"softmax": True},
            own=_PHOTOS,
            background=True,
        ),
        "clip-surgery": TagMethod(
            kind=SurgeryTagRecipe,
            summary="cosines of the class token less what all words share",
            source="CLIP Surgery, Li et al., 2023",
            own={"input": "native", **_PHOTOS},
        ),
        "dpt": TagMethod(
            kind=DptRecipe,
            summary="mean of the image's score and its patches' scores",
            source=_DPT,
            own=_PHOTOS,
            templates=(PLAIN,),
        ),
        "dpt-softmax": TagMethod(
            kind=DptRecipe,
            summary="the same, each score after a softmax over the words",
            source=f"{_DPT}; softmax: {_TAGCLIP}",
            settings={"softmax": "each"},
            own=_PHOTOS,
            templates=(PLAIN,),
        ),
        "tagclip": TagMethod(
            kind=TagRecipe, summary="refined patch scores, best words looked at again", source=_TAGCLIP
        ),
        "sparc": TagMethod(
            kind=SparcRecipe,
            summary="scores standardised by image and by word over a set, fused with pairs of words",
            source="SPARC, Miller et al., CVPR 2025",
            own=_PHOTOS,
        ),
        "piaa": TagMethod(
            kind=PiaaRecipe,
            summary="looks at all images first and learns what each word looks like there",
            source="PIAA, as coded by its authors",
            # With VOC's factor the refinement empties words of small folders; with COCO's it never does.
            own={"input": "native", "refine_scale": 0.01, **_PHOTOS},
            templates=("a photo of a {}",),
        ),
    }
)


def own_recipe(
    method: object,
    words: tuple[str, ...],
    background: tuple[str, ...] | None = None,
    usual: tuple[str, ...] = (),
) -> AnyTagRecipe:
    """Tag with a user's own words by any method.

    Methods whose words compete with background names take `usual`, else the built-in list, less the words
    asked for. The others have none, as published, unless `background` names some.

    Raises:
        InputError: no such method.
    """
    check_choice("method", method, tuple(TAG_METHODS))
    name = str(method)
    if name == "tagclip":
        return own_tags(words, background, usual)
    way = TAG_METHODS[name]
    if background is None:
        background = without(usual or read_list("background_voc"), words) if way.background else ()
    templates = read_list(way.templates) if isinstance(way.templates, str) else way.templates
    settings = {**way.settings, **way.own}
    return way.kind(name=name, words=words, background=background, templates=templates, **settings)  # type: ignore[arg-type]  # names are the kind's own
