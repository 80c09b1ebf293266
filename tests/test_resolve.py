import dataclasses
from dataclasses import replace
from inspect import unwrap

import pytest

from tagmask.errors import InputError
from tagmask.resolve import mask_recipe, recipe, recipes, tag_recipe
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe
from tagmask.variants.clip import SharpSettings
from tests.settings.class_counts import CLASSES

TEXTS = {"voc2007": 45, "voc2012": 45, "coco2014": 103, "coco2017": 103, "coco-stuff": 171}
PROMPTS = {"voc2012": (20, 25), "coco2017": (80, 23), "coco-stuff": (171, 1)}


HARNESS_METHODS = ("clearclip", "naclip", "resclip", "sc-clip", "sfp", "pearl")
"""Methods that were published with settings for SCLIP's harness."""


def test_names() -> None:
    expected = [f"tagclip/{name}" for name in TEXTS]
    harness = ("sclip", "clip", "maskclip", "clip-surgery", "gem", *HARNESS_METHODS)
    expected += [f"{method}{how}/{name}" for method in harness for how in ("", "+pamr") for name in CLASSES]
    expected += ["sclip/coco-stuff10k", "sclip+pamr/coco-stuff10k"]
    expected += [
        f"freecp+{base}/{name}" for base in ("sclip", "clearclip", "maskclip", "gem") for name in CLASSES
    ]
    expected += [f"clearclip+names/{name}" for name in ("voc21", "voc20", "coco-object")]
    expected += [f"sfp+names/{name}" for name in ("voc21", "voc20", "cityscapes")]
    expected += [f"{method}/{name}" for method in ("cls-seg", "cls-seg+crf") for name in PROMPTS]
    expected += [
        f"{method}/{name}" for method in ("clip-es", "clip-es+crf") for name in ("voc2012", "coco2014")
    ]
    expected += [f"{name}+native/{data}" for name in ("clip", "maskclip", "clip-surgery") for data in PROMPTS]
    four, five = ["voc2007", "voc2012", "coco2014", "coco2017"], ["nus-wide"]
    expected += [f"{method}/{name}" for method in ("clip", "clip-softmax", "freecp") for name in four]
    taggers = ("clip-surgery", "dpt", "dpt-softmax", "sparc")
    expected += [f"{method}/{name}" for method in taggers for name in four + five]
    expected += [f"piaa/{name}" for name in ("voc2007", "voc2012", "coco2014", "nus-wide")]
    assert sorted(recipes()) == sorted(expected)


@pytest.mark.parametrize("method", ["sclip", "sclip+pamr"])
@pytest.mark.parametrize("dataset", CLASSES)
def test_mask_recipes_hold_the_papers_classes(method: str, dataset: str) -> None:
    found = recipe(f"{method}/{dataset}")
    assert isinstance(found, MaskRecipe)
    names = [*found.background, *(name for line in found.words for name in line.split(", "))]
    assert (len(found.words) + bool(found.background), len(names)) == CLASSES[dataset]
    assert (found.pamr_steps, found.pamr_dilations) == (10 if "pamr" in method else 0, (8, 16))
    assert len(found.templates) == 80


def test_coco_stuff_10k_is_coco_stuff_at_the_default_size() -> None:
    small, large = recipe("sclip/coco-stuff-10k"), recipe("sclip/coco-stuff")
    assert isinstance(large, MaskRecipe)
    assert small == replace(large, name="sclip/coco-stuff10k", short_side=336)
    assert large.short_side == 448


@pytest.mark.parametrize(("dataset", "texts"), TEXTS.items())
def test_tag_recipes_hold_the_papers_texts(dataset: str, texts: int) -> None:
    found = recipe(f"tagclip/{dataset}")
    assert isinstance(found, TagRecipe)
    assert len(found.words) + len(found.background) == texts
    assert len(found.templates) == 85


@pytest.mark.parametrize(("dataset", "texts"), PROMPTS.items())
def test_cls_seg_recipes_tag_and_mask_the_same_classes(dataset: str, texts: tuple[int, int]) -> None:
    found = recipe(f"cls-seg/{dataset}")
    assert isinstance(found, TagFirstRecipe)
    assert (len(found.words), len(found.background)) == texts
    assert len(found.prompts) == len(found.words)
    assert found.tagger == recipe(f"tagclip/{dataset}")
    assert found.words == found.tagger.words
    assert found.templates == ("a clean origami {}.",)
    assert (found.crf, recipe(f"cls-seg+crf/{dataset}").crf) == (None, "cls-seg")  # type: ignore[union-attr]
    layers = tuple(range(4, 11 if dataset == "voc2012" else 12))
    assert (found.variant.attention_layers, found.variant.box_threshold) == (
        layers,
        0.4 if dataset == "voc2012" else 0.7,
    )
    assert (found.variant.background_power is None) == (dataset == "coco-stuff")


def test_clip_es_needs_tags_and_ignores_pixels_of_low_confidence() -> None:
    plain, refined = recipe("clip-es/voc2012"), recipe("clip-es+crf/coco2014")
    assert isinstance(plain, TagFirstRecipe)
    assert isinstance(refined, TagFirstRecipe)
    assert (plain.tagger, plain.variant.confidence, plain.variant.attention_layers) == (
        None,
        None,
        tuple(range(4, 12)),
    )
    assert (refined.tagger, refined.variant.confidence, refined.variant.box_threshold) == (None, 0.95, 0.7)


def test_method_of_the_other_kind_converts_the_recipe() -> None:
    dense = recipe("sclip+pamr/voc21")
    assert isinstance(dense, MaskRecipe)
    found = mask_recipe("sclip+pamr/voc21", None, None, None, {"method": "cls-seg"})
    assert isinstance(found, TagFirstRecipe)
    assert (found.words, found.background, found.templates) == (
        dense.words,
        dense.background,
        dense.templates,
    )
    assert found.pamr_steps == 10
    assert found.tagger is not None
    assert found.tagger.words == dense.words
    back = mask_recipe("cls-seg/voc2012", None, None, None, {"method": "maskclip"})
    assert isinstance(back, MaskRecipe)
    assert (back.method, back.words) == ("maskclip", recipe("cls-seg/voc2012").words)


def test_converted_recipe_takes_settings_for_the_same_data_set() -> None:
    stuff = mask_recipe("sclip/coco-stuff", None, None, None, {"method": "cls-seg"})
    assert isinstance(stuff, TagFirstRecipe)
    assert (stuff.variant.box_threshold, stuff.variant.background_power, stuff.background) == (
        0.7,
        None,
        ("background",),
    )
    assert stuff.words == recipe("sclip/coco-stuff").words
    back = mask_recipe("cls-seg/coco-stuff", None, None, None, {"method": "sclip"})
    assert isinstance(back, MaskRecipe)
    assert (back.short_side, back.background, back.prob_thd) == (448, (), 0.0)
    assert back.templates == recipe("cls-seg/coco-stuff").templates


def test_converted_recipe_without_background_has_none() -> None:
    found = mask_recipe("sclip/voc20", None, None, None, {"method": "cls-seg"})
    assert isinstance(found, TagFirstRecipe)
    assert found.variant.background_power is None
    assert found.background  # texts that compete with a single tag, no class


def test_converted_recipe_keeps_its_crf() -> None:
    found = mask_recipe("cls-seg+crf/voc2012", None, None, None, {"method": "maskclip"})
    assert found.crf == "cls-seg"


def test_words_rename_all_parts_of_a_cls_seg_recipe() -> None:
    found = mask_recipe("cls-seg/voc2012", ["dog, puppy"], ["grass"], None, {"crf": "deeplab"})
    assert isinstance(found, TagFirstRecipe)
    assert found.tagger is not None
    assert (found.words, found.prompts, found.background) == (("dog, puppy",), (), ("grass",))
    assert (found.tagger.words, found.tagger.background) == (("dog, puppy",), ("grass",))
    assert found.crf == "deeplab"
    with pytest.raises(InputError, match=r"Unknown crf 'soft'. Give one of cls-seg"):
        mask_recipe("cls-seg/voc2012", None, None, None, {"crf": "soft"})


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe("sclip/voc21").name = "mine"  # type: ignore[misc]


def test_unknown_recipe_suggests_a_similar_one() -> None:
    with pytest.raises(InputError, match=r"Unknown recipe 'sclip/voc12'. Did you mean sclip/voc2"):
        recipe("sclip/voc12")


def test_recipe_of_the_other_kind_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"Recipe 'sclip/voc21' does not give tags.\nRecipes that do: tagclip/"
    ):
        tag_recipe("sclip/voc21", None, None, None, {})
    with pytest.raises(InputError, match="does not give masks"):
        mask_recipe("tagclip/voc2012", None, None, None, {})


def test_words_are_removed_from_the_default_background() -> None:
    found = mask_recipe(None, ["Sky", "dog, wall"], None, None, {})
    assert not {"sky", "wall"} & set(found.background)
    assert "tree" in found.background
    assert found.prob_thd > 0


def test_no_background_means_no_threshold() -> None:
    found = mask_recipe(None, ["cat"], [], None, {})
    assert (found.background, found.prob_thd) == ((), 0.0)


def test_words_replace_only_the_words_of_a_recipe() -> None:
    base = recipe("sclip/voc21")
    assert isinstance(base, MaskRecipe)
    found = mask_recipe("sclip/voc21", ["cat"], None, None, {})
    assert found == dataclasses.replace(base, words=("cat",))
    assert mask_recipe("sclip/voc21", None, ["wall"], None, {}) == dataclasses.replace(
        base, background=("wall",)
    )


def test_any_setting_by_name() -> None:
    found = mask_recipe(
        "sclip/voc21", None, None, None, {"method": "maskclip", "prob_thd": 0.3, "pamr_steps": 2}
    )
    assert (found.method, found.prob_thd, found.pamr_steps, found.logit_scale) == ("maskclip", 0.3, 2, 65.0)


def test_word_that_is_also_background_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    found = mask_recipe("sclip/voc21", ["sky", "cat"], None, None, {})
    assert found.words == ("sky", "cat")
    assert found.background == recipe("sclip/voc21").background
    assert "sky is both a word and a background text in sclip/voc21" in caplog.text
    tag_recipe("tagclip/voc2012", ["keyboard"], None, None, {})
    assert "keyboard is both" in caplog.text
    mask_recipe("sclip/voc21", None, ["cat"], None, {})
    assert "cat is both" in caplog.text


def test_published_names_are_unchanged() -> None:
    base = recipe("sclip/coco-object")  # "bed" is a class and a background name there
    assert mask_recipe("sclip/coco-object", None, None, None, {}) == base
    assert mask_recipe("sclip/coco-object", base.words, None, None, {}) == base


def test_explicit_settings_win_over_as() -> None:
    assert tag_recipe(None, ["cat"], None, "corrected", {"early_exit": True}).variant.early_exit
    assert (
        mask_recipe(None, ["cat"], None, "corrected", {"positions": "bilinear-half"}).positions
        == "bilinear-half"
    )


def test_as_published_restores_the_quirks() -> None:
    corrected = tag_recipe("tagclip/voc2012", None, None, "corrected", {})
    assert tag_recipe(corrected, None, None, "published", {}) == recipe("tagclip/voc2012")
    assert tag_recipe(corrected, None, None, None, {}) == corrected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top": 0}, "top is 0. Give a whole number, 1 or more"),
        ({"min_score": 2.0}, "min_score is 2.0. Give a number, from 0 to 1"),
        ({"votes": 99}, "votes is 99. Give a whole number, from 0 to 12"),
        ({"attention_layers": (12,)}, "a layer of attention_layers is 12"),
        ({"attention_layers": ()}, "attention_layers is empty"),
        ({"min_patches": 500, "max_patches": 100}, "is greater than max_patches"),
    ],
)
def test_invalid_tag_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tag_recipe(None, ["cat"], None, None, settings)


def test_invalid_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="Recipe 5 does not give tags"):
        unwrap(tag_recipe)(5, None, None, None, {})


def test_as_corrected_turns_the_quirks_off() -> None:
    published = tag_recipe("tagclip/voc2012", None, None, "published", {})
    corrected = tag_recipe("tagclip/voc2012", None, None, "corrected", {})
    assert published == recipe("tagclip/voc2012")
    assert (published.variant.early_exit, published.variant.lose_border) == (True, True)
    assert (corrected.variant.early_exit, corrected.variant.lose_border) == (False, False)
    for as_, quirk in (("published", True), ("corrected", False), (None, True)):
        found = mask_recipe("resclip/voc20", None, None, as_, {})
        assert isinstance(found, MaskRecipe)
        assert (found.positions_by_count, found.variant.short_path) == (quirk, quirk)
    # Quirks that crash the authors' programs or give nonsense are off by default.
    default = recipe("sfp/voc20")
    assert isinstance(default, MaskRecipe)
    assert (
        default.variant.square_outliers,
        default.variant.zero_repair,
        default.variant.absolute_layers,
    ) == (
        False,
        False,
        False,
    )


def test_published_names() -> None:
    cleared = recipe("clearclip+names/voc21")
    assert cleared.background == ("background",)
    assert cleared.words[14] == "person"
    assert cleared.words[19] == "tvmonitor"
    assert recipe("sfp+names/cityscapes").words[11] == "people"
    assert recipe("sfp+names/voc20").words[14].startswith("people, people in shirt")


@pytest.mark.parametrize(
    ("words", "background", "as_", "settings", "message"),
    [
        (None, None, None, {}, "neither words nor a recipe"),
        ([], None, None, {}, "The list of words is empty"),
        ("cat", None, None, {}, r"words is 'cat'. Give a list of texts, as in words=\['cat', 'dog'\]"),
        (5, None, None, {}, "words is 5. Give a list of texts"),
        (["cat", " "], None, None, {}, "words has ' ', which has an empty name"),
        (["cat", "dog, "], None, None, {}, "words has 'dog, ', which has an empty name"),
        (["cat", "\u200b"], None, None, {}, "which has an empty name"),
        (["ca\udcff"], None, None, {}, "not valid Unicode"),
        (["cat", "Cat"], None, None, {}, "has 'Cat' twice"),
        (["dog, puppy", "puppy"], None, None, {}, "has 'puppy' twice. Give each name to one class only"),
        (["background", "cat"], None, None, {}, "'background' is the name of label 0"),
        (["cat"], ["cat, dog"], None, {}, "cat is both a word and a background text"),
        (["cat"], None, None, {"prob_thd": 1.5}, "prob_thd is 1.5. Give a number, from 0 to 1"),
        (["cat"], None, None, {"crop": 32}, "Stride 112 leaves gaps between windows of 32 pixels"),
        (["cat"], None, None, {"pamr_dilations": ()}, "pamr_dilations is empty"),
        (["cat", 3], None, None, {}, "has 3, a int"),
        (["sky"], ["sky"], None, {}, "sky is both a word and a background text"),
        (["cat"], None, "fixed", {}, "Unknown as_ 'fixed'. Give one of published, corrected"),
        (
            ["cat"],
            None,
            None,
            {"methd": "clip"},
            r"Unknown setting methd of sclip\. Did you mean method\?\nThe settings are .*among, area_thd",
        ),
        (["cat"], None, None, {"method": "slip"}, "Unknown method 'slip'. Did you mean sclip"),
        (["cat"], None, None, {"stride": 0}, "stride is 0"),
        (["cat"], None, None, {"pamr_steps": -1}, "pamr_steps is -1"),
        (["cat"], None, None, {"positions": "x"}, "Unknown positions 'x'"),
    ],
)
def test_invalid_words_and_settings_are_refused(
    words: list[str] | None,
    background: list[str] | None,
    as_: str | None,
    settings: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        # Unwrapped, as the type checker of the tests would refuse the argument first.
        unwrap(mask_recipe)(None, words, background, as_, settings)


# -- Resolving twice -----------------------------------------------------------------------------------------

TAGGING = [name for name in recipes() if recipe(name).gives == "tags"]
MASKING = [name for name in recipes() if recipe(name).gives == "masks"]


@pytest.mark.parametrize("as_", [None, "published", "corrected"])
def test_resolving_is_idempotent(as_: str | None) -> None:
    for name in TAGGING:
        once = tag_recipe(name, as_=as_)
        assert tag_recipe(once) == once
    for name in MASKING:
        for settings in ({}, {"among": "tags"}, {"method": "cls-seg"}, {"method": "resclip"}):
            if "among" in settings and recipe(name).method in ("cls-seg", "clip-es"):
                continue
            once = mask_recipe(name, as_=as_, overrides=settings)
            assert mask_recipe(once) == once


@pytest.mark.parametrize("quirk", [True, False])
def test_quirks_reach_the_tagger_and_persist(quirk: bool) -> None:
    as_ = "published" if quirk else "corrected"
    for overrides in ({"among": "tags"}, {"method": "cls-seg"}):
        found = mask_recipe(None, ["cat", "dog"], None, as_, overrides)
        for again in (found, mask_recipe(found), mask_recipe(found, overrides={"pamr_steps": 3})):
            assert again.tagger is not None
            assert (again.tagger.variant.early_exit, again.tagger.variant.lose_border) == (quirk, quirk)


def test_custom_tagger_is_kept() -> None:
    for base in (
        mask_recipe("sclip/voc21", overrides={"among": "tags"}),
        mask_recipe("cls-seg/voc2012"),
    ):
        assert base.tagger is not None
        custom = replace(base.tagger, top=1, tag_tau=0.9)
        found = mask_recipe(replace(base, tagger=custom), overrides={"pamr_steps": 10})
        assert found.tagger == custom
        renamed = mask_recipe(replace(base, tagger=custom), ["cat", "dog"], ["wall"])
        assert renamed.tagger == custom.with_names(("cat", "dog"), ("wall",))


def test_setting_of_another_method_names_that_method() -> None:
    with pytest.raises(InputError, match=r"Unknown setting divisor of .* belongs to clip-sharp"):
        mask_recipe("sclip/voc21", overrides={"divisor": 2.0})
    found = mask_recipe("sclip/voc21", overrides={"method": "clip-sharp", "divisor": 1.0})
    assert found.variant == SharpSettings(divisor=1.0)
