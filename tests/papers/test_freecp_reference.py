"""FreeCP against recorded values of its authors' program."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.boxes import contour_boxes
from tagmask.dense.features import TowerFeatures, class_token, extract_features
from tagmask.dense.prompts import Names, split_names, text_features
from tagmask.dense.rule import SecondPassContext, patch_cosines
from tagmask.dense.sliding import plan_image, position_rule, preprocess
from tagmask.papers import freecp
from tagmask.pipelines.purified import purified_rule
from tagmask.refine.affinity import Affinity
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import MaskRecipe

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = GOLDEN / "purify_small.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "purify_a.npz"

RUNS = {
    "voc21.sclip.paper": (0.15, 0.8),
    "voc21.sclip.low": (0.05, 0.6),
    "voc21.clearclip.low": (0.05, 0.6),
    "voc21.gem.low": (0.1, 0.6),
    "voc20.sclip.paper": (0.15, 0.7),
    "voc20.maskclip.low": (0.05, 0.8),
    "voc20.sclip.high": (0.3, 0.7),
}
"""The recorded runs, with their thresholds of redundancy and ambiguity."""
WINDOWS = {
    "voc21.sclip.low": (0, 4),
    "voc21.clearclip.low": (2,),
    "voc20.sclip.paper": (2,),
    "voc21.gem.low": (5,),
}
"""The windows whose steps were recorded."""
TOLERANCES = {
    "A": 3e-7,
    "T_sym": 1e-7,
    "T": 1e-7,
    "s": 1e-5,
    "soft_iou": 1e-5,
    "P": 2e-5,
    "P_minmax": 2e-5,
    "R": 5e-5,
    "ap_fused": 5e-5,
    "planes": 5e-5,
    "ap_crop_logits": 1e-3,
    "ap_crop0": 1e-4,
    "text": 1e-6,
}


def recipe_of(run: str) -> MaskRecipe:
    dataset, base, _ = run.split(".")
    redundancy, overlap = RUNS[run]
    recipe = mask_recipe(
        f"freecp+{base}/{dataset}",
        as_="published",
        overrides={"redundancy": redundancy, "overlap": overlap},
    )
    assert isinstance(recipe, MaskRecipe)
    return recipe


def lines_of(recipe: MaskRecipe) -> list[str]:
    return [*([", ".join(recipe.background)] if recipe.background else []), *recipe.words]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.array(PILImage.open(GOLDEN / "variants_img_a.png").convert("RGB"))


def described(pack: dict[str, np.ndarray], run: str) -> np.ndarray:
    """The given descriptions of the classes, without those of the background."""
    dataset = run.partition(".")[0]
    return pack[f"{dataset}.text_llm"][-20:]


def check_run(
    clip: Clip, image: np.ndarray, pack: dict[str, np.ndarray], run: str, step: tuple[int, int]
) -> None:
    seg = tagmask.Segmenter(clip, recipe=recipe_of(run), descriptions=described(pack, run))(
        image, scores=True
    )
    decided = seg.purification
    assert decided is not None
    assert seg.scores is not None
    np.testing.assert_allclose(decided.scores, pack[f"a.{run}.s"], rtol=0, atol=TOLERANCES["s"])
    if f"a.{run}.kept" in pack:
        np.testing.assert_array_equal(decided.decisions != 1, pack[f"a.{run}.kept_rp"])
        np.testing.assert_array_equal(decided.decisions == 0, pack[f"a.{run}.kept"])
        np.testing.assert_array_equal(decided.groups, pack[f"a.{run}.group"])
        planes = seg.scores[:, :: step[0], :: step[0]]
        np.testing.assert_allclose(planes, pack[f"a.{run}.planes"], rtol=0, atol=TOLERANCES["planes"])
    no_tie = pack[f"a.{run}.near_tie"] == 0
    assert np.count_nonzero(no_tie) > no_tie.size / 2
    labels = seg.labels[:: step[1], :: step[1]]
    np.testing.assert_array_equal(labels[no_tie], pack[f"a.{run}.label"][no_tie])


@pytest.mark.parametrize("run", ["voc21.sclip.low", "voc21.gem.low"])
def test_run_equals_the_reference(variants_model: Clip, image: np.ndarray, run: str) -> None:
    # The small copy has every fifteenth row and column of planes; `make parity` checks all runs.
    check_run(variants_model, image, dict(np.load(SMALL)), run, (15, 3))


@pytest.mark.parity
@pytest.mark.parametrize("run", RUNS)
def test_every_run(variants_model: Clip, image: np.ndarray, run: str) -> None:
    check_run(variants_model, image, dict(np.load(SHARED)), run, (3, 1))


@pytest.mark.parity
def test_the_small_copy_is_of_the_pack() -> None:
    pack, small = np.load(SHARED), np.load(SMALL)
    for name in small.files:
        recorded = pack[name]
        if name.endswith("planes"):
            recorded = recorded[:, ::5, ::5]
        elif name.endswith(("label", "near_tie")):
            recorded = recorded[::3, ::3]
        np.testing.assert_array_equal(small[name], recorded)


# -- Steps of single windows ---------------------------------------------------------------------------------


@dataclass
class Window:
    """One window of a run, step by step."""

    clip: Clip
    image: np.ndarray
    run: str
    index: int

    @cached_property
    def recipe(self) -> MaskRecipe:
        return recipe_of(self.run)

    @cached_property
    def names(self) -> Names:
        return split_names(lines_of(self.recipe))

    @cached_property
    def texts(self) -> Tensor:
        return text_features(self.clip, self.names.texts, self.recipe.templates)

    @cached_property
    def pixels(self) -> Tensor:
        scaled = preprocess(self.clip, self.image, self.recipe.short_side)
        x0, y0, x1, y1 = plan_image(scaled, self.recipe).boxes[self.index]
        return scaled[:, y0:y1, x0:x1]

    @cached_property
    def tower(self) -> TowerFeatures:
        rule = purified_rule(self.recipe, 12)
        table = position_rule(self.recipe, rule)
        return extract_features(self.clip.vision, self.pixels[None], table, capture=rule.capture)

    @cached_property
    def attention(self) -> Tensor:
        (attention,) = self.tower.running.values()
        return attention[0, 1:, 1:]

    @cached_property
    def affinity(self) -> Affinity:
        return freecp.propagation(self.attention)

    @cached_property
    def plain(self) -> Tensor:
        context = SecondPassContext(self.pixels[None], self.texts, 100.0)
        cosines = patch_cosines(self.tower, purified_rule(self.recipe, 12), context)[0]
        background = bool(self.recipe.background)
        return freecp.probabilities(
            cosines.unflatten(1, self.tower.grid), self.names, self.clip.logit_scale, background=background
        )[0]

    @property
    def first(self) -> int:
        return len(self.recipe.background)

    @cached_property
    def shares(self) -> Tensor:
        return freecp.scaled(self.plain)[self.first :]

    @cached_property
    def refined(self) -> Tensor:
        return freecp.refine(self.affinity, self.shares, freecp.box_mask(self.shares))

    def kept(self) -> list[int]:
        s = freecp.redundancy(self.plain[self.first :], self.refined)
        return (s > self.recipe.redundancy).nonzero()[:, 0].tolist()

    def groups(self) -> list[list[int]]:
        kept = self.kept()
        groups = freecp.ambiguity(self.refined[kept], self.recipe.overlap)
        return [[kept[i] for i in group] for group in groups if len(group) > 1]

    def values(self, pack: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every recorded step; lists whose order is not defined are sorted."""
        eye = torch.eye(self.tower.patches)
        picked = pack[f"a.{self.run}.w{self.index}.planes_idx"] if self.run != "voc21.gem.low" else ()
        classes = [row - self.first for row in picked if row >= self.first]
        groups = self.groups()
        boxes = [freecp.fused_boxes(self.refined[group]) for group in groups]
        crops = [freecp.crops_of(self.pixels, each, 16) for each in boxes]
        table = position_rule(self.recipe, purified_rule(self.recipe, 12))
        rows = torch.from_numpy(described(pack, self.run))
        logits = [
            self.clip.logit_scale
            * class_token(extract_features(self.clip.vision, part, table))
            @ rows[group].T
            for part, group in zip(crops, groups, strict=True)
            if part is not None
        ]
        contours = [  # an empty map was recorded as an empty box
            (c, *box)
            for c in range(len(self.shares))
            for box in contour_boxes(self.shares[c], 0.4) or [(0, 0, 0, 0)]
        ]
        return {
            "A": self.attention[::13, ::7],
            "T_sym": self.affinity.spread(eye, times=1)[::13, ::7],
            "T": self.affinity.spread(eye, times=2)[::13, ::7],
            "P": self.plain[list(picked)],
            "P_minmax": torch.stack([self.plain.min(), self.plain.max()]),
            "R": self.refined[classes],
            "soft_iou": freecp.overlap(self.refined[self.kept()]),
            "boxes": np.array(sorted(contours)),
            "ap_boxes": np.array(sorted((g, *box) for g, each in enumerate(boxes) for box in each)),
            "ap_fused": torch.stack([self.refined[group].mean(dim=0) for group in groups] or [eye]),
            "ap_crop_logits": torch.cat(logits or [eye]),
            "crops": torch.cat([part for part in crops if part is not None] or [eye]),
        }


@pytest.mark.parity
@pytest.mark.parametrize(("run", "index"), [(run, i) for run, all_ in WINDOWS.items() for i in all_])
@torch.inference_mode()
def test_every_step_of_a_window(variants_model: Clip, image: np.ndarray, run: str, index: int) -> None:
    pack = dict(np.load(SHARED))
    values = Window(variants_model, image, run, index).values(pack)
    prefix = f"a.{run}.w{index}."
    recorded = {name.removeprefix(prefix): array for name, array in pack.items() if name.startswith(prefix)}
    assert "A" in recorded
    for name, array in recorded.items():
        if name == "planes_idx":
            continue
        if name == "ap_crop0":
            found = np.asarray(values["crops"])[:, :, ::5, ::5]
            assert min(np.abs(crop - array).max() for crop in found) < TOLERANCES[name]
        elif name in ("boxes", "ap_boxes"):
            np.testing.assert_array_equal(values[name], sorted(array.tolist()))
        elif name == "ap_crop_logits":
            ours, theirs = (rows[np.argsort(rows[:, 0])] for rows in (np.asarray(values[name]), array))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[name])
        else:
            np.testing.assert_allclose(values[name], array, rtol=0, atol=TOLERANCES[name], err_msg=name)


@pytest.mark.parity
@pytest.mark.parametrize("run", ["voc21.sclip.low", "voc20.sclip.high"])
@torch.inference_mode()
def test_inputs_and_contours(variants_model: Clip, image: np.ndarray, run: str) -> None:
    pack = dict(np.load(SHARED))
    window = Window(variants_model, image, run, 0)
    recorded = pack[f"{run.partition('.')[0]}.text"]
    np.testing.assert_allclose(window.texts, recorded, rtol=0, atol=TOLERANCES["text"])
    scaled = preprocess(variants_model, image, 448)
    np.testing.assert_allclose(scaled[:, ::16, ::16], pack["a.input_448_sub"], rtol=0, atol=1e-5)
    for i, counts in enumerate(pack[f"a.{run}.n_contours"]):
        shares = Window(variants_model, image, run, i).shares
        for each, count in zip(shares, counts.tolist(), strict=True):
            if abs(float(each.max()) - 1) > 1e-5 or float(each.max()) == 1:  # else its level is 254 or 255
                assert max(len(contour_boxes(each, 0.4)), 1) == count  # an empty map was recorded as 1
