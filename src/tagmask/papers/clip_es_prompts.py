"""CLIP-ES's sharpness-based selection of a prompt template.

    Y. Lin et al. "CLIP is Also an Efficient Segmenter: A Text-Driven Approach for Weakly Supervised Semantic
    Segmentation", CVPR 2023, the section on text-driven strategies.

A softmax over the texts shares 1 among the tags of an image. If it is sharp, one tag takes nearly all and the
maps of the others, which are gradients of their probabilities, are weak. So a template is good if the tags of
an image have similar probabilities:

    sharpness of a template = sum over images of  variance(s_1..s_k) / mean(s_1..s_k)

    s_c   probability of tag c        k   tags of the image, 2 or more

The lowest wins; on PASCAL VOC's training images the paper found "a clean origami {}.". The authors' programs
do not compute it, so nothing here could be compared with theirs. The formula is that of notes on the paper.
Not in them, and chosen here:

* the softmax is that of Grad-CAM: the image's tags and the background words, compared with the mean of the
  patches;
* the variance divides by k;
* images of one tag have no variance and do not count.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["sharpness", "tag_probabilities"]


def tag_probabilities(
    feature: Float[Tensor, " e"], texts: Float[Tensor, "t q e"], tags: int, logit_scale: float
) -> Float64[Tensor, "t k"]:
    """Return the probabilities of an image's tags under each template.

    Args:
        feature: the image's, of unit length.
        texts: unit features under each template: the tags first, then what competes with them.
        tags: how many of the texts are tags.
        logit_scale: multiplies the cosines before the softmax.
    """
    logits = logit_scale * (texts.float() @ feature.float())
    return torch.softmax(logits.double(), dim=1)[:, :tags]


def sharpness(probabilities: Float64[Tensor, "t k"]) -> Float64[Tensor, " t"]:
    """Return what one image adds to the sharpness of each template.

    Example:
        >>> sharpness(torch.tensor([[0.5, 0.5], [0.5, 0.0]], dtype=torch.float64)).tolist()
        [0.0, 0.25]
    """
    mean = probabilities.mean(dim=1)
    variance = probabilities.var(dim=1, correction=0)
    # Probabilities of 0 throughout, where the background takes all, are equally low.
    return torch.where(mean > 0, variance / mean.clamp(min=torch.finfo(torch.float64).tiny), 0)
