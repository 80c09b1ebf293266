"""CLS-SEG: TagCLIP's tags, then CLIP-ES's masks of them, from one pass through the frozen tower.

    Y. Lin, M. Chen, K. Zhang, H. Li, M. Li, Z. Yang, D. Lv, B. Lin, H. Liu, D. Cai.
    "TagCLIP: A Local-to-Global Framework to Enhance Open-Vocabulary Multi-Label Classification of CLIP
    without Training", AAAI 2024, section on annotation-free segmentation.

The authors run two programs one after the other. Both scale an image alike and read the same blocks and
attention maps, so here the pass is made once and serves both.
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
    """One image and its pass, which tagging and masking both read."""

    pixels: Float[Tensor, "3 hs ws"]
    state: TowerFeatures


@torch.inference_mode()
def extract_shared_features(
    clip: Clip, image: Image, tagging: TagclipSettings, masking: ClipEsSettings
) -> SharedFeatures:
    """Scale an image as tagging does, and run the tower's blocks but the last, once for both methods."""
    pixels = tagclip.preprocess_bicubic(clip, image, tagging)
    watched = clip_es.captured_layers(masking, len(clip.vision.blocks))
    return SharedFeatures(pixels, tagclip.encode_image(clip, pixels, tagging, also=watched))


@torch.inference_mode()
def tag_scores(
    clip: Clip, look: SharedFeatures, query: TextQuery, settings: TagclipSettings
) -> Float[np.ndarray, " f"]:
    """TagCLIP's final score of every foreground class."""
    names, texts = query.names, query.features
    local = tagclip.first_scores(clip, look.pixels, look.state, names, texts, query.foreground, settings)
    final = tagclip.reidentify(clip, [local], names, texts, settings)[0]
    scores: Float[np.ndarray, " f"] = final.cpu().numpy()
    return scores


@torch.inference_mode()
def maps_of_tags(
    clip: Clip,
    image: Image,
    look: SharedFeatures,
    tags: Sequence[int],
    texts: ClassTexts,
    masking: ClipEsSettings,
) -> Float[Tensor, "K gh gw"]:
    """CLIP-ES's refined map of each tag, from the same pass wherever that gives the same numbers.

    The two programs' position tables differ for images of exactly the tower's own grid, where CLIP-ES rounds
    the stored table to float16 and TagCLIP does not. Published weights are float16 already; for others such
    an image is looked at a second time.
    """
    tower = look.state
    grid = clip.vision.grid
    table = clip.vision.positional_embedding
    if tower.grid == (grid, grid) and not torch.equal(table, table.half().float()):
        tower = clip_es.encode_image(clip, image, masking)
    return clip_es.tag_maps(clip, tower, texts, tags, masking)


METHODS = (
    Method(
        name="cls-seg",
        kind="tag_first",
        summary="tags first, then each by Grad-CAM and affinity",
        source="CLS-SEG, in TagCLIP, Lin et al., AAAI 2024, with CLIP-ES, Lin et al., CVPR 2023",
        settings=ClipEsSettings,
    ),
)
