"""The dense baselines of CLS-SEG: TagCLIP's patch scores, pixel by pixel."""

import numpy as np
import pytest
import torch

import tagmask
from tagmask.bench.catalogue import table
from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.prompts import text_query
from tagmask.dense.sliding import sliding_cosines
from tagmask.papers import tagclip
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.resolve import mask_recipe, recipe
from tagmask.settings.recipes import MaskRecipe

DATASETS = ("voc2012", "coco2017", "coco-stuff")


@pytest.mark.parametrize("dataset", DATASETS)
def test_names_and_templates_are_those_of_the_tagger(dataset: str) -> None:
    tagger = recipe(f"tagclip/{dataset}")
    for method in ("clip", "maskclip", "clip-surgery"):
        found = recipe(f"{method}+native/{dataset}")
        assert isinstance(found, MaskRecipe)
        for name in ("words", "background", "templates"):
            assert getattr(found, name) == getattr(tagger, name)
        assert (found.method, found.crop, found.prob_thd) == (method, None, 0.0)


@pytest.mark.parametrize(("method", "kept"), [("clip", True), ("maskclip", False)])
def test_patch_scores_are_those_of_tagclip(
    tagclip_model: Clip, shapes: list[np.ndarray], method: str, kept: bool
) -> None:
    image = shapes[0][:100, :131]  # scaled to 112 x 144
    settings = mask_recipe(f"{method}+native/voc2012", overrides={"templates": ("a {}.",)})
    assert isinstance(settings, MaskRecipe)
    query = text_query(tagclip_model, settings.words, settings.background, settings.templates)
    rule = dense_rule(method, len(tagclip_model.vision.blocks))
    with torch.inference_mode():
        ((maps,),) = sliding_cosines(tagclip_model, [image], query.features, settings, [rule])
        pixels = tagclip.preprocess_bicubic(tagclip_model, image, TagclipSettings())
        tower = tagclip.encode_image(tagclip_model, pixels, TagclipSettings(dmar=False))
        expected = tagclip.patch_cosines(tower, query.features, keep_attention=kept)
    assert maps.cosines.shape == (45, 7, 9)
    torch.testing.assert_close(maps.cosines.flatten(1).T, expected, rtol=0, atol=1e-5)


def test_masks_have_the_size_of_the_image(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    image = shapes[0][:100, :131]
    settings = {"templates": ("a {}.",)}
    found = tagmask.Segmenter(tagclip_model, recipe="clip-surgery+native/voc2012", **settings)(image)
    assert found.labels.shape == (100, 131)
    assert found.words[0] == "background"


def test_every_figure_of_table_1_and_of_the_baselines_has_a_command() -> None:
    commands = {
        (c.row, c.column.key): c.command for c in (*table("tagclip-1").cells, *table("tagclip-3").cells)
    }
    assert commands["kept", "tags-voc2012"] == (
        "run tagclip/voc2012 --set dmar=false --set cwr=false --set last_attention=true"
    )
    assert commands["kept", "seg-voc2012"] == "run clip+native/voc2012"
    assert commands["removed", "seg-voc2012"] == "run maskclip+native/voc2012"
    for row, method in (("MaskCLIP", "maskclip"), ("CLIPSurgery", "clip-surgery")):
        for dataset in DATASETS:
            command = commands[f"{row} (the authors' run)", f"seg-{dataset}"]
            assert command == f"run {method}+native/{dataset}"
