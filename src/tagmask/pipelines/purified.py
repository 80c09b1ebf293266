"""Purification (FreeCP) after any dense method: words that the image does not contain are dropped.

Windows pass through the tower once, for all methods. Each window's maps are propagated and scored; then each
image's words are decided on, and what is left is labelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.confidence import WinningScores
from tagmask.dense.cosine_maps import stitch
from tagmask.dense.descriptions import Descriptions
from tagmask.dense.features import ALL_HEADS, FIRST_HEAD, CaptureSpec, class_token, extract_features
from tagmask.dense.planes import label_planes
from tagmask.dense.prompts import Names, TextQuery, merge_names, restrict_names
from tagmask.dense.propagation import propagate_maps
from tagmask.dense.rule import DenseRule, SecondPassContext, extract_shared_features, patch_cosines
from tagmask.dense.sliding import (
    pad_windows,
    plan_image,
    position_rule,
    preprocess,
    stitching,
    window_batches,
)
from tagmask.dense.windows import Windows
from tagmask.papers import freecp
from tagmask.papers.freecp import RefinedMaps
from tagmask.pipelines.labelled import LabelledImage, apply_crf, spread_planes
from tagmask.pipelines.proposed import label_regions
from tagmask.purification import AMBIGUOUS, BY_TAG, KEPT, REDUNDANT, Purification
from tagmask.regions.proposals import Proposals, RegionScores
from tagmask.settings.recipes import MaskRecipe
from tagmask.types import Image, Images, Size, TextFeatures

__all__ = ["Purifier", "purified_rule"]

_CROP_BATCH_SIZE = 64


@dataclass(frozen=True)
class Candidates:
    """The words that compete in one image."""

    classes: tuple[int, ...]
    """Foreground classes, counted from 0."""
    names: Names
    """The background, if there is one, and those classes."""
    rows: list[int]
    """Their texts."""


@dataclass(frozen=True, eq=False)
class PurifiedWindows:
    """The windows of one image under one method."""

    plan: Windows
    pixels: Float[Tensor, "3 hs ws"]
    """The scaled image."""
    refined: list[RefinedMaps]
    """One per window."""
    rule: DenseRule


def purified_rule(recipe: MaskRecipe, depth: int) -> DenseRule:
    """The rule of a recipe's method, with the attention that purification needs, in the form it asks for."""
    rule = dense_rule(recipe.method, depth, recipe.variant)
    head = FIRST_HEAD if recipe.purify_first_head and rule.depth > 1 else ALL_HEADS
    rule = replace(rule, capture=rule.capture | CaptureSpec(running=frozenset({head})))
    if recipe.purify_half_block and rule.depth == 1 and rule.block_form == "full":
        rule = replace(rule, block_form="half")
    return rule


class Purifier:
    """Labels images by the purified maps of dense methods.

    Args:
        clip: the frozen model.
        recipe: with `purify` on.
        query: the texts; the background first, if there is one.
        background: whether there is one.
        descriptions: of the words, for those that share a region; None: the words' own features.
    """

    def __init__(
        self,
        clip: Clip,
        recipe: MaskRecipe,
        query: TextQuery,
        background: bool,
        descriptions: Descriptions | None = None,
    ) -> None:
        self.clip, self.recipe, self._query = clip, recipe, query
        self.background = background
        self.words = query.words
        self._descriptions = descriptions

    def label(
        self,
        images: Images,
        tags: Sequence[tuple[int, ...] | None],
        tag_scores: Sequence[Float32[np.ndarray, " f"] | None],
        ignore_index: int,
        keep_scores: bool,
        recipes: Sequence[MaskRecipe],
        keep_winning: bool,
        proposals: Sequence[Proposals | None] | None = None,
    ) -> list[tuple[LabelledImage, ...]]:
        """Label every pixel of every image, with recipes that differ in method only.

        Args:
            images: upright RGB.
            tags: for each image the classes that compete; None for all.
            tag_scores: for each image the tagger's scores, if it was used.
            ignore_index: the label of pixels of no class.
            keep_scores: also return the planes.
            recipes: the methods.
            keep_winning: also return the greatest score of every pixel.
            proposals: for each image, regions that each get one class; None for none.
        """
        all_regions = proposals or [None] * len(images)
        candidates = [self._candidates(given) for given in tags]
        rules = [purified_rule(recipe, len(self.clip.vision.blocks)) for recipe in recipes]
        all_windows = self._windows(images, candidates, rules)
        return [
            tuple(
                self._label(
                    image,
                    windows,
                    chosen,
                    given,
                    scores,
                    ignore_index,
                    keep_scores,
                    recipe,
                    keep_winning,
                    proposed,
                )
                for windows, recipe in zip(by_rule, recipes, strict=True)
            )
            for image, by_rule, chosen, given, scores, proposed in zip(
                images, all_windows, candidates, tags, tag_scores, all_regions, strict=True
            )
        ]

    def _candidates(self, tags: tuple[int, ...] | None) -> Candidates:
        first = int(self.background)
        count = len(self.words) - first
        classes = tuple(range(count)) if tags is None else tuple(sorted(set(tags)))
        names, rows = restrict_names(self._query.names, [*range(first), *(c + first for c in classes)])
        return Candidates(classes, names, rows)

    # -- Windows -----------------------------------------------------------------------------------------

    def _windows(
        self, images: Images, candidates: Sequence[Candidates], rules: Sequence[DenseRule]
    ) -> list[tuple[PurifiedWindows, ...]]:
        """Encode the windows of all images, and propagate their maps under every rule."""
        settings, clip = self.recipe, self.clip
        scaled = [preprocess(clip, image, settings.short_side) for image in images]
        plans = [plan_image(pixels, settings) for pixels in scaled]
        found: list[list[list[RefinedMaps]]] = [[[] for _ in rules] for _ in images]
        tables = [position_rule(settings, rule) for rule in rules]
        texts = self._query.features
        for owners, batch in window_batches(scaled, plans):
            windows = pad_windows(batch, settings, clip.vision.patch)
            context = SecondPassContext(windows, texts, settings.logit_scale)
            for m, tower in extract_shared_features(clip.vision, windows, rules, tables):
                cosines = patch_cosines(tower, rules[m], context).unflatten(2, tower.grid)
                attention = tower.running[_head_of(rules[m])][:, 1:, 1:]
                for i, maps, weights in zip(owners, cosines, attention, strict=True):
                    refined = freecp.refine_window(
                        maps[candidates[i].rows],
                        freecp.propagation(weights),
                        candidates[i].names,
                        clip.logit_scale,
                        background=self.background,
                    )
                    found[i][m].append(refined)
        return [
            tuple(
                PurifiedWindows(plan, pixels, refined, rule)
                for refined, rule in zip(by_rule, rules, strict=True)
            )
            for plan, pixels, by_rule in zip(plans, scaled, found, strict=True)
        ]

    # -- Decisions ---------------------------------------------------------------------------------------

    def _decide(
        self,
        windows: PurifiedWindows,
        candidates: Candidates,
        tag_scores: Float32[np.ndarray, " f"] | None,
        recipe: MaskRecipe,
    ) -> Purification:
        """Decide which of the candidate classes each window keeps."""
        chosen = list(candidates.classes)
        scores = np.stack([window.scores.cpu().numpy() for window in windows.refined])
        best = scores.max(axis=0, keepdims=True) if recipe.purify_scope == "image" else scores
        kept = np.broadcast_to(best > np.float32(recipe.redundancy), scores.shape).copy()
        decisions = np.full((len(scores), self._count), BY_TAG, np.uint8)
        absent = np.zeros(len(chosen), bool)
        if recipe.purify == "tags" and tag_scores is not None:
            share = _relative(tag_scores)[chosen]
            absent = share < recipe.purify_tag_low
            kept = (kept | (share >= recipe.purify_tag_high)) & ~absent
        groups = np.full(scores.shape, -1, np.int64)
        final = self._purify_ambiguity(windows, candidates, kept, groups, recipe)
        decisions[:, chosen] = np.select(
            [np.broadcast_to(absent, kept.shape), ~kept, ~final], [BY_TAG, REDUNDANT, AMBIGUOUS], KEPT
        )
        return Purification(
            boxes=windows.plan.boxes,
            scores=self._spread(scores, chosen, 0.0),
            decisions=decisions,
            groups=self._spread(groups, chosen, -1.0),
            tag_scores=tag_scores,
        )

    def _purify_ambiguity(
        self,
        windows: PurifiedWindows,
        candidates: Candidates,
        kept: Bool[np.ndarray, "windows k"],
        groups: Int[np.ndarray, "windows k"],
        recipe: MaskRecipe,
    ) -> Bool[np.ndarray, "windows k"]:
        """Return which classes are left after the crops have decided; fills in the groups."""
        final = kept.copy()
        for w, refined in enumerate(windows.refined):
            left = np.flatnonzero(kept[w])
            if len(left) < 2:
                continue
            maps = refined.maps[torch.from_numpy(left)]
            for number, group in enumerate(freecp.ambiguity(maps, recipe.overlap)):
                members = left[list(group)]
                groups[w, members] = number
                if len(group) > 1:
                    winners = self._winners(windows, w, maps[list(group)], members, candidates)
                    final[w, members] = False
                    final[w, members[list(winners)]] = True
        return final

    def _winners(
        self,
        windows: PurifiedWindows,
        w: int,
        maps: Float[Tensor, "k gh gw"],
        members: Int[np.ndarray, " k"],
        candidates: Candidates,
    ) -> tuple[int, ...]:
        """The members of a group that win a crop of the region that they share in a window."""
        clip, patch = self.clip, self.clip.vision.patch
        x0, y0, x1, y1 = windows.plan.boxes[w]
        window = pad_windows(windows.pixels[None, :, y0:y1, x0:x1], self.recipe, patch)[0]
        crops = freecp.crops_of(window, freecp.fused_boxes(maps), patch)
        if crops is None:
            return tuple(range(len(members)))
        table = position_rule(self.recipe, windows.rule)
        features = [
            class_token(extract_features(clip.vision, part, table))
            for part in crops.split(_CROP_BATCH_SIZE)
            if len(part)
        ]
        cosines = crops.new_zeros(0, len(members))
        if features:
            cosines = self._describe(torch.cat(features), [candidates.classes[m] for m in members])
        return freecp.choose(cosines)

    def _describe(self, crops: Float[Tensor, "crops e"], classes: Sequence[int]) -> Float[Tensor, "crops k"]:
        """Cosines of crops with the description of each class: its features, or its best name."""
        if self._descriptions is not None:
            return crops @ self._descriptions.features[list(classes)].T
        first = int(self.background)
        names, rows = restrict_names(self._query.names, [c + first for c in classes])
        return merge_names((crops @ self._query.features[rows].T).T, names).T

    # -- Labels ------------------------------------------------------------------------------------------

    def _label(
        self,
        image: Image,
        windows: PurifiedWindows,
        candidates: Candidates,
        tags: tuple[int, ...] | None,
        tag_scores: Float32[np.ndarray, " f"] | None,
        ignore_index: int,
        keep_scores: bool,
        recipe: MaskRecipe,
        keep_winning: bool,
        proposals: Proposals | None,
    ) -> LabelledImage:
        size, first = (image.shape[0], image.shape[1]), int(self.background)
        decided = self._decide(windows, candidates, tag_scores, recipe)
        kept = decided.decisions[:, list(candidates.classes)] == KEPT
        active = np.flatnonzero(kept.any(axis=0)).tolist()
        classes = [candidates.classes[i] + first for i in active]
        empty_label = 0 if self.background or recipe.purify_first_class else ignore_index
        if not active:
            return self._nothing_left(size, tags, decided, empty_label, keep_scores, keep_winning)
        planes = torch.stack([window.maps for window in windows.refined])[:, active]
        planes = planes * torch.from_numpy(kept[:, active]).to(planes)[..., None, None]
        grid = (planes.shape[-2], planes.shape[-1])
        matrices = stitching(windows.plan, grid, windows.pixels, size, recipe, self.clip.vision.patch)
        maps = stitch(planes, windows.plan, *matrices, windows.pixels)
        shown = [*range(first), *classes]
        regions = None if proposals is None else RegionScores(proposals, len(shown))
        if recipe.tlp_steps:
            maps = propagate_maps(maps, self._class_features(classes), recipe)
            maps = replace(maps, cosines=maps.cosines.clamp(0, 1))
        found = label_planes(
            maps,
            classes,
            recipe,
            background=self.background,
            empty_label=empty_label,
            keep_scores=keep_scores or recipe.crf is not None,
            keep_winning=keep_winning and recipe.crf is None,
            observe=None if regions is None or recipe.crf is not None else regions.add,
        )
        labels, scores, winning = found.labels, found.scores, found.winning
        if recipe.crf is not None and scores is not None:
            probabilities = apply_crf(_shares(torch.from_numpy(scores)), image, recipe.crf, wrapped=False)
            best = np.array(shown, np.int32)[probabilities.max(dim=0).indices.numpy()]
            # The CRF moves borders between regions; it does not fill what no word claims.
            labels = np.where(labels == ignore_index, np.int32(ignore_index), best)
            scores = probabilities.numpy()
            winning = WinningScores.of(scores, first) if keep_winning else None
            if regions is not None:
                regions.add(0, scores)
        spread = spread_planes(scores, shown, self.words, size, keep_scores)
        labelled = LabelledImage(labels, spread, tags, winning, purification=decided)
        if regions is None:
            return labelled
        # A region that no word claims at all is empty, as a pixel is.
        return label_regions(
            labelled, regions, shown, lowest=np.finfo(np.float64).tiny, otherwise=empty_label
        )

    def _class_features(self, classes: Sequence[int]) -> TextFeatures:
        """The mean feature of each class's names."""
        rows = [restrict_names(self._query.names, [c])[1] for c in classes]
        return F.normalize(torch.stack([self._query.features[r].mean(dim=0) for r in rows]), dim=-1)

    def _nothing_left(
        self,
        size: Size,
        tags: tuple[int, ...] | None,
        decided: Purification,
        empty_label: int,
        keep_scores: bool,
        keep_winning: bool,
    ) -> LabelledImage:
        """The result where every word was dropped."""
        background = np.ones((int(self.background), *size), np.float32)
        scores = spread_planes(background, range(len(background)), self.words, size, keep_scores)
        winning = WinningScores.of(background, int(self.background)) if keep_winning else None
        labels = np.full(size, empty_label, np.int32)
        return LabelledImage(labels, scores, tags, winning, purification=decided)

    @property
    def _count(self) -> int:
        """Number of foreground classes."""
        return len(self.words) - int(self.background)

    def _spread(self, values: np.ndarray, classes: Sequence[int], rest: float) -> np.ndarray:
        """Values of the candidates, (windows, k), as values of all classes."""
        spread = np.full((len(values), self._count), rest, values.dtype)
        spread[:, list(classes)] = values
        return spread


def _head_of(rule: DenseRule) -> str:
    (head,) = rule.capture.running
    return head


def _relative(scores: Float32[np.ndarray, " f"]) -> Float32[np.ndarray, " f"]:
    """Scores relative to the image's lowest and highest; 0.5 if all are equal, so that neither decides."""
    low, high = scores.min(), scores.max()
    return np.full_like(scores, 0.5) if low == high else (scores - low) / (high - low)


def _shares(planes: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Planes that sum to 1 at each pixel; equal ones where all are 0."""
    total = planes.sum(dim=0, keepdim=True)
    return torch.where(total > 0, planes / total.clamp(min=1e-8), 1 / len(planes))
