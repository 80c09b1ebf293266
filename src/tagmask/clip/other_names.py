"""Explain names that are neither in the table nor a path: models that are not supported, other spellings."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tagmask.checks import did_you_mean
from tagmask.clip.names import ARCHITECTURES, KNOWN
from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["refuse_other_name"]

_OTHER_HEADS: Final = "whose attention heads are not 64 wide"
_NO_PATCHES: Final = "which has no patch tokens"
_OTHER_TOWERS: Final = "whose towers are built differently"
_FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "siglip": f"a SigLIP, {_OTHER_TOWERS}",
        r"(\b|_)eva(\d|\b|_)": f"an EVA-CLIP, {_OTHER_TOWERS}",
        "mobileclip": f"a MobileCLIP, {_OTHER_TOWERS}",
        "clipa": f"a CLIPA, {_OTHER_TOWERS}",
        "coca": f"a CoCa, {_OTHER_TOWERS}",
        "blip": f"a BLIP, {_OTHER_TOWERS}",
        "vitamin": f"a ViTamin, {_OTHER_TOWERS}",
        "nllb|roberta|mt5": "a multilingual CLIP, whose tokenizer is another",
        r"pe-core": f"a Perception Encoder, {_OTHER_TOWERS}",
        "dino": "a DINO, which knows no words",
        "convnext|swin": f"a convolutional CLIP, {_NO_PATCHES}",
        r"(\b|_)(rn|resnet-?)\d+": f"a CLIP ResNet, {_NO_PATCHES}",
        r"so-?400m": f"a ViT-SO400M, {_OTHER_HEADS}",
        r"vit[-_/]?(bigg|huge|giant|gopt|[hge])(?![a-z])": f"a ViT larger than ViT-L, {_OTHER_HEADS}",
    }
)
"""Patterns of names of models that are not supported, and what these are. The first that matches counts."""
_FILES: Final = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".zip", ".onnx")
_HUB_URL: Final = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", re.ASCII)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_REPOSITORY: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_DOWNLOADED: Final = "Weights that are given by name are downloaded if needed."
_LIST: Final = "See `tagmask weights list`."
_MAX_LENGTH: Final = 200


def refuse_other_name(text: str) -> None:
    """Explain a text that is no path on this machine and no known name; do nothing if it may be a path.

    Raises:
        WeightsError: the name of a model that is not supported, another spelling of a known name, a URL, or
            a repository without "hf:".
    """
    if len(text) > _MAX_LENGTH:
        return
    shown = shortened(text)
    if _URL.match(text):
        raise WeightsError(f"{shown} is a URL. {_advice_for_url(text)}")
    known = _by_file(text)
    if known:
        raise WeightsError(
            f"Unknown weights {shown}: no such file. Did you mean the name {known}?", f"{_DOWNLOADED} {_LIST}"
        )
    architecture = _architecture(text)
    if architecture:
        raise WeightsError(
            f"Unknown weights {shown}. Did you mean {architecture}:openai?", f"{_DOWNLOADED} {_LIST}"
        )
    plain = re.sub(r"^(RN\d+(x\d+)?)\.pt$", r"\1", text)  # OpenAI's files
    if plain.lower().endswith(_FILES) or text.startswith((".", "~", "/")) or text.count("/") > 1:
        return
    for pattern, what in _FAMILIES.items():
        if re.search(pattern, text, re.IGNORECASE):
            raise WeightsError(
                f"{shown} is {what}.",
                f"Only CLIP ViT-B and ViT-L with CLIP's tokenizer are supported. {_LIST}",
            )
    near = did_you_mean(text, ("miniature", *KNOWN), 1)
    if near:
        raise WeightsError(f"Unknown weights {shown}.{near}", _LIST)
    if _REPOSITORY.fullmatch(text):
        raise WeightsError(
            f"Unknown weights {shown}: no such file or folder.",
            f"For a repository on the hub, give hf:{shown}. {_LIST}",
        )
    if re.match(r"(open)?clip|vit", text, re.IGNORECASE) and "/" not in text:
        raise WeightsError(f"Unknown weights {shown}: no such file, and no known name. {_LIST}")


def _advice_for_url(text: str) -> str:
    hub = _HUB_URL.match(text)
    if hub:
        return f"Give hf:{hub[1]}."
    known = _by_file(text.rpartition("/")[2])
    return f"Give the name {known}." if known else "Download the file, and give its path."


def _by_file(name: str) -> str | None:
    """The known name of a published file, or of a repository without its owner."""
    for entry in KNOWN.values():
        if name == entry.file or name in [repo.partition("/")[2] for repo in entry.repos]:
            return entry.name
    return None


def _architecture(text: str) -> str | None:
    """The architecture meant by a spelling such as "ViT-B/16", "vit_b_16" or "ViT-L/14@336px"."""
    plain = re.sub(r"[/_@\s]+", "-", text.lower()).removeprefix("clip-")
    plain = re.sub(r"^vit-?([bl])-?(\d)", r"vit-\1-\2", plain.removesuffix("-openai").removesuffix(":openai"))
    return next((name for name in ARCHITECTURES if name.lower() == plain.removesuffix("px")), None)
