"""FreeCP as a tagger: a word is a tag if its map survives propagation in any window of the image."""

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.features import ALL_HEADS, CaptureSpec
from tagmask.dense.prompts import TextQuery, text_query
from tagmask.dense.rule import SecondPassContext, extract_shared_features, patch_cosines
from tagmask.dense.sliding import SlidingSettings, plan_image, position_rule, window_batches
from tagmask.papers import freecp
from tagmask.papers.freecp import FreecpTagSettings
from tagmask.papers.preprocessing import to_pixels
from tagmask.pipelines.tagging import Scores, TagPipeline
from tagmask.pipelines.thresholding import choose
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Images

__all__ = ["FreecpPipeline"]


class FreecpPipeline(TagPipeline):
    """FreeCP's redundancy score as the score of a tag."""

    def __init__(self, clip: Clip, recipe: TagRecipe) -> None:
        super().__init__(clip, recipe)
        self._settings = cast(FreecpTagSettings, recipe.variant)
        # The background texts are one class in front, as for masks.
        lines = [", ".join(recipe.background)] if recipe.background else []
        self._all: TextQuery = text_query(clip, [*lines, *recipe.words], (), recipe.templates)
        rule = dense_rule(self._settings.base, len(clip.vision.blocks))
        running = CaptureSpec(running=frozenset({ALL_HEADS}))
        self._rule = replace(rule, capture=rule.capture | running)
        self._sliding = SlidingSettings(crop=self._settings.crop, stride=self._settings.stride)

    def least_score(self, scores: Float32[np.ndarray, " f"]) -> float:
        """See `TagPipeline`: a fixed score, whatever the image's other scores are."""
        return freecp.relative_score(min(self._settings.redundancy, 0.5))

    def choose(self, scores: Float32[np.ndarray, " f"]) -> tuple[int, ...]:
        """See `TagPipeline`; an image may have no tag."""
        recipe, least = self.recipe, self.least_score(scores)
        thresholds = recipe.thresholds or (None,) * len(scores)
        return choose(
            scores,
            recipe.tag_tau,
            [least if threshold is None else threshold for threshold in thresholds],
            min_score=recipe.min_score,
            top=recipe.top,
        )

    @torch.inference_mode()
    def score(self, images: Images) -> Scores:
        """See `TagPipeline`."""
        scaled = [to_pixels(self.clip, image, self._settings) for image in images]
        plans = [plan_image(pixels, self._sliding) for pixels in scaled]
        best: list[Tensor] = [torch.zeros(len(self.words), device=self.clip.device) for _ in images]
        tables = [position_rule(self._sliding, self._rule)]
        for owners, windows in window_batches(scaled, plans):
            context = SecondPassContext(windows, self._all.features, self._sliding.logit_scale)
            for _, tower in extract_shared_features(self.clip.vision, windows, [self._rule], tables):
                cosines = patch_cosines(tower, self._rule, context).unflatten(2, tower.grid)
                attention = tower.running[ALL_HEADS][:, 1:, 1:]
                for i, maps, weights in zip(owners, cosines, attention, strict=True):
                    refined = freecp.refine_window(
                        maps,
                        freecp.propagation(weights),
                        self._all.names,
                        self.clip.logit_scale,
                        background=bool(self.recipe.background),
                    )
                    best[i] = torch.maximum(best[i], refined.scores)
        return [(s / (1 - s)).cpu().numpy() for s in best]
