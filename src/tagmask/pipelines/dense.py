"""SCLIP and its kin: words are compared with every pixel; all words compete, or those of the image's tags."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Integer

from tagmask.catalogue import dense_rule, method_of
from tagmask.clip.load import Clip
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.labels import label_pixels
from tagmask.dense.prompts import Names, text_query
from tagmask.dense.sliding import check_windows, sliding_cosines
from tagmask.papers.clip_es import check_tags
from tagmask.pipelines.labelled import LabelledImage, MaskPipeline, apply_crf, spread_planes
from tagmask.pipelines.tagging import TagclipPipeline
from tagmask.settings.recipes import MaskRecipe
from tagmask.types import Image, Images

__all__ = ["DensePipeline"]


class DensePipeline(MaskPipeline):
    """Words with pixels, in sliding windows."""

    def __init__(self, clip: Clip, recipe: MaskRecipe) -> None:
        check_windows(clip, recipe)
        check = method_of(recipe).check
        if check is not None:
            check(recipe.variant, clip.vision)
        self.clip, self.recipe = clip, recipe
        self.background = bool(recipe.background)
        lines = [", ".join(recipe.background)] if recipe.background else []
        self._query = text_query(clip, [*lines, *recipe.words], (), recipe.templates)
        self.texts = self._query.texts
        named = self._query.words
        self.words = ("background", *named[1:]) if self.background else named
        self._tagger = None
        if recipe.among == "tags" and recipe.tagger is not None:
            self._tagger = TagclipPipeline(clip, recipe.tagger)

    @torch.inference_mode()
    def __call__(
        self, images: Images, tags: Sequence[Sequence[int] | None], ignore_index: int, keep_scores: bool
    ) -> list[LabelledImage]:
        """See `MaskPipeline`."""
        return [masked for (masked,) in self.compared(images, tags, ignore_index, keep_scores, [self.recipe])]

    @torch.inference_mode()
    def compared(
        self,
        images: Images,
        tags: Sequence[Sequence[int] | None],
        ignore_index: int,
        keep_scores: bool,
        recipes: Sequence[MaskRecipe],
    ) -> list[tuple[LabelledImage, ...]]:
        """Label every pixel under each of several recipes, which differ from this pipeline's in method only.

        All of them read one pass through the blocks before the last.
        """
        chosen = self._chosen(images, tags)
        depth = len(self.clip.vision.blocks)
        rules = [dense_rule(recipe.method, depth, recipe.variant) for recipe in recipes]
        all_maps = sliding_cosines(self.clip, images, self._query.features, self.recipe, rules)
        return [
            tuple(
                self._label(image, maps, found, ignore_index, keep_scores, recipe)
                for maps, recipe in zip(each, recipes, strict=True)
            )
            for image, each, found in zip(images, all_maps, chosen, strict=True)
        ]

    def _chosen(self, images: Images, tags: Sequence[Sequence[int] | None]) -> list[tuple[int, ...] | None]:
        for given in tags:
            check_tags(given or (), len(self.recipe.words))
        known = [None if given is None else tuple(given) for given in tags]
        asked = [image for image, given in zip(images, known, strict=True) if given is None]
        if self._tagger is None or not asked:
            return known
        found = iter([self._tagger.choose(scores) for scores in self._tagger.score(asked)])
        return [next(found) if given is None else given for given in known]

    def _label(
        self,
        image: Image,
        maps: CosineMaps,
        tags: tuple[int, ...] | None,
        ignore_index: int,
        keep_scores: bool,
        recipe: MaskRecipe,
    ) -> LabelledImage:
        names = self._query.names
        kept = list(range(len(self.words)))
        if tags is not None:
            kept = sorted({tag + self.background for tag in tags} | ({0} if self.background else set()))
            rows = [i for i, owner in enumerate(names.owners) if owner in set(kept)]
            names = Names(
                tuple(names.classes[c] for c in kept),
                tuple(names.texts[i] for i in rows),
                tuple(kept.index(names.owners[i]) for i in rows),
            )
            maps = replace(maps, cosines=maps.cosines[rows])
        if not kept:  # nothing is in the running, and there is no background to be
            empty = np.full(maps.size, ignore_index, np.int32)
            return LabelledImage(empty, spread_planes(None, kept, self.words, maps.size, keep_scores), tags)
        labels, scores = label_pixels(
            maps,
            names,
            recipe,
            background=self.background,
            ignore_index=ignore_index,
            keep_scores=keep_scores or recipe.crf is not None,
        )
        if recipe.crf is not None and scores is not None:
            labels, scores = self._agreed(image, labels, scores, ignore_index, recipe)
        table = np.full(ignore_index + 1, ignore_index, np.int32)
        table[: len(kept)] = kept
        full = spread_planes(scores, kept, self.words, maps.size, keep_scores)
        return LabelledImage(table[labels], full, tags)

    def _agreed(
        self,
        image: Image,
        labels: Integer[np.ndarray, "h w"],
        scores: Float32[np.ndarray, "k h w"],
        ignore_index: int,
        recipe: MaskRecipe,
    ) -> tuple[Integer[np.ndarray, "h w"], Float32[np.ndarray, "k h w"]]:
        """After the CRF. Pixels that were unsure (`prob_thd`) speak for the background, if there is one."""
        planes = torch.from_numpy(scores)
        unsure = planes.amax(dim=0) < recipe.prob_thd
        if self.background:
            planes[0][unsure] = recipe.prob_thd
        agreed = apply_crf(planes, image, recipe.crf or "", wrapped=False)
        best = agreed.max(dim=0).indices.to(torch.int32).numpy()
        if not self.background:
            best = np.where(labels == ignore_index, np.int32(ignore_index), best)
        return best, agreed.numpy()
