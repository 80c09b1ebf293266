"""The pipeline of the dense methods (SCLIP and others): words compete in every pixel."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Integer

from tagmask.catalogue import dense_rule, method_of
from tagmask.clip.load import Clip
from tagmask.confidence import WinningScores
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.descriptions import Descriptions
from tagmask.dense.frozen_windows import FrozenWindows, StoredBatch
from tagmask.dense.labels import class_scores, label_pixels
from tagmask.dense.prompts import TextQuery, restrict_names, text_query
from tagmask.dense.propagation import propagate_maps
from tagmask.dense.sliding import check_windows, freeze_windows, sliding_cosines
from tagmask.papers.clip_es import check_tags
from tagmask.pipelines.head import Head
from tagmask.pipelines.labelled import LabelledImage, MaskPipeline, apply_crf, spread_planes
from tagmask.pipelines.proposed import label_regions
from tagmask.pipelines.purified import Purifier
from tagmask.pipelines.tagging import TagclipPipeline
from tagmask.regions.proposals import Proposals, RegionScores
from tagmask.settings.recipes import MaskRecipe
from tagmask.types import Image, Images

__all__ = ["DensePipeline"]


class DensePipeline(MaskPipeline):
    """Compares words with every pixel, in sliding windows.

    All words compete, or only those of the image's tags.
    """

    def __init__(
        self,
        clip: Clip,
        recipe: MaskRecipe,
        descriptions: Descriptions | None = None,
        head: Head | None = None,
    ) -> None:
        check_windows(clip, recipe)
        check = method_of(recipe).check
        if check is not None:
            check(recipe.variant, clip.vision)
        self.clip, self.recipe = clip, recipe
        self.background = bool(recipe.background)
        lines = [", ".join(recipe.background)] if recipe.background else []
        self._query = text_query(clip, [*lines, *recipe.words], (), recipe.templates)
        self.texts = self._query.texts
        names = self._query.words
        self.words = ("background", *names[1:]) if self.background else names
        self._tagger = None
        if recipe.uses_tagger and recipe.tagger is not None:
            self._tagger = TagclipPipeline(clip, recipe.tagger)
        self._purifier = None
        if recipe.purifies:
            self._purifier = Purifier(clip, recipe, self._query, self.background, descriptions)
        self._correction = None
        if head is not None:
            head.check(clip, recipe)
            self._correction = None if head.is_zero else head.matrix.to(clip.device)

    @property
    def query(self) -> TextQuery:
        """The words' texts and features; the background, if any, is the first class."""
        return self._query

    @torch.inference_mode()
    def __call__(
        self,
        images: Images,
        tags: Sequence[Sequence[int] | None],
        ignore_index: int,
        keep_scores: bool,
        keep_winning: bool = False,
        proposals: Sequence[Proposals | None] | None = None,
    ) -> list[LabelledImage]:
        """See `MaskPipeline`."""
        results = self.compare(
            images, tags, ignore_index, keep_scores, [self.recipe], keep_winning, proposals
        )
        return [result for (result,) in results]

    @torch.inference_mode()
    def compare(
        self,
        images: Images,
        tags: Sequence[Sequence[int] | None],
        ignore_index: int,
        keep_scores: bool,
        recipes: Sequence[MaskRecipe],
        keep_winning: bool = False,
        proposals: Sequence[Proposals | None] | None = None,
    ) -> list[tuple[LabelledImage, ...]]:
        """Label every pixel with several recipes, which may differ from this pipeline's in method only.

        They share one forward pass through all blocks but the last. A head corrects all of them.

        Returns:
            For each image, one result per recipe. See `MaskPipeline` for the arguments.
        """
        scores = self._tag_scores(images, tags)
        all_tags = self._find_tags(tags, scores)
        if self._purifier is not None:
            return self._purifier.label(
                images, all_tags, scores, ignore_index, keep_scores, recipes, keep_winning, proposals
            )
        depth = len(self.clip.vision.blocks)
        rules = [dense_rule(recipe.method, depth, recipe.variant) for recipe in recipes]
        texts = self._query.features
        all_maps = sliding_cosines(self.clip, images, texts, self.recipe, rules, self._correction)
        all_regions = proposals or [None] * len(images)
        return [
            tuple(
                self._label(image, maps, image_tags, ignore_index, keep_scores, recipe, keep_winning, regions)
                for maps, recipe in zip(image_maps, recipes, strict=True)
            )
            for image, image_maps, image_tags, regions in zip(
                images, all_maps, all_tags, all_regions, strict=True
            )
        ]

    @torch.inference_mode()
    def freeze(self, image: Image, stored: Sequence[StoredBatch] | None = None) -> FrozenWindows:
        """Run the tower on an image, and keep what the method compares with texts; see `freeze_windows`."""
        rule = dense_rule(self.recipe.method, len(self.clip.vision.blocks), self.recipe.variant)
        return freeze_windows(self.clip, image, self.recipe, rule, stored)

    @torch.inference_mode()
    def label_frozen(
        self,
        image: Image,
        frozen: FrozenWindows,
        tags: Sequence[int] | None,
        ignore_index: int,
        keep_scores: bool,
        keep_winning: bool = False,
    ) -> LabelledImage:
        """Label an image whose features were kept by `freeze`; see `MaskPipeline` for the arguments."""
        maps = frozen.maps(self._query.features, self.recipe.logit_scale, self._correction)
        (found,) = self._find_tags([tags], self._tag_scores([image], [tags]))
        return self._label(image, maps, found, ignore_index, keep_scores, self.recipe, keep_winning, None)

    @torch.inference_mode()
    def frozen_margins(self, frozen: FrozenWindows) -> Float32[np.ndarray, "h w"]:
        """The score of the best class less that of the next at every pixel, before a CRF."""
        maps = frozen.maps(self._query.features, self.recipe.logit_scale, self._correction)
        if self.recipe.tlp_steps:
            maps = propagate_maps(maps, self._query.features, self.recipe)
        margins = np.ones(maps.size, np.float32)
        if len(self.words) > 1:
            for top, bottom, scores in class_scores(maps, self._query.names, self.recipe):
                best = scores.topk(2, dim=0).values
                margins[top:bottom] = (best[0] - best[1]).cpu().numpy()
        return margins

    def _tag_scores(
        self, images: Images, tags: Sequence[Sequence[int] | None]
    ) -> list[Float32[np.ndarray, " f"] | None]:
        """The tagger's scores of each image; None for images whose tags are given, or without a tagger."""
        for given in tags:
            check_tags(given or (), len(self.recipe.words))
        untagged = [image for image, given in zip(images, tags, strict=True) if given is None]
        if self._tagger is None or not untagged:
            return [None] * len(images)
        found = iter(self._tagger.score(untagged))
        return [next(found) if given is None else None for given in tags]

    def _find_tags(
        self,
        tags: Sequence[Sequence[int] | None],
        all_scores: Sequence[Float32[np.ndarray, " f"] | None],
    ) -> list[tuple[int, ...] | None]:
        """Each image's tags: those given, else those that the tagger finds; None if all words compete."""
        found: list[tuple[int, ...] | None] = []
        for given, scores in zip(tags, all_scores, strict=True):
            if given is not None:
                found.append(tuple(given))
            elif scores is not None and self._tagger is not None and self.recipe.among == "tags":
                found.append(self._tagger.choose(scores))
            else:
                found.append(None)
        return found

    def _label(
        self,
        image: Image,
        maps: CosineMaps,
        tags: tuple[int, ...] | None,
        ignore_index: int,
        keep_scores: bool,
        recipe: MaskRecipe,
        keep_winning: bool,
        proposals: Proposals | None,
    ) -> LabelledImage:
        names, texts = self._query.names, self._query.features
        candidates = list(range(len(self.words)))
        if tags is not None:
            candidates = sorted({tag + self.background for tag in tags} | ({0} if self.background else set()))
            names, rows = restrict_names(names, candidates)
            maps, texts = maps.restricted(rows, candidates), texts[rows]
        if not candidates:  # no tags and no background
            empty = np.full(maps.size, ignore_index, np.int32)
            planes = spread_planes(None, candidates, self.words, maps.size, keep_scores)
            nothing = np.zeros((0, *maps.size), np.float32)
            return LabelledImage(empty, planes, tags, WinningScores.of(nothing, 0) if keep_winning else None)
        if recipe.tlp_steps:
            maps = propagate_maps(maps, texts, recipe)
        regions = None if proposals is None else RegionScores(proposals, len(candidates))
        pixels = label_pixels(
            maps,
            names,
            recipe,
            background=self.background,
            ignore_index=ignore_index,
            keep_scores=keep_scores or recipe.crf is not None,
            keep_winning=keep_winning and recipe.crf is None,
            observe=None if regions is None or recipe.crf is not None else regions.add,
        )
        labels, scores, winning = pixels.labels, pixels.scores, pixels.winning
        if recipe.crf is not None and scores is not None:
            labels, scores = self._refine_crf(image, labels, scores, ignore_index, recipe)
            winning = WinningScores.of(scores, int(self.background)) if keep_winning else None
            if regions is not None:
                regions.add(0, scores)
        table = np.full(ignore_index + 1, ignore_index, np.int32)
        table[: len(candidates)] = candidates
        planes = spread_planes(scores, candidates, self.words, maps.size, keep_scores)
        labelled = LabelledImage(table[labels], planes, tags, winning)
        if regions is None:
            return labelled
        # After a CRF there is no threshold, as for pixels.
        lowest, otherwise = 0.0 if recipe.crf else recipe.prob_thd, 0 if self.background else ignore_index
        return label_regions(labelled, regions, candidates, lowest=lowest, otherwise=otherwise)

    def _refine_crf(
        self,
        image: Image,
        labels: Integer[np.ndarray, "h w"],
        scores: Float32[np.ndarray, "k h w"],
        ignore_index: int,
        recipe: MaskRecipe,
    ) -> tuple[Integer[np.ndarray, "h w"], Float32[np.ndarray, "k h w"]]:
        """Apply the CRF. If there is a background, it starts with `prob_thd` at pixels below `prob_thd`."""
        planes = torch.from_numpy(scores)
        unsure = planes.amax(dim=0) < recipe.prob_thd
        if self.background:
            planes[0][unsure] = recipe.prob_thd
        refined = apply_crf(planes, image, recipe.crf or "", wrapped=False)
        best = refined.max(dim=0).indices.to(torch.int32).numpy()
        if not self.background:
            best = np.where(labels == ignore_index, np.int32(ignore_index), best)
        return best, refined.numpy()
