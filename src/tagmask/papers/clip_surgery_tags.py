"""CLIP Surgery as a tagger: subtract from each word what all words have in common.

    Y. Li, H. Wang, Y. Duan, J. Zhang, X. Li.
    "A Closer Look at the Explainability of Contrastive Language-Image Pre-training" (CLIP Surgery), 2023.

    F    (b, n, e) tokens, unit rows, class token first      T    (K, e) texts, unit rows      c_ik = F_i·T_k

    w_k  = K softmax_k(2 c_0k)                     weight of word k from the class token, mean 1
    S_ik = w_k c_ik - mean_j(w_j c_ij)             feature surgery

A word's score is S_0k, read at the class token (as the authors answered when asked). There the tower is
unaltered, so the second stream is not needed. `pool="patches"`, our addition, takes the best patch of that
stream instead.

The texts, image preprocessing and templates of the figures in TagCLIP's table were not published.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tagmask.checks import check_choice
from tagmask.clip.load import Clip
from tagmask.dense.features import class_token
from tagmask.dense.positions import bilinear_half
from tagmask.method import Method, OwnWords
from tagmask.papers.preprocessing import InputSettings, encode_image
from tagmask.types import Pixels, TextFeatures
from tagmask.variants.clip_surgery import feature_surgery, surgery_tokens

__all__ = ["METHODS", "SurgeryTagSettings", "score"]


@dataclass(frozen=True, kw_only=True)
class SurgeryTagSettings(InputSettings):
    """Settings of CLIP Surgery as a tagger."""

    input: str = "square"
    """"centre", "square" or "native"."""
    pool: str = "class"
    """Where a word's score is read: "class", the class token, or "patches", the best patch."""

    def __post_init__(self) -> None:
        InputSettings.__post_init__(self)
        check_choice("pool", self.pool, ("class", "patches"))


def score(
    clip: Clip, pixels: Pixels, texts: TextFeatures, settings: SurgeryTagSettings
) -> Float[Tensor, "b K"]:
    """Return S_0k of each image; with `pool="patches"`, max_i S_ik over the patches of the second stream."""
    if settings.pool == "class":
        return feature_surgery(class_token(encode_image(clip, pixels))[:, None], texts)[:, 0]
    return feature_surgery(surgery_tokens(clip.vision, pixels, bilinear_half), texts)[:, 1:].amax(dim=1)


METHODS = (
    Method(
        name="clip-surgery",
        kind="one_pass",
        score=score,
        summary="class token cosines minus what all words have in common",
        source="CLIP Surgery, Li et al., 2023",
        settings=SurgeryTagSettings,
        own_words=OwnWords(settings={"input": "native"}),
    ),
)
