"""TagCLIP's scores with many settings from one forward pass, and with corrupted patch scores.

Corruption is that of a noise test: logits of the patches plus Gaussian noise, or random patches that are
certain of a random text. It is drawn from the scene's seed: the same for all setups, in every run.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.bench.miniature.setups import Scores, TagSetup, tag_recipe_of
from tagmask.clip.load import Clip
from tagmask.dense.prompts import text_query
from tagmask.miniature.scenes import Scene
from tagmask.papers import tagclip
from tagmask.papers.tagclip_settings import TagclipSettings

__all__ = ["corrupted_cosines", "tagclip_scores"]

_NOISE_SEED = 20240


@torch.inference_mode()
def tagclip_scores(
    clip: Clip, scenes: Sequence[Scene], setups: Sequence[TagSetup], first_seed: int
) -> list[Scores]:
    """Return the scores of every setup.

    Args:
        clip: the weights to measure.
        scenes: test scenes with consecutive seeds.
        setups: TagCLIP with any settings that leave the image's size as it is.
        first_seed: of the first scene.
    """
    base = tag_recipe_of(TagSetup())
    query = text_query(clip, base.words, base.background, base.templates)
    all_settings = [cast(TagclipSettings, tag_recipe_of(setup).variant) for setup in setups]
    capture = reduce(or_, (tagclip.captured(each, len(clip.vision.blocks)) for each in all_settings))
    rows: list[list[Scores]] = [[] for _ in setups]
    for seed, scene in enumerate(scenes, first_seed):
        pixels = tagclip.preprocess_bicubic(clip, scene.image, cast(TagclipSettings, base.variant))
        tower = tagclip.encode_image(clip, pixels, cast(TagclipSettings, base.variant), extra=capture)
        for row, setup, settings in zip(rows, setups, all_settings, strict=True):
            names, texts = tagclip.competing_texts(query.names, query.features, query.foreground, settings)
            cosines = tagclip.patch_cosines(tower, texts, keep_attention=settings.last_attention)
            cosines = corrupted_cosines(cosines, setup, clip.logit_scale, seed)
            coarse = tagclip.coarse_scores(clip, cosines, names, settings)
            local = tagclip.refined_local_scores(pixels, tower, coarse, query.foreground, settings)
            row.append(tagclip.reidentify(clip, [local], names, texts, settings)[0].cpu().numpy())
    return [np.stack(row) for row in rows]


def corrupted_cosines(
    cosines: Float[Tensor, "N q"], setup: TagSetup, logit_scale: float, seed: int
) -> Float[Tensor, "N q"]:
    """Add the setup's noise to the logits, and make its share of patches certain of a random text.

    Args:
        cosines: of each patch with each text.
        setup: what to corrupt.
        logit_scale: factor from cosines to logits.
        seed: of the scene.
    """
    if not setup.noise and not setup.false_patches:
        return cosines
    rng = np.random.default_rng([_NOISE_SEED, seed])
    patches, texts = cosines.shape
    noise = torch.from_numpy(rng.standard_normal((patches, texts), np.float32)).to(cosines)
    corrupted = cosines + setup.noise / logit_scale * noise
    chosen = rng.permutation(patches)[: round(setup.false_patches * patches)]
    corrupted[chosen] = -1.0
    corrupted[chosen, rng.integers(0, texts, len(chosen))] = 1.0
    return corrupted
