"""Table of known weights, named as in open_clip: ARCHITECTURE:TAG.

Activation, mean and std belong to the weights, not to the architecture, so each name has its own: for
ViT-B-16, `openai` needs QuickGELU and `laion2b_s34b_b88k` the exact GELU. open_clip lists some tags under
ARCHITECTURE-quickgelu too; this spelling is accepted, except for weights that need the exact GELU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tagmask.checks import did_you_mean
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim, Triple
from tagmask.errors import WeightsError

__all__ = ["ARCHITECTURES", "KNOWN", "KnownWeights", "known_weights"]


@dataclass(frozen=True)
class Architecture:
    """Sizes shared by all weights of an architecture; `tagmask weights check` compares them."""

    patch: int
    side: int
    """Side of the training images, in pixels."""
    largest: int
    """Limit on the size of OpenAI's file, in bytes: half precision, except for the token embedding."""


@dataclass(frozen=True)
class KnownWeights:
    """Where to find known weights, and their settings."""

    name: str
    """ARCHITECTURE:TAG."""
    activation: str
    repos: tuple[str, ...]
    """Repositories on the Hugging Face hub; the first one is downloaded."""
    file: str = ""
    """File name in `~/.cache/clip`, where OpenAI's package and open_clip store downloads from other sites."""
    url: str = ""
    """URL of that file; given only if its full hash is known."""
    sha256: str = ""
    """Hash of that file, or the known beginning of it."""
    mean: Triple = OPENAI_MEAN
    std: Triple = OPENAI_STD

    @property
    def architecture(self) -> Architecture:
        """Sizes of the architecture, the part of the name before the colon."""
        return ARCHITECTURES[self.name.split(":")[0]]

    @property
    def claim(self) -> MetadataClaim:
        """The activation, mean and std that the name implies."""
        return MetadataClaim(f"the name {self.name}", self.activation, self.mean, self.std)


_BASE: Final = 400_000_000
_LARGE: Final = 1_000_000_000

ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "ViT-B-32": Architecture(32, 224, _BASE),
        "ViT-B-32-256": Architecture(32, 256, _BASE),
        "ViT-B-16": Architecture(16, 224, _BASE),
        "ViT-L-14": Architecture(14, 224, _LARGE),
        "ViT-L-14-336": Architecture(14, 336, _LARGE),
    }
)

_HALF: Final[Triple] = (0.5, 0.5, 0.5)
_TIMM_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"ViT-B-32": "vit_base_patch32", "ViT-B-16": "vit_base_patch16", "ViT-L-14": "vit_large_patch14"}
)


def _openai(architecture: str, file: str, sha256: str, timm: str, hf: str) -> KnownWeights:
    return KnownWeights(
        name=f"{architecture}:openai",
        activation="quickgelu",
        repos=(f"timm/{timm}.openai", f"openai/clip-{hf}"),
        file=file,
        url=f"https://openaipublic.azureedge.net/clip/models/{sha256}/{file}",
        sha256=sha256,
    )


def _laion400m(architecture: str, activation: str, epoch: int, stem: str, sha256: str) -> KnownWeights:
    return KnownWeights(
        name=f"{architecture}:laion400m_e{epoch}",
        activation=activation,
        repos=(f"timm/{_TIMM_NAMES[architecture]}_clip_224.laion400m_e{epoch}",),
        file=f"{stem}-laion400m_e{epoch}-{sha256}.pt",
        sha256=sha256,
    )


def _metaclip(architecture: str, tag: str, repo: str, file: str) -> KnownWeights:
    return KnownWeights(
        name=f"{architecture}:{tag}",
        activation="quickgelu",
        repos=(f"timm/{_TIMM_NAMES[architecture]}_clip_224.{repo}",),
        file=file,
    )


def _exact_gelu(name: str, repo: str, mean_and_std: Triple | None = None) -> KnownWeights:
    """Weights with the exact GELU, on the hub only."""
    mean, std = mean_and_std or OPENAI_MEAN, mean_and_std or OPENAI_STD
    return KnownWeights(name, "gelu", (repo,), mean=mean, std=std)


_ALL: Final = (
    _openai(
        "ViT-B-16",
        "ViT-B-16.pt",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        "vit_base_patch16_clip_224",
        "vit-base-patch16",
    ),
    _laion400m("ViT-B-16", "gelu", 31, "vit_b_16", "00efa78f"),
    _laion400m("ViT-B-16", "gelu", 32, "vit_b_16", "55e67d44"),
    _exact_gelu("ViT-B-16:laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
    _exact_gelu("ViT-B-16:datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K"),
    _exact_gelu("ViT-B-16:datacomp_l_s1b_b8k", "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K"),
    KnownWeights("ViT-B-16:dfn2b", "quickgelu", ("apple/DFN2B-CLIP-ViT-B-16",)),
    _metaclip("ViT-B-16", "metaclip_400m", "metaclip_400m", "b16_400m.pt"),
    _metaclip("ViT-B-16", "metaclip_fullcc", "metaclip_2pt5b", "b16_fullcc2.5b.pt"),
    _openai(
        "ViT-B-32",
        "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        "vit_base_patch32_clip_224",
        "vit-base-patch32",
    ),
    _laion400m("ViT-B-32", "quickgelu", 31, "vit_b_32-quickgelu", "d867053b"),
    _laion400m("ViT-B-32", "quickgelu", 32, "vit_b_32-quickgelu", "46683a32"),
    KnownWeights(
        "ViT-B-32:laion2b_e16",
        "gelu",
        ("timm/vit_base_patch32_clip_224.laion2b_e16",),
        file="vit_b_32-laion2b_e16-af8dbd0c.pth",
        sha256="af8dbd0c",
    ),
    _exact_gelu("ViT-B-32:laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    _exact_gelu("ViT-B-32:datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"),
    _exact_gelu("ViT-B-32:datacomp_m_s128m_b4k", "laion/CLIP-ViT-B-32-DataComp.M-s128M-b4K"),
    _exact_gelu("ViT-B-32:datacomp_s_s13m_b4k", "laion/CLIP-ViT-B-32-DataComp.S-s13M-b4K"),
    _metaclip("ViT-B-32", "metaclip_400m", "metaclip_400m", "b32_400m.pt"),
    _metaclip("ViT-B-32", "metaclip_fullcc", "metaclip_2pt5b", "b32_fullcc2.5b.pt"),
    _exact_gelu("ViT-B-32-256:datacomp_s34b_b86k", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K"),
    _openai(
        "ViT-L-14",
        "ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        "vit_large_patch14_clip_224",
        "vit-large-patch14",
    ),
    _laion400m("ViT-L-14", "gelu", 31, "vit_l_14", "69988bb6"),
    _laion400m("ViT-L-14", "gelu", 32, "vit_l_14", "3d133497"),
    _exact_gelu("ViT-L-14:laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", _HALF),
    _exact_gelu("ViT-L-14:datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),
    KnownWeights("ViT-L-14:dfn2b", "quickgelu", ("apple/DFN2B-CLIP-ViT-L-14",)),
    _exact_gelu("ViT-L-14:dfn2b_s39b", "apple/DFN2B-CLIP-ViT-L-14-39B"),
    _metaclip("ViT-L-14", "metaclip_400m", "metaclip_400m", "l14_400m.pt"),
    _metaclip("ViT-L-14", "metaclip_fullcc", "metaclip_2pt5b", "l14_fullcc2.5b.pt"),
    _openai(
        "ViT-L-14-336",
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        "vit_large_patch14_clip_336",
        "vit-large-patch14-336",
    ),
)
KNOWN: Final[Mapping[str, KnownWeights]] = MappingProxyType({weights.name: weights for weights in _ALL})
"""All known weights by name."""

_QUICK_GELU_SUFFIX: Final = "-quickgelu"


def known_weights(text: str) -> KnownWeights | None:
    """Look up known weights by name; None if the text does not start with a known architecture.

    Args:
        text: "ViT-B-16:openai"; "ViT-B-16-quickgelu:openai" is accepted if the weights use QuickGELU.

    Raises:
        WeightsError: a known architecture with an unknown tag, without a tag, or with the wrong activation in
            its name.

    Example:
        >>> known_weights("ViT-L-14-quickgelu:dfn2b").name
        'ViT-L-14:dfn2b'
    """
    architecture, colon, tag = text.partition(":")
    plain = architecture.removesuffix(_QUICK_GELU_SUFFIX)
    if plain not in ARCHITECTURES:
        return None
    tags = [name.split(":")[1] for name in KNOWN if name.startswith(f"{plain}:")]
    if not colon or tag not in tags:
        problem = f"Unknown tag {tag!r} for {plain}" if tag else f"{text!r} is an architecture without a tag"
        near = did_you_mean(tag, tags, 1, prefix=f"{plain}:")
        advice = near or f" Use a tag, such as {plain}:{tags[0]}."
        raise WeightsError(f"{problem}.{advice} See `tagmask weights list`, or use hf:OWNER/REPO.")
    weights = KNOWN[f"{plain}:{tag}"]
    if plain != architecture and weights.activation != "quickgelu":
        raise WeightsError(
            f"{text} names QuickGELU, but these weights were trained with the exact GELU. Use {weights.name}."
        )
    return weights
