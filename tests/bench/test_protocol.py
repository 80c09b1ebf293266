import pytest

from tagmask.bench.protocol import Protocol, made_recipe
from tagmask.errors import InputError
from tagmask.resolve import recipe
from tagmask.settings.parse import parse_assignments
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe


def test_assignments_are_parsed_by_type() -> None:
    texts = ["a=1", "b=0.5", "c=true", "d=none", "e=[1, 2]", "f=maskclip", 'g=["a {}."]', "h = x=y"]
    assert parse_assignments(texts) == {
        "a": 1, "b": 0.5, "c": True, "d": None, "e": (1, 2), "f": "maskclip", "g": ("a {}.",), "h": "x=y"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "match"), [(["a"], "'a' has no value"), (["=1"], "no value"), (["a=1", "a=2"], "twice")]
)
def test_invalid_assignments_are_refused(texts: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse_assignments(texts)


def test_recipes_take_settings() -> None:
    mask = made_recipe("sclip/voc21", {"method": "maskclip", "pamr_steps": 10})
    assert isinstance(mask, MaskRecipe)
    assert (mask.method, mask.pamr_steps, mask.logit_scale) == ("maskclip", 10, 65.0)
    tag = made_recipe("tagclip/voc2012", {"cwr": False}, "corrected")
    assert isinstance(tag, TagRecipe)
    variant = tag.variant
    assert (variant.cwr, variant.dmar, variant.early_exit, variant.lose_border) == (False, True, False, False)


def test_tagger_settings_are_forwarded() -> None:
    result = made_recipe("cls-seg/voc2012", {"tagger.dmar": False, "crf": "cls-seg"})
    assert isinstance(result, TagFirstRecipe)
    assert result.tagger is not None
    assert (result.tagger.variant.dmar, result.tagger.variant.cwr, result.crf) == (False, True, "cls-seg")
    assert result.tagger.words == result.words
    for name in ("sclip/voc21", "clip-es/voc2012"):
        with pytest.raises(InputError, match=r"no tagger.*tagger\.dmar"):
            made_recipe(name, {"tagger.dmar": False})
    with pytest.raises(InputError, match="Unknown setting dmarr"):
        made_recipe("cls-seg/voc2012", {"tagger.dmarr": False})


def test_metric_must_match_the_recipe() -> None:
    with pytest.raises(InputError, match=r"'map' does not fit sclip/voc21\. Give one of miou"):
        Protocol(recipe=recipe("sclip/voc21"), metric="map")
    with pytest.raises(InputError, match="Give one of map, precision, recall, f1"):
        Protocol(recipe=recipe("tagclip/voc2012"))
    with pytest.raises(InputError, match="groups 'coarse'"):
        Protocol(recipe=recipe("sclip/coco-stuff"), groups="coarse")


def test_which_recipes_get_given_tags() -> None:
    assert Protocol(recipe=recipe("clip-es/voc2012")).given_tags
    assert not Protocol(recipe=recipe("cls-seg/voc2012")).given_tags
    assert not Protocol(recipe=recipe("sclip/voc21")).given_tags
