"""CLS-SEG: tags by TagCLIP, then masks of these tags by CLIP-ES, from one forward pass of the frozen tower.

    Y. Lin, M. Chen, K. Zhang, H. Li, M. Li, Z. Yang, D. Lv, B. Lin, H. Liu, D. Cai.
    "TagCLIP: A Local-to-Global Framework to Enhance Open-Vocabulary Multi-Label Classification of CLIP
    without Training", AAAI 2024, section on annotation-free segmentation.

The authors run two programs one after the other. Both scale the image in the same way and read the same
blocks and attention maps, so here one forward pass serves both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.features import TowerFeatures
from tagmask.dense.prompts import TextQuery
from tagmask.method import Method
from tagmask.papers import clip_es, tagclip
from tagmask.papers.clip_es import ClassTexts, ClipEsSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.types import Image

__all__ = ["METHODS", "extract_shared_features", "maps_of_tags", "tag_scores"]


@dataclass(frozen=True, eq=False)
class SharedFeatures:
    """One preprocessed image and its tower features, used for both tags and masks."""

    pixels: Float[Tensor, "3 hs ws"]
    tower: TowerFeatures


@torch.inference_mode()
def extract_shared_features(
    clip: Clip, image: Image, tagging: TagclipSettings, masking: ClipEsSettings
) -> SharedFeatures:
    """Preprocess an image as TagCLIP does and run all blocks but the last, once for both methods."""
    pixels = tagclip.preprocess_bicubic(clip, image, tagging)
    extra = clip_es.captured(masking, len(clip.vision.blocks))
    return SharedFeatures(pixels, tagclip.encode_image(clip, pixels, tagging, extra=extra))


@torch.inference_mode()
def tag_scores(
    clip: Clip, shared: SharedFeatures, query: TextQuery, settings: TagclipSettings
) -> Float[np.ndarray, " f"]:
    """Return TagCLIP's final score of every foreground class."""
    names, texts = tagclip.competing_texts(query.names, query.features, query.foreground, settings)
    local = tagclip.local_scores(clip, shared.pixels, shared.tower, names, texts, query.foreground, settings)
    final = tagclip.reidentify(clip, [local], names, texts, settings)[0]
    scores: Float[np.ndarray, " f"] = final.cpu().numpy()
    return scores


@torch.inference_mode()
def maps_of_tags(
    clip: Clip,
    image: Image,
    shared: SharedFeatures,
    tags: Sequence[int],
    texts: ClassTexts,
    masking: ClipEsSettings,
) -> Float[Tensor, "K gh gw"]:
    """Return CLIP-ES's refined map of each tag, from the shared features wherever the values are the same.

    The two programs' position tables differ for images of exactly the tower's native grid, where CLIP-ES
    rounds the stored table to float16 and TagCLIP does not. Published weights are float16 already; with other
    weights such an image gets a second forward pass.
    """
    tower = shared.tower
    grid = clip.vision.grid
    table = clip.vision.positional_embedding
    if tower.grid == (grid, grid) and not torch.equal(table, table.half().float()):
        tower = clip_es.encode_image(clip, image, masking)
    return clip_es.tag_maps(clip, tower, texts, tags, masking)


METHODS = (
    Method(
        name="cls-seg",
        kind="tag_first",
        summary="TagCLIP's tags, then masks of them by Grad-CAM and attention affinity",
        source="CLS-SEG, in TagCLIP, Lin et al., AAAI 2024, with CLIP-ES, Lin et al., CVPR 2023",
        settings=ClipEsSettings,
    ),
)
