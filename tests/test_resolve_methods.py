"""Settings of the dense methods and of what refines their scores."""

from dataclasses import replace

import pytest

from tagmask.errors import InputError
from tagmask.resolve import mask_recipe, recipe
from tagmask.settings.recipes import MaskRecipe
from tests.settings.class_counts import CLASSES


@pytest.mark.parametrize("dataset", CLASSES)
def test_another_dense_method_changes_the_variant_only(dataset: str) -> None:
    base, preset = recipe(f"sclip/{dataset}"), recipe(f"resclip/{dataset}")
    assert isinstance(base, MaskRecipe)
    assert isinstance(preset, MaskRecipe)
    mixed = mask_recipe(f"sclip/{dataset}", None, None, None, {"method": "resclip"})
    assert isinstance(mixed, MaskRecipe)
    assert mixed.variant == preset.variant
    assert replace(mixed, method="sclip", variant=base.variant) == base


def test_settings_of_the_dense_methods() -> None:
    # Section 11 of the methods' common table: short side, scale, probability and area thresholds.
    rows = {
        "clearclip/voc21": (448, 50.0, 0.5, None),
        "clearclip/cityscapes": (448, 50.0, 0.0, None),
        "naclip/voc21": (336, 40.0, 0.1, None),
        "naclip/coco-stuff": (336, 40.0, 0.0, None),
        "resclip/cityscapes": (560, 40.0, 0.0, None),
        "sc-clip/voc21": (336, 50.0, 0.15, 0.1),
        "sc-clip/coco-object": (336, 55.0, 0.35, None),
        "sc-clip/context60": (336, 40.0, 0.15, None),
        "sfp/ade20k": (384, 40.0, 0.0, None),
        "sfp/voc21": (336, 50.0, 0.15, 0.1),
        "pearl/voc21": (336, 40.0, 0.1, None),
        "pearl/coco-stuff": (336, 40.0, 0.0, None),
        "pearl/cityscapes": (560, 40.0, 0.0, None),
    }
    for name, row in rows.items():
        found = recipe(name)
        assert isinstance(found, MaskRecipe)
        assert (found.short_side, found.logit_scale, found.prob_thd, found.area_thd) == row
    windows = {
        "clearclip/voc20": (448, 224, False),
        "sfp/voc20": (224, 112, False),
        "naclip/voc20": (None, 112, True),
        "pearl/voc20": (None, 112, True),
        "pearl/context60": (224, 112, False),
    }
    for name, row in windows.items():
        found = recipe(name)
        assert isinstance(found, MaskRecipe)
        assert (found.crop, found.stride, found.two_resizes) == row


@pytest.mark.parametrize("dataset", CLASSES)
def test_pearl_propagates_and_pearl_with_pamr_does_not(dataset: str) -> None:
    found, pamr = (mask_recipe(f"{name}/{dataset}") for name in ("pearl", "pearl+pamr"))
    assert (found.tlp_steps, found.tlp_grid) == (25, 224 if dataset == "cityscapes" else 80)
    assert found.variant.alpha == (0.3 if dataset in ("cityscapes", "ade20k") else 0.08)
    assert (found.pamr_steps, pamr.pamr_steps, pamr.tlp_steps) == (0, 10, 0)
    assert mask_recipe(f"naclip/{dataset}").tlp_steps == 0


REFINED_BY = {
    "none": (0, 0, None),
    "pamr": (10, 0, None),
    "tlp": (0, 25, None),
    "crf": (0, 0, "cls-seg"),
}


@pytest.mark.parametrize(
    "name", ["pearl/voc21", "sclip+pamr/voc21", "cls-seg+crf/voc2012", "clip-es/voc2012"]
)
@pytest.mark.parametrize("refine", REFINED_BY)
def test_refine_replaces_the_recipe_s_refinement(name: str, refine: str) -> None:
    found = mask_recipe(name, overrides={"refine": refine})
    assert (found.pamr_steps, found.tlp_steps, found.crf) == REFINED_BY[refine]
    assert mask_recipe(name, overrides={"refine": None}) == mask_recipe(name, overrides={"refine": "none"})


def test_settings_of_a_refiner_can_be_given_beside_it() -> None:
    given = {"refine": "tlp", "tlp_steps": 5, "tlp_text": "full", "crf": "deeplab"}
    found = mask_recipe("sclip/voc21", overrides=given)
    assert (found.tlp_steps, found.tlp_text, found.crf, found.pamr_steps) == (5, "full", "deeplab", 0)


def test_unknown_refiners_are_refused() -> None:
    for wrong in ("tpl", "", 3):
        with pytest.raises(InputError, match="refine"):
            mask_recipe("sclip/voc21", overrides={"refine": wrong})


def test_propagation_is_kept_with_another_method() -> None:
    for first, second in (("sclip/voc21", "cls-seg"), ("cls-seg/voc2012", "sclip")):
        base = mask_recipe(first, overrides={"refine": "tlp", "tlp_grid": 33})
        found = mask_recipe(base, overrides={"method": second})
        assert (found.tlp_steps, found.tlp_grid) == (25, 33)


def test_propagation_decides_a_run_only_if_it_is_on() -> None:
    for name in ("sclip/voc21", "cls-seg/voc2012"):
        assert not [key for key in mask_recipe(name).deciding() if "tlp" in key]
        on = mask_recipe(name, overrides={"refine": "tlp", "tlp_scale": 40.0}).deciding()
        assert {key: value for key, value in on.items() if "tlp" in key} == {
            "tlp_steps": 25,
            "tlp_scale": 40.0,
        }
