"""Every method by name: what it is, which settings it takes, where it comes from.

A method is one line here, and one file in `variants/` or `papers/`. `pipelines` knows how each kind runs;
presets (`settings.presets`) may name it; nothing else does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import cast

from tagmask.clip.model import Vision
from tagmask.dense.features import Pass
from tagmask.dense.rule import DenseRule, LayerSettings, Making, VariantSettings
from tagmask.errors import InputError
from tagmask.papers import clip_surgery_tags, clip_tags, dpt
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.clip_surgery_tags import SurgeryTagSettings
from tagmask.papers.clip_tags import ClipTagSettings
from tagmask.papers.dpt import DptSettings
from tagmask.papers.piaa import PiaaSettings
from tagmask.papers.sparc import SparcSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.settings.presets.own_words import PHOTO_PATCHES
from tagmask.settings.presets.tags import PLAIN
from tagmask.settings.recipes import Recipe
from tagmask.settings.words import read_list
from tagmask.types import Attention
from tagmask.variants import clip, maskclip, naclip, sclip
from tagmask.variants.clearclip import CLEARCLIP
from tagmask.variants.clip_surgery import clip_surgery
from tagmask.variants.gem import GEM_BARE, gem
from tagmask.variants.learned import LearnedSettings, check_projection, learned
from tagmask.variants.ours import sc_clip_near
from tagmask.variants.resclip import ResclipSettings, resclip
from tagmask.variants.sc_clip import ScClipSettings, sc_clip
from tagmask.variants.sfp import SfpSettings, sfp

__all__ = [
    "Method",
    "OwnWords",
    "dense_rule",
    "describe_methods",
    "method",
    "method_names",
    "method_of",
    "register_method",
]

GIVES = {
    "dense": "masks",
    "tag_first": "masks",
    "tagclip": "tags",
    "one_pass": "tags",
    "sparc": "tags",
    "piaa": "tags",
}
"""What comes of each kind of method."""

Score = Callable[..., object]
"""(clip, pixels, text features, settings) -> (b, q) scores: how a `one_pass` method tags."""


@dataclass(frozen=True, kw_only=True)
class OwnWords:
    """What a method that tags takes where a user gives words and no recipe."""

    templates: tuple[str, ...] = field(default_factory=lambda: read_list("prompts_tag85"))
    background: bool = False
    """The words compete with background names unless the caller says otherwise."""
    settings: Mapping[str, object] = field(default_factory=lambda: PHOTO_PATCHES)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One line of the catalogue."""

    name: str
    kind: str
    """How it runs: a key of `GIVES`, and of `pipelines.MASK_PIPELINES` or `pipelines.TAG_PIPELINES`."""
    summary: str
    source: str
    settings: type = VariantSettings
    """Class of its own numbers, `recipe.variant`."""
    preset: Mapping[str, object] = field(default_factory=dict)
    """Values of these that make it this method."""
    rule: DenseRule | Making | None = None
    """Of a dense method: its rule, or the function that makes it from settings and the number of layers."""
    score: Score | None = None
    """Of a `one_pass` method."""
    own_words: OwnWords | None = None
    adapts: bool = False
    """It needs a set of images before it can tag any."""
    large: str = ""
    """What is published of it on ViT-L/14, where that is below ViT-B/16."""
    check: Callable[..., None] | None = None
    """(settings, vision): refuses settings that do not fit the weights, where a method has such."""

    @property
    def quirks(self) -> tuple[str, ...]:
        """Its settings that are True as published and False as corrected."""
        return getattr(self.settings, "QUIRKS", ())

    @property
    def gives(self) -> str:
        """What comes of it: "masks" or "tags"."""
        return GIVES[self.kind]

    def default_settings(self) -> object:
        """Its own numbers where nothing else is known."""
        return self.settings(**self.preset)


_CLIP = "CLIP, Radford et al., ICML 2021"
_MASKCLIP = "MaskCLIP, Zhou et al., ECCV 2022"
_SCLIP = "SCLIP, Wang et al., ECCV 2024"
_CLEARCLIP = "ClearCLIP, Lan et al., ECCV 2024"
_NACLIP = "NACLIP, Hajimiri et al., WACV 2025"
_RESCLIP = "ResCLIP, Yang et al., CVPR 2025"
_GEM = "GEM, Bousselham et al., CVPR 2024"
_OURS = "this project's combination"
_SFP = "SFP, Jin et al., ICCV 2025"

_SUMMARIES = {
    "sclip-q": "query-query attention alone",
    "sclip-k": "key-key attention alone",
    "sclip-q2": "query-query attention, doubled",
    "sclip-k2": "key-key attention, doubled",
    "sclip-identity": "attention without projections",
    "sclip-identity-whole": "attention without projections and without heads",
}


def _dense(
    name: str,
    rule: DenseRule | Making,
    summary: str,
    source: str,
    large: str = "",
    *,
    settings: type[VariantSettings] = VariantSettings,
    check: Callable[[LearnedSettings, Vision], None] | None = None,
) -> Method:
    return Method(
        name=name,
        kind="dense",
        rule=rule,
        summary=summary,
        source=source,
        large=large,
        settings=settings,
        check=check,
    )


_DENSE = (
    _dense("clip", clip.CLIP, "the last block as trained", _CLIP),
    _dense(
        "clip-bare", clip.CLIP_BARE, "CLIP's attention, without residual and MLP", f"{_CLEARCLIP}, ablation"
    ),
    _dense(
        "clip-sharp",
        clip.sharp,
        "CLIP's attention, sharpened",
        f"{_SCLIP}, ablation",
        settings=clip.SharpSettings,
    ),
    _dense(
        "clip-local",
        clip.local,
        "CLIP's attention to near patches",
        f"{_SCLIP}, ablation",
        settings=clip.LocalSettings,
    ),
    _dense(
        "clip-early",
        clip.early,
        "the attention of an earlier layer",
        f"{_SCLIP}, ablation",
        settings=clip.EarlySettings,
    ),
    _dense("maskclip", maskclip.MASKCLIP, "each patch keeps its own value", _MASKCLIP),
    _dense(
        "maskclip-bare",
        maskclip.MASKCLIP_BARE,
        "MaskCLIP without residual and MLP",
        f"{_CLEARCLIP}, ablation",
    ),
    _dense("maskclip-smoothed", maskclip.MASKCLIP_SMOOTHED, "MaskCLIP with key smoothing", _MASKCLIP),
    _dense("maskclip-denoised", maskclip.MASKCLIP_DENOISED, "MaskCLIP with prompt denoising", _MASKCLIP),
    _dense("sclip", sclip.SCLIP, "query-query plus key-key attention", _SCLIP),
    _dense("sclip-bare", sclip.SCLIP_BARE, "SCLIP without residual and MLP", f"{_CLEARCLIP}, ablation"),
    *(
        _dense(name, rule, _SUMMARIES[name], f"{_SCLIP}, ablation")
        for name, rule in sclip.SCLIP_ABLATIONS.items()
    ),
    _dense(
        "sclip-random",
        sclip.random_ensemble,
        "attention through random projections",
        f"{_SCLIP}, ablation",
        settings=sclip.RandomSettings,
    ),
    _dense(
        "sclip-learned",
        learned,
        "attention through one projection, learned from a few labelled images",
        f"{_SCLIP}, ablation",
        check=check_projection,
        settings=LearnedSettings,
    ),
    _dense(
        "clip-surgery",
        clip_surgery,
        "value-value attention in a stream beside six blocks",
        "CLIP Surgery, Li et al., 2023",
        settings=LayerSettings,
    ),
    _dense("gem", gem, "three self-similarities in a stream beside six blocks", _GEM, settings=LayerSettings),
    _dense("gem-bare", GEM_BARE, "GEM in the last block alone", f"{_CLEARCLIP}, ablation"),
    _dense(
        "clearclip",
        CLEARCLIP,
        "query-query attention, without residual and MLP",
        _CLEARCLIP,
        "VOC21 48.7 on L/14, 51.8 on B/16; Context59 29.6, 35.9",
    ),
    _dense(
        "naclip",
        naclip.NACLIP,
        "key-key attention that favours near patches",
        _NACLIP,
        "VOC21 52.2 on L/14, 58.9 on B/16; Context59 32.1, 35.2",
    ),
    _dense("naclip-near", naclip.NACLIP_NEIGHBOURS, "nearness alone as attention", f"{_NACLIP}, ablation"),
    _dense(
        "resclip",
        resclip(),
        "NACLIP, middle layers' attention, a first guess's map",
        _RESCLIP,
        "VOC21 54.1 on L/14, 61.1 on B/16; Context59 34.5, 36.8",
        settings=ResclipSettings,
    ),
    _dense(
        "resclip-rcs",
        resclip(sfr=False),
        "NACLIP and middle layers' attention",
        _RESCLIP,
        settings=ResclipSettings,
    ),
    _dense(
        "resclip-sfr",
        resclip(rcs=False),
        "NACLIP and a first guess's map",
        _RESCLIP,
        settings=ResclipSettings,
    ),
    _dense(
        "resclip-clearclip",
        resclip("clearclip"),
        "ResCLIP on ClearCLIP",
        _RESCLIP,
        "VOC21 50.7 on L/14, 59.0 on B/16; Context59 33.4, 36.4",
        settings=ResclipSettings,
    ),
    _dense(
        "resclip-sclip",
        resclip("sclip"),
        "ResCLIP on SCLIP",
        _RESCLIP,
        "VOC21 52.8 on L/14, 60.7 on B/16; Context59 30.6, 35.8",
        settings=ResclipSettings,
    ),
    _dense(
        "sc-clip",
        sc_clip,
        "odd patches mended, like patches averaged",
        "SC-CLIP, Bai et al., 2024",
        settings=ScClipSettings,
    ),
    _dense("sfp", sfp, "SC-CLIP's plan with the class token's outliers", _SFP, settings=SfpSettings),
    _dense(
        "sfp-length",
        partial(sfp, outliers="length"),
        "SFP with the longest patches",
        _SFP,
        settings=SfpSettings,
    ),
    _dense(
        "sc-clip-near",
        sc_clip_near,
        "SC-CLIP with NACLIP's bonus for near patches",
        _OURS,
        settings=ScClipSettings,
    ),
    _dense(
        "sfp-lone", partial(sfp, outliers="lone"), "SFP with SC-CLIP's outliers", _SFP, settings=SfpSettings
    ),
)

_TAG_FIRST = (
    Method(
        name="cls-seg",
        kind="tag_first",
        summary="tags first, then each by Grad-CAM and affinity",
        source="CLS-SEG, in TagCLIP, Lin et al., AAAI 2024, with CLIP-ES, Lin et al., CVPR 2023",
        settings=ClipEsSettings,
    ),
    Method(
        name="clip-es",
        kind="tag_first",
        summary="given tags, each by Grad-CAM and affinity",
        source="CLIP-ES, Lin et al., CVPR 2023",
        settings=ClipEsSettings,
    ),
)

_TAGCLIP = "TagCLIP, Lin et al., AAAI 2024"
_DPT = "TaI-DPT, Guo et al., CVPR 2023, with plain prompts, here on a ViT"

_TAGGERS = (
    Method(
        name="clip",
        kind="one_pass",
        score=clip_tags.score,
        summary="cosine of the class token with each word",
        source=_CLIP,
        settings=ClipTagSettings,
        preset={"softmax": False},
        own_words=OwnWords(background=True),
    ),
    Method(
        name="clip-softmax",
        kind="one_pass",
        score=clip_tags.score,
        summary="softmax of those cosines over all words and background names",
        source=f"{_CLIP}; as a baseline: {_TAGCLIP}",
        settings=ClipTagSettings,
        preset={"softmax": True},
        own_words=OwnWords(background=True),
    ),
    Method(
        name="clip-surgery",
        kind="one_pass",
        score=clip_surgery_tags.score,
        summary="cosines of the class token less what all words share",
        source="CLIP Surgery, Li et al., 2023",
        settings=SurgeryTagSettings,
        own_words=OwnWords(settings={"input": "native", **PHOTO_PATCHES}),
    ),
    Method(
        name="dpt",
        kind="one_pass",
        score=dpt.score,
        summary="mean of the image's score and its patches' scores",
        source=_DPT,
        settings=DptSettings,
        own_words=OwnWords(templates=(PLAIN,)),
    ),
    Method(
        name="dpt-softmax",
        kind="one_pass",
        score=dpt.score,
        summary="the same, each score after a softmax over the words",
        source=f"{_DPT}; softmax: {_TAGCLIP}",
        settings=DptSettings,
        preset={"softmax": "each"},
        own_words=OwnWords(templates=(PLAIN,)),
    ),
    Method(
        name="tagclip",
        kind="tagclip",
        summary="refined patch scores, best words looked at again",
        source=_TAGCLIP,
        settings=TagclipSettings,
        own_words=OwnWords(background=True),
    ),
    Method(
        name="sparc",
        kind="sparc",
        summary="scores standardised by image and by word over a set, fused with pairs of words",
        source="SPARC, Miller et al., CVPR 2025",
        settings=SparcSettings,
        own_words=OwnWords(),
        adapts=True,
    ),
    Method(
        name="piaa",
        kind="piaa",
        summary="looks at all images first and learns what each word looks like there",
        source="PIAA, as coded by its authors",
        settings=PiaaSettings,
        # With VOC's factor the refinement empties words of small folders; with COCO's it never does.
        own_words=OwnWords(
            templates=("a photo of a {}",),
            settings={"input": "native", "refine_scale": 0.01, **PHOTO_PATCHES},
        ),
        adapts=True,
    ),
)

_BUILT_IN = {(each.gives, each.name): each for each in (*_DENSE, *_TAG_FIRST, *_TAGGERS)}
_REGISTERED: dict[tuple[str, str], Method] = {}
"""What `register_method` adds, for as long as the process runs."""


def method(name: object, gives: str) -> Method:
    """The method called `name` that gives "masks" or "tags".

    Raises:
        InputError: no such method.
    """
    found = _BUILT_IN.get((gives, str(name))) or _REGISTERED.get((gives, str(name)))
    if found is None:
        known = method_names(gives)
        other = "masks" if gives == "tags" else "tags"
        if str(name) in method_names(other):
            raise InputError(f"Method {name!r} gives {other}, not {gives}. See `tagmask methods`.")
        near = get_close_matches(str(name), known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise InputError(f"Unknown method {name!r}. {hint}See `tagmask methods`.")
    return found


def method_of(recipe: Recipe) -> Method:
    """The method of a recipe."""
    return method(recipe.method, recipe.gives)


def method_names(gives: str) -> tuple[str, ...]:
    """Names of all methods that give "masks" or "tags"."""
    return tuple(name for kind, name in (*_BUILT_IN, *_REGISTERED) if kind == gives)


def describe_methods() -> dict[str, str]:
    """Every method by name: whether it gives masks or tags, what it does and where it comes from."""
    lines: dict[str, str] = {}
    for each in (*_BUILT_IN.values(), *_REGISTERED.values()):
        line = f"{each.gives}: {each.summary} ({each.source})"
        lines[each.name] = f"{lines[each.name]}; {line}" if each.name in lines else line
    return lines


def dense_rule(name: str, depth: int, settings: VariantSettings | None = None) -> DenseRule:
    """The rule of a dense method.

    Args:
        name: of the method.
        depth: number of the tower's layers.
        settings: the method's own numbers; None: its defaults.

    Raises:
        InputError: no such method, or not a dense one.
    """
    found = method(name, "masks")
    if found.rule is None:
        raise InputError(f"Method {name!r} masks tags and has no attention to vary. Give a dense method.")
    if isinstance(found.rule, DenseRule):
        return found.rule
    return found.rule(found.default_settings() if settings is None else settings, depth)


Attend = Callable[[Pass], Attention | None]
"""From the tower's state before its last block to attention weights (b, heads, n, n)."""


def register_method(
    name: str,
    rule: Attend | DenseRule | Making,
    *,
    settings: type[VariantSettings] | None = None,
    summary: str = "your own",
    source: str = "registered with tagmask.register_method",
) -> None:
    """Add a dense method of your own: `method=name` then works wherever a built-in one does.

    Args:
        name: not that of a built-in method. A name registered before is replaced.
        rule: a function from the tower's state before its last block to attention weights, which replace
            those of the last block; or a `DenseRule`, which can alter more; or, with `settings`, a function
            (settings, number of layers) -> `DenseRule`.
        settings: class of its own numbers, a frozen dataclass; each can then be overridden by name.
        summary: a line for `tagmask methods`.
        source: where it comes from.

    Raises:
        InputError: the name of a built-in method, or one that no command line could take.

    Example:
        >>> from tagmask.dense.rule import affinity
        >>> register_method("value-value", lambda x: affinity(x.v, x.v))
        >>> method("value-value", "masks").summary
        'your own'
    """
    if ("masks", name) in _BUILT_IN:
        raise InputError(f"method {name!r} is built in; register yours under another name")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise InputError(f"{name!r} cannot name a method; give lower-case letters, digits and hyphens")
    if settings is None and not isinstance(rule, DenseRule):
        rule = DenseRule(cast(Attend, rule))
    _REGISTERED["masks", name] = Method(
        name=name,
        kind="dense",
        rule=cast("DenseRule | Making", rule),
        summary=summary,
        source=source,
        settings=settings or VariantSettings,
    )
