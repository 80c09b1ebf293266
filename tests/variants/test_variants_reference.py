"""Every dense method against recorded values of its authors' program."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F

import tagmask
from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense import labels, sliding
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.positions import POSITIONS
from tagmask.dense.prompts import split_names, text_features
from tagmask.dense.resize import resize_cv2_linear
from tagmask.dense.rule import SecondPassContext, VariantSettings, patch_cosines, patch_features
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import MaskRecipe
from tagmask.settings.words import read_list
from tagmask.variants import clip_surgery, resclip, sfp
from tagmask.variants.clip import vanilla
from tagmask.variants.similarity import gaussian_prior, local_outlier_factor, lof_outliers

GOLDEN = Path(__file__).parents[1] / "golden"
GATE = GOLDEN / "variants_small.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "variants_a.npz"

FEATURES = {
    "maskclip_keep": "maskclip",
    "maskclip_drop": "maskclip-bare",
    "qk_drop": "clip-bare",
    "csa_drop": "sclip-bare",
    "clearclip": "clearclip",
    "naclip": "naclip",
    "nonly": "naclip-near",
    "resclip": "resclip",
    "resclip_rcs": "resclip-rcs",
    "resclip_sfr": "resclip-sfr",
    "res_on_clearclip": "resclip-clearclip",
    "res_on_sclip": "resclip-sclip",
    "scclip": "sc-clip",
    "sfp": "sfp",
    "sfp_l2": "sfp-length",
    "sfp_lof": "sfp-lone",
    "gem": "gem",
    "gem_drop": "gem-bare",
    "surgery": "clip-surgery",
}
"""Method names in the recorded data, and ours."""

MAPS = {
    "voc20.naclip.whole": ("naclip/voc20", {}),
    "voc20.naclip.whole_pamr": ("naclip+pamr/voc20", {}),
    "voc20.naclip.h336": ("sclip/voc20", {"method": "naclip"}),
    "voc20.clearclip.own": ("clearclip/voc20", {}),
    "voc20.clearclip.h336": ("sclip/voc20", {"method": "clearclip"}),
    "voc20.maskclip_keep.h336": ("maskclip/voc20", {}),
    "voc20.resclip.whole": ("resclip/voc20", {}),
    "voc20.resclip.h336": ("sclip/voc20", {"method": "resclip"}),
    "voc20.scclip.h336": ("sc-clip/voc20", {}),
    "voc21.scclip.h336": ("sc-clip/voc21", {}),
    "voc20.sfp.h336": ("sfp/voc20", {}),
    "voc20.gem.h336": ("gem/voc20", {}),
    "voc20.surgery.h336": ("clip-surgery/voc20", {}),
}
"""Maps of the whole image, and their recipes."""

NOT_RESULTS = {
    # Of another image, or the record of a bug.
    *("gem.own_maps_sub", "surgery.tokens_448", "surgery.pos_28x28", "surgery.tokens_after_448"),
    # Points for an interactive segmenter.
    *("surgery.points_class3", "surgery.points_labels"),
    # Names.
    "gem.own_names",
}


def recipe_of(name: str, as_: str | None = "published", **changes: object) -> MaskRecipe:
    recipe = mask_recipe(name, None, None, as_, changes)
    assert isinstance(recipe, MaskRecipe)
    return recipe


class Reference:
    """Computes the recorded values on demand."""

    def __init__(self, clip: Clip, image: np.ndarray) -> None:
        self.clip, self.image = clip, image
        self.voc20, self.voc21 = recipe_of("sclip/voc20"), recipe_of("sclip/voc21")
        self.texts = {"20": self._texts(self.voc20), "21": self._texts(self.voc21)}
        self.window = sliding.preprocess_cv2(clip, image, 336)[None, :, :224, :224]

    def _texts(self, recipe: MaskRecipe) -> Tensor:
        background = [", ".join(recipe.background)] if recipe.background else []
        return text_features(self.clip, split_names([*background, *recipe.words]).texts, recipe.templates)

    def settings(self, method: str) -> VariantSettings:
        recipe = recipe_of("resclip/voc20") if "res" in method else recipe_of("sclip/voc20", method=method)
        return recipe.variant

    def context(self, method: str) -> SecondPassContext:
        return SecondPassContext(self.window, self.texts["20"], 50.0 if method == "clearclip" else 40.0)

    def tower(self, method: str) -> TowerFeatures:
        rule = dense_rule(method, 12, self.settings(method))
        return extract_features(
            self.clip.vision, self.window, POSITIONS[rule.positions], capture=rule.capture
        )

    def features(self, method: str) -> Tensor:
        rule = dense_rule(method, 12, self.settings(method))
        return patch_features(self.tower(method), rule, self.context(method))[0]

    def crop_low(self, method: str) -> Tensor:
        rule = dense_rule(method, 12, self.settings(method))
        return patch_cosines(self.tower(method), rule, self.context(method))[0].view(-1, 14, 14)

    def maps(self, key: str) -> tuple[CosineMaps, MaskRecipe]:
        recipe = recipe_of(MAPS[key][0], **MAPS[key][1])
        texts = self.texts[key[3:5]]
        rule = dense_rule(recipe.method, 12, recipe.variant)
        ((maps,),) = sliding.sliding_cosines(self.clip, [self.image], texts, recipe, [rule])
        return maps, recipe

    def slide(self, key: str) -> Tensor:
        maps, recipe = self.maps(key)
        strips = [planes for _, _, planes in labels.refined_strips(maps, recipe)]
        return torch.cat(strips, dim=1)[:, ::3, ::3]

    def label(self, key: str) -> np.ndarray:
        recipe = recipe_of(MAPS[key][0], **MAPS[key][1])
        return tagmask.Segmenter(self.clip, recipe=recipe)(self.image).labels

    def outliers(self, method: str) -> Tensor:
        tower = self.tower(method)
        outliers = sfp.class_outliers(tower, 10) if method == "sfp" else lof_outliers(tower.tokens[:, 1:])
        return outliers[0].nonzero()[:, 0]

    def patch_labels(self, *, whole: bool) -> Tensor:
        recipe = recipe_of("resclip/voc20")
        window = sliding.preprocess_cv2(self.clip, self.image, 336)[None] if whole else self.window
        probabilities, tower = self.first_prediction(window)
        return resclip.patch_labels(probabilities, tower.grid, 16, recipe.variant.temp_thd)

    def first_prediction(self, window: Tensor) -> tuple[Tensor, TowerFeatures]:
        rule = dense_rule("resclip-rcs", 12, recipe_of("resclip/voc20").variant)
        tower = extract_features(self.clip.vision, window, POSITIONS[rule.positions], capture=rule.capture)
        context = SecondPassContext(window, self.texts["20"], 40.0)
        features = patch_features(tower, rule, context)
        return next(resclip.initial_probabilities(features, tower.grid, context)), tower

    def gem_texts(self) -> Tensor:
        names = [line.split(", ")[0] for line in self.voc20.words]
        return text_features(self.clip, names, ("a photo of a {}.",))

    def gem_maps(self) -> Tensor:
        window = sliding.preprocess_cv2(self.clip, self.image, 336)[None]
        rule = dense_rule("gem", 12, self.settings("gem"))
        tower = extract_features(self.clip.vision, window, POSITIONS[rule.positions], capture=rule.capture)
        cosines = patch_cosines(tower, rule, SecondPassContext(window, self.gem_texts(), 40.0))[0]
        full = F.interpolate(
            cosines.reshape(1, -1, *tower.grid), (336, 448), mode="bilinear", align_corners=False
        )[0]
        least, most = full.amin(dim=(1, 2), keepdim=True), full.amax(dim=(1, 2), keepdim=True)
        return (full - least) / (most - least)

    def surgery_map(self) -> Tensor:
        scores = clip_surgery.feature_surgery(self.unit_tokens(), self.texts["20"])[0, 1:]
        scores = (scores - scores.amin(dim=0)) / (scores.amax(dim=0) - scores.amin(dim=0))
        return scores.T.reshape(-1, 14, 14)

    def unit_tokens(self) -> Tensor:
        return clip_surgery.surgery_tokens(self.clip.vision, self.window)

    def surgery_tokens(self) -> Tensor:
        tower = self.tower("clip-surgery")
        cls = tower.project_last_block(vanilla(tower))[:, :1]
        return torch.cat([cls, self.features("clip-surgery")[None]], dim=1)[0]


def by_name(reference: Reference, pack: Mapping[str, np.ndarray]) -> dict[str, Callable[[], object]]:
    values: dict[str, Callable[[], object]] = {
        "text20": lambda: reference.texts["20"],
        "clearclip.text20": lambda: reference.texts["20"],
        "text21": lambda: reference.texts["21"],
        "idx20": lambda: split_names(reference.voc20.words).owners,
        "idx21": lambda: split_names([", ".join(reference.voc21.background), *reference.voc21.words]).owners,
        "a.input_crop0": lambda: reference.window[0],
        "a.resized_rgb_336": lambda: resize_cv2_linear(reference.image, (336, 448)),
        "a.resized_rgb_448": lambda: resize_cv2_linear(reference.image, (448, 597)),
        "naclip.omega": lambda: gaussian_prior((14, 14))[1:, 1:][::13, ::7],
        "scclip.outliers": lambda: reference.outliers("sc-clip"),
        "sfp.outliers": lambda: torch.stack(
            [reference.outliers("sfp") // 14, reference.outliers("sfp") % 14], dim=1
        ),
        "resclip.patch_matrix": partial(reference.patch_labels, whole=False),
        "a.resclip.whole_patch_matrix": partial(reference.patch_labels, whole=True),
        "resclip.sfr_map": lambda: F.pad(
            resclip.smoothed_affinity(reference.patch_labels(whole=False)), (1, 0, 1, 0)
        ),
        "resclip.first_prob_sub": lambda: reference.first_prediction(reference.window)[0][:, ::7, ::7],
        "scclip.lof": lambda: local_outlier_factor(reference.tower("sc-clip").tokens[:, 1:])[0],
        "gem.own_text": reference.gem_texts,
        "gem.own_maps_a_sub": lambda: reference.gem_maps()[:, ::8, ::8],
        "gem.own_argmax_a": lambda: reference.gem_maps().max(dim=0).indices,
        "gem.pos_21x28": lambda: POSITIONS["bicubic-smooth"](
            reference.clip.vision.positional_embedding, (21, 28)
        ),
        "gem.feat_ori": lambda: reference.tower("gem").project_last_block(vanilla(reference.tower("gem")))[0],
        "surgery.tokens": reference.surgery_tokens,
        "surgery.fs": lambda: clip_surgery.feature_surgery(reference.unit_tokens(), reference.texts["20"])[0],
        "surgery.map_sub": lambda: F.interpolate(reference.surgery_map()[None], (90, 120), mode="bilinear")[
            0, :, ::3, ::3
        ].permute(1, 2, 0),
        "surgery.text85_first4": lambda: text_features(
            reference.clip, split_names(reference.voc20.words).texts[:4], read_list("prompts_tag85")
        ),
        "surgery.text_empty": lambda: text_features(reference.clip, ("",), read_list("prompts_tag85")),
        "surgery.fs_single": lambda: (
            reference.unit_tokens()[0]
            @ torch.from_numpy(pack["surgery.text85_first4"] - pack["surgery.text_empty"]).T
        ),
    }
    for recorded, method in FEATURES.items():
        values[f"{recorded}.feat"] = partial(reference.features, method)
        values[f"{recorded}.crop_low"] = partial(reference.crop_low, method)
    for key in MAPS:
        values[f"a.{key}.slide"] = partial(reference.slide, key)
        values[f"a.{key}.label"] = partial(reference.label, key)
    return values


def check(name: str, actual: object, reference: np.ndarray, near_tie: np.ndarray | None) -> None:
    actual = np.asarray(actual)
    if near_tie is not None:
        no_tie = near_tie == 0
        assert np.count_nonzero(no_tie) > no_tie.size / 2
        np.testing.assert_array_equal(actual[no_tie], reference[no_tie])
    elif name == "sfp.outliers":
        np.testing.assert_array_equal(actual[np.lexsort(actual.T)], reference[np.lexsort(reference.T)])
    elif reference.dtype.kind in "iu":
        np.testing.assert_array_equal(np.sort(actual) if "outliers" in name else actual, reference)
    else:
        np.testing.assert_allclose(
            actual, reference, rtol=0, atol=1e-5 * max(1.0, np.nanmax(np.abs(reference)))
        )


@pytest.fixture(scope="module")
def reference(variants_model: Clip) -> Reference:
    image = np.array(PILImage.open(GOLDEN / "variants_img_a.png").convert("RGB"))
    return Reference(variants_model, image)


@pytest.mark.parametrize("name", np.load(GATE).files)
@torch.inference_mode()
def test_step_equals_the_reference(name: str, reference: Reference) -> None:
    # The small copy has every fourteenth patch and every third row of labels; `make parity` checks them all.
    pack = np.load(GATE)
    if name in NOT_RESULTS or name.endswith("near_tie"):
        return
    actual = np.asarray(by_name(reference, pack)[name]())
    if name.endswith(".label"):
        check(name, actual[::3], pack[name], pack[f"{name.rpartition('.')[0]}.near_tie"])
    else:
        check(name, actual[::14] if name.endswith(".feat") else actual, pack[name], None)


@pytest.mark.parity
@pytest.mark.parametrize("name", np.load(SHARED).files if SHARED.exists() else ["missing"])
@torch.inference_mode()
def test_every_recorded_array(name: str, reference: Reference) -> None:
    pack = np.load(SHARED)
    if name in NOT_RESULTS or name.endswith("near_tie"):
        return
    tie = pack[f"{name.rpartition('.')[0]}.near_tie"] if name.endswith(".label") else None
    if name == "gem.own_argmax_a":  # no ties are recorded for this one
        first, second = reference.gem_maps().topk(2, dim=0).values
        tie = np.asarray(first - second < 1e-5)
    check(name, by_name(reference, pack)[name](), pack[name], tie)
