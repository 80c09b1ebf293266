"""Every dense method by name.

A method is one line here: how its rule is made, what it does, and where it comes from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from tagmask.checks import check_choice
from tagmask.clip.model import Vision
from tagmask.variants import clip, maskclip, naclip, sclip
from tagmask.variants.clearclip import CLEARCLIP
from tagmask.variants.clip_surgery import clip_surgery
from tagmask.variants.gem import GEM_BARE, gem
from tagmask.variants.learned import check_projection, learned
from tagmask.variants.ours import sc_clip_near
from tagmask.variants.resclip import resclip
from tagmask.variants.rule import DenseRule, Layers, Making, RuleSettings, always
from tagmask.variants.sc_clip import sc_clip
from tagmask.variants.sfp import sfp

__all__ = ["METHODS", "DenseMethod", "check_method", "dense_rule"]


@dataclass(frozen=True)
class DenseMethod:
    """One line of the catalogue."""

    make: Making
    summary: str
    source: str
    large: str = ""
    """What is published of it on ViT-L/14, where that is below ViT-B/16."""
    check: Callable[[RuleSettings, Vision], None] | None = None
    """Refuses settings that do not fit the weights, where a method has such."""


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

METHODS: Mapping[str, DenseMethod] = MappingProxyType(
    {
        "clip": DenseMethod(always(clip.CLIP), "the last block as trained", _CLIP),
        "clip-bare": DenseMethod(
            always(clip.CLIP_BARE), "CLIP's attention, without residual and MLP", f"{_CLEARCLIP}, ablation"
        ),
        "clip-sharp": DenseMethod(clip.sharp, "CLIP's attention, sharpened", f"{_SCLIP}, ablation"),
        "clip-local": DenseMethod(clip.local, "CLIP's attention to near patches", f"{_SCLIP}, ablation"),
        "clip-early": DenseMethod(clip.early, "the attention of an earlier layer", f"{_SCLIP}, ablation"),
        "maskclip": DenseMethod(always(maskclip.MASKCLIP), "each patch keeps its own value", _MASKCLIP),
        "maskclip-bare": DenseMethod(
            always(maskclip.MASKCLIP_BARE), "MaskCLIP without residual and MLP", f"{_CLEARCLIP}, ablation"
        ),
        "maskclip-smoothed": DenseMethod(
            always(maskclip.MASKCLIP_SMOOTHED), "MaskCLIP with key smoothing", _MASKCLIP
        ),
        "maskclip-denoised": DenseMethod(
            always(maskclip.MASKCLIP_DENOISED), "MaskCLIP with prompt denoising", _MASKCLIP
        ),
        "sclip": DenseMethod(always(sclip.SCLIP), "query-query plus key-key attention", _SCLIP),
        "sclip-bare": DenseMethod(
            always(sclip.SCLIP_BARE), "SCLIP without residual and MLP", f"{_CLEARCLIP}, ablation"
        ),
        **{
            name: DenseMethod(always(rule), _SUMMARIES[name], f"{_SCLIP}, ablation")
            for name, rule in sclip.SCLIP_ABLATIONS.items()
        },
        "sclip-random": DenseMethod(
            sclip.random_ensemble, "attention through random projections", f"{_SCLIP}, ablation"
        ),
        "sclip-learned": DenseMethod(
            learned,
            "attention through one projection, learned from a few labelled images",
            f"{_SCLIP}, ablation",
            check=check_projection,
        ),
        "clip-surgery": DenseMethod(
            clip_surgery,
            "value-value attention in a stream beside six blocks",
            "CLIP Surgery, Li et al., 2023",
        ),
        "gem": DenseMethod(gem, "three self-similarities in a stream beside six blocks", _GEM),
        "gem-bare": DenseMethod(always(GEM_BARE), "GEM in the last block alone", f"{_CLEARCLIP}, ablation"),
        "clearclip": DenseMethod(
            always(CLEARCLIP),
            "query-query attention, without residual and MLP",
            _CLEARCLIP,
            "VOC21 48.7 on L/14, 51.8 on B/16; Context59 29.6, 35.9",
        ),
        "naclip": DenseMethod(
            always(naclip.NACLIP),
            "key-key attention that favours near patches",
            _NACLIP,
            "VOC21 52.2 on L/14, 58.9 on B/16; Context59 32.1, 35.2",
        ),
        "naclip-near": DenseMethod(
            always(naclip.NACLIP_NEIGHBOURS), "nearness alone as attention", f"{_NACLIP}, ablation"
        ),
        "resclip": DenseMethod(
            resclip(),
            "NACLIP, middle layers' attention, a first guess's map",
            _RESCLIP,
            "VOC21 54.1 on L/14, 61.1 on B/16; Context59 34.5, 36.8",
        ),
        "resclip-rcs": DenseMethod(resclip(sfr=False), "NACLIP and middle layers' attention", _RESCLIP),
        "resclip-sfr": DenseMethod(resclip(rcs=False), "NACLIP and a first guess's map", _RESCLIP),
        "resclip-clearclip": DenseMethod(
            resclip("clearclip"),
            "ResCLIP on ClearCLIP",
            _RESCLIP,
            "VOC21 50.7 on L/14, 59.0 on B/16; Context59 33.4, 36.4",
        ),
        "resclip-sclip": DenseMethod(
            resclip("sclip"),
            "ResCLIP on SCLIP",
            _RESCLIP,
            "VOC21 52.8 on L/14, 60.7 on B/16; Context59 30.6, 35.8",
        ),
        "sc-clip": DenseMethod(
            sc_clip, "odd patches mended, like patches averaged", "SC-CLIP, Bai et al., 2024"
        ),
        "sfp": DenseMethod(sfp, "SC-CLIP's plan with the class token's outliers", _SFP),
        "sfp-length": DenseMethod(partial(sfp, outliers="length"), "SFP with the longest patches", _SFP),
        "sc-clip-near": DenseMethod(sc_clip_near, "SC-CLIP with NACLIP's bonus for near patches", _OURS),
        "sfp-lone": DenseMethod(partial(sfp, outliers="lone"), "SFP with SC-CLIP's outliers", _SFP),
    }
)


def dense_rule(name: str, settings: RuleSettings, layers: int) -> DenseRule:
    """The rule of the method called `name`, for a tower of so many layers.

    Raises:
        InputError: no such method.
    """
    check_choice("method", name, tuple(METHODS))
    return METHODS[name].make(settings, Layers(layers, settings.absolute_layers))


def check_method(name: str, settings: RuleSettings, vision: Vision) -> None:
    """See that the method called `name` can run on these weights, before any image is looked at.

    Raises:
        InputError: no such method, or its settings do not fit.
    """
    check_choice("method", name, tuple(METHODS))
    check = METHODS[name].check
    if check is not None:
        check(settings, vision)
