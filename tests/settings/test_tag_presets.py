"""Tag recipes: a user's words, presets, and a recipe with another method."""

from dataclasses import replace

import pytest

from tagmask.catalogue import method, method_names
from tagmask.errors import InputError
from tagmask.papers.clip_tags import ClipTagSettings
from tagmask.papers.dpt import DptSettings
from tagmask.papers.piaa import PiaaSettings
from tagmask.resolve import own_tag_recipe, recipe, recipes, tag_recipe
from tagmask.settings.recipes import TagRecipe

TAG_METHODS = method_names("tags")
WORDS = ("cat", "dog, puppy")


def for_words(method: str, **settings: object) -> TagRecipe:
    return tag_recipe(None, WORDS, None, None, {"method": method, **settings})


@pytest.mark.parametrize("name", TAG_METHODS)
def test_every_method_takes_a_user_s_words(name: str) -> None:
    found = for_words(name, top=3)
    assert type(found.variant) is method(name, "tags").settings
    assert (found.words, found.top, found.thresholds) == (WORDS, 3, ())
    assert bool(found.background) == (name in ("clip", "clip-softmax", "freecp", "tagclip"))
    assert own_tag_recipe(name, WORDS, ("wall",)).background == ("wall",)


def test_softmax_is_a_setting_of_clip_and_dpt() -> None:
    assert [
        getattr(for_words(name).variant, "softmax", None)
        for name in ("clip", "clip-softmax", "dpt", "dpt-softmax")
    ] == [
        False,
        True,
        "none",
        "each",
    ]


def test_default_templates() -> None:
    lengths = {name: len(for_words(name).templates) for name in TAG_METHODS}
    others = {"dpt": 1, "dpt-softmax": 1, "piaa": 1, "freecp": 80}
    assert lengths == {name: others.get(name, 85) for name in TAG_METHODS}
    assert for_words("dpt").templates == ("a photo of a {}.",)
    assert for_words("piaa").templates == ("a photo of a {}",)


def test_class_names_of_presets() -> None:
    voc, coco = recipe("piaa/voc2012"), recipe("piaa/coco2014")
    assert {"dining table", "potted plant", "tv monitor"} <= set(voc.words)
    assert {"motorcycle", "airplane", "couch", "tv", "potted plant", "dining table"} <= set(coco.words)
    assert (len(voc.words), len(coco.words), len(recipe("piaa/nus-wide").words)) == (20, 80, 81)
    assert {"motor bike", "aeroplane", "couch"} <= set(recipe("dpt/coco2014").words)
    assert recipe("clip/voc2012").words == recipe("tagclip/voc2012").words


def test_piaa_settings_per_data_set() -> None:
    settings = {}
    for name in recipes():
        found = recipe(name).variant
        if isinstance(found, PiaaSettings):
            settings[name] = (found.refine_scale, found.patch_scale, found.class_scale, found.bank_size)
    assert settings == {
        "piaa/voc2007": (100.0, 200.0, 80.0, 512),
        "piaa/voc2012": (100.0, 200.0, 80.0, 512),
        "piaa/coco2014": (0.01, 400.0, 80.0, 512),
        "piaa/nus-wide": (500.0, 400.0, 10.0, 512),
    }


def test_preset_has_its_method() -> None:
    for name in TAG_METHODS:
        for dataset in ("voc2007", "voc2012", "coco2014"):
            found = recipe(f"{name}/{dataset}")
            assert found.method == name
            assert type(found.variant) is method(name, "tags").settings


def test_another_method_keeps_names_templates_and_size() -> None:
    base = recipe("tagclip/voc2012")
    found = tag_recipe("tagclip/voc2012", None, None, None, {"method": "dpt"})
    assert isinstance(found.variant, DptSettings)
    for name in ("words", "background", "templates"):
        assert getattr(found, name) == getattr(base, name)
    for name in ("min_patches", "max_patches"):
        assert getattr(found.variant, name) == getattr(base.variant, name)
    assert (found.variant.input, found.variant.softmax) == ("native", "none")
    centre = tag_recipe("piaa/voc2012", None, None, None, {"method": "clip"})
    assert isinstance(centre.variant, ClipTagSettings)
    assert (centre.variant.input, centre.templates) == ("centre", ("a photo of a {}",))


def test_another_method_takes_its_settings_for_the_same_data_set() -> None:
    found = tag_recipe("tagclip/coco2014", None, None, None, {"method": "piaa"})
    assert isinstance(found.variant, PiaaSettings)
    assert (found.variant.refine_scale, found.variant.patch_scale) == (0.01, 400.0)
    assert tag_recipe("tagclip/voc2012", None, None, None, {"method": "tagclip"}) == recipe("tagclip/voc2012")
    back = tag_recipe("dpt/voc2012", ["cat"], ["wall"], None, {"method": "tagclip"})
    assert (back.words, back.background, back.templates) == (("cat",), ("wall",), ("a photo of a {}.",))


def test_as_sets_the_quirks_of_the_method() -> None:
    def resolved(method: str, as_: str | None) -> TagRecipe:
        return tag_recipe(None, WORDS, None, as_, {"method": method})

    assert [resolved("piaa", as_).variant.compat for as_ in (None, "published", "corrected")] == [
        False,
        True,
        False,
    ]
    assert resolved("dpt", "published") == resolved("dpt", "corrected")


def test_thresholds_stay_with_their_words() -> None:
    learned = replace(own_tag_recipe("dpt", WORDS), thresholds=(0.5, None))
    assert learned.with_names(WORDS, ()).thresholds == (0.5, None)
    assert learned.with_names(("cat",), ()).thresholds == ()
    with pytest.raises(InputError, match="Got 1 thresholds for 2 words"):
        replace(learned, thresholds=(0.5,))


def test_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="Method 'sclip' gives masks, not tags"):
        for_words("sclip")
    with pytest.raises(InputError, match="Unknown method 'resnet'"):
        tag_recipe("tagclip/voc2012", None, None, None, {"method": "resnet"})
    with pytest.raises(InputError, match="Unknown setting pool of dpt"):
        for_words("dpt", pool="class")
