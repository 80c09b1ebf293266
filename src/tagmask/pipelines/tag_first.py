"""The pipeline of CLS-SEG and CLIP-ES: an image's tags, given or found, then a mask of each."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.confidence import WinningScores
from tagmask.dense.prompts import TextQuery, split_names, text_features
from tagmask.errors import InputError
from tagmask.papers import clip_es, cls_seg
from tagmask.pipelines.labelled import LabelledImage, MaskPipeline, apply_crf, spread_planes
from tagmask.pipelines.proposed import label_regions
from tagmask.pipelines.tagging import TagclipPipeline
from tagmask.refine.pamr import pamr
from tagmask.refine.tlp import tlp
from tagmask.regions.proposals import Proposals, RegionScores
from tagmask.settings.recipes import TagFirstRecipe
from tagmask.types import Image, Images

__all__ = ["TagFirstPipeline"]


class TagFirstPipeline(MaskPipeline):
    """CLS-SEG and CLIP-ES: takes or finds an image's tags, then masks each of them."""

    def __init__(self, clip: Clip, recipe: TagFirstRecipe) -> None:
        self.clip, self.recipe = clip, recipe
        self.background = recipe.background_names is not None
        prompts = recipe.prompts or clip_es.fuse_names(recipe.words)
        self.texts = tuple(dict.fromkeys((*split_names(recipe.words).texts, *prompts, *recipe.background)))
        features = text_features(clip, (*prompts, *recipe.background), recipe.templates)
        self.class_texts = clip_es.ClassTexts(features[: len(prompts)], features[len(prompts) :])
        names = split_names(recipe.words).classes
        self.words = ("background", *names) if self.background else names
        self.tagger = TagclipPipeline(clip, recipe.tagger) if recipe.tagger else None

    @property
    def query(self) -> TextQuery | None:
        """See `MaskPipeline`."""
        return self.tagger.query if self.tagger else None

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
        for given in tags:
            clip_es.check_tags(given or (), len(self.recipe.words))
        return [
            self._mask(image, given, ignore_index, keep_scores, keep_winning, regions)
            for image, given, regions in zip(images, tags, proposals or [None] * len(images), strict=True)
        ]

    def _mask(
        self,
        image: Image,
        given: Sequence[int] | None,
        ignore_index: int,
        keep_scores: bool,
        keep_winning: bool,
        proposals: Proposals | None,
    ) -> LabelledImage:
        tags, maps = self._maps(image, given)
        size = (image.shape[0], image.shape[1])
        recipe, settings = self.recipe, self.recipe.variant
        classes = [tag + self.background for tag in tags]
        classes = [0, *classes] if self.background else classes
        regions = None if proposals is None else RegionScores(proposals, len(classes))
        if recipe.tlp_steps or recipe.pamr_steps or recipe.crf:
            probabilities = torch.from_numpy(clip_es.crf_probabilities(maps, size, settings))
            if recipe.tlp_steps and len(probabilities):
                probabilities = self._propagate(probabilities, image, tags)
            if recipe.pamr_steps and len(probabilities):
                guide = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
                probabilities = pamr(
                    probabilities, guide, steps=recipe.pamr_steps, dilations=recipe.pamr_dilations
                )
            if recipe.crf and len(probabilities):
                probabilities = apply_crf(probabilities, image, recipe.crf, wrapped=recipe.crf_wrapped)
            planes: Float32[np.ndarray, "k h w"] | None = probabilities.numpy()
            # The confidence threshold is for a CRF's output; other probabilities do not sum to 1.
            labelling = settings if recipe.crf else replace(settings, confidence=None)
            labels, _ = clip_es.crf_labels(probabilities.numpy(), tags, labelling, ignore_index=ignore_index)
            if regions is not None:
                regions.add(0, probabilities.numpy())
        else:
            labels, planes = clip_es.label_pixels(
                maps,
                size,
                tags,
                settings,
                ignore_index=ignore_index,
                keep_scores=keep_scores or keep_winning,
                observe=None if regions is None else regions.add,
            )
        # Only the image's tags have planes, a few of all words.
        winning = None
        if keep_winning and planes is not None:
            winning = WinningScores.of(planes, int(self.background))
        kept = spread_planes(planes, classes, self.words, size, keep_scores)
        labelled = LabelledImage(labels, kept, tags, winning, maps)
        if regions is None:
            return labelled
        lowest = (recipe.crf and settings.confidence) or 0.0
        return label_regions(labelled, regions, classes, lowest=lowest, otherwise=ignore_index)

    def _propagate(
        self, planes: Float[Tensor, "planes h w"], image: Image, tags: Sequence[int]
    ) -> Float[Tensor, "planes h w"]:
        """Propagate the tags' planes (TLP); the background's text is the mean of the competing ones."""
        recipe = self.recipe
        texts = self.class_texts.foreground[list(tags)]
        if self.background:
            texts = torch.cat([self.class_texts.background.sum(dim=0, keepdim=True), texts])
        colours = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
        mean, std = (torch.tensor(each)[:, None, None] for each in (self.clip.mean, self.clip.std))
        refined = tlp(
            planes,
            (colours - mean) / std,
            texts.to(planes.device),
            steps=recipe.tlp_steps,
            grid=recipe.tlp_grid,
            scale=recipe.tlp_scale,
            text=recipe.tlp_text,
        )
        # Few steps may leave a value outside 0..1, and a CRF takes the logarithm.
        return torch.from_numpy(clip_es.clamped_planes(refined, recipe.variant))

    def _maps(
        self, image: Image, given: Sequence[int] | None
    ) -> tuple[tuple[int, ...], Float[Tensor, "K gh gw"]]:
        settings = self.recipe.variant
        if given is None:
            if self.tagger is None:
                raise InputError(
                    f"{self.recipe.name} needs the image's tags. Give them, as in "
                    "segmenter(image, tags=[0, 5])."
                )
            tagger = self.tagger
            features = cls_seg.extract_shared_features(self.clip, image, tagger.settings, settings)
            tags = tagger.choose(cls_seg.tag_scores(self.clip, features, tagger.query, tagger.settings))
            return tags, cls_seg.maps_of_tags(self.clip, image, features, tags, self.class_texts, settings)
        if not len(given):
            return (), self.class_texts.foreground.new_zeros(0, 1, 1)
        tower = clip_es.encode_image(self.clip, image, settings)
        return tuple(given), clip_es.tag_maps(self.clip, tower, self.class_texts, given, settings)
