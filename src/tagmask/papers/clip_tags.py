"""CLIP as a tagger: cosine of the class token with each word, with or without softmax.

    A. Radford et al. "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
    With and without softmax as a multi-label baseline: TagCLIP, Lin et al., AAAI 2024.

    f    (b, e) class tokens of the unmodified tower, unit rows     T    (q, e) texts, unit rows
    s    the logit scale, about 100 for OpenAI's weights

Softmax compares the words of one image with each other. It keeps their order within an image but changes the
order of images for a word: this is all that separates the two rows in the paper's table.

No released program reproduces those rows. Preprocessing, prompts and whether background names take part in
the softmax are settings here; the defaults are TagCLIP's.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.method import Method, OwnWords
from tagmask.papers.preprocessing import InputSettings, encode_image
from tagmask.types import Pixels, TextFeatures

__all__ = ["METHODS", "ClipTagSettings", "cosines", "score", "softmax"]


@dataclass(frozen=True, kw_only=True)
class ClipTagSettings(InputSettings):
    """Settings of CLIP as a tagger."""

    softmax: bool = True
    """Apply a softmax over the words of an image; False returns cosines."""


def cosines(f: Float[Tensor, "b e"], texts: TextFeatures) -> Float[Tensor, "b q"]:
    """c_k = f · T_k, -1..1."""
    return f @ texts.T


def softmax(c: Float[Tensor, "*b q"], scale: float) -> Float[Tensor, "*b q"]:
    """exp(s c_k) / Σ_j exp(s c_j): 0..1, rows sum to 1.

    Example:
        >>> softmax(torch.tensor([0.2, 0.2, 0.2]), 100.0)
        tensor([0.3333, 0.3333, 0.3333])
    """
    return torch.softmax(scale * c, dim=-1)


def score(clip: Clip, pixels: Pixels, texts: TextFeatures, settings: ClipTagSettings) -> Float[Tensor, "b q"]:
    """Return the score of each text for each image."""
    c = cosines(class_token(encode_image(clip, pixels)), texts)
    return softmax(c, clip.logit_scale) if settings.softmax else c


METHODS = (
    Method(
        name="clip",
        kind="one_pass",
        score=score,
        summary="cosine of the class token with each word",
        source="CLIP, Radford et al., ICML 2021",
        settings=ClipTagSettings,
        preset={"softmax": False},
        own_words=OwnWords(background=True),
    ),
    Method(
        name="clip-softmax",
        kind="one_pass",
        score=score,
        summary="softmax of the class token's cosines over all words and background names",
        source="CLIP, Radford et al., ICML 2021; as a baseline: TagCLIP, Lin et al., AAAI 2024",
        settings=ClipTagSettings,
        preset={"softmax": True},
        own_words=OwnWords(background=True),
    ),
)
