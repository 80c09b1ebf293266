"""The catalogue: every method has what its kind needs; registered methods work like built-in ones."""

from dataclasses import dataclass, fields

import numpy as np
import pytest

import tagmask
from tagmask import catalogue, pipelines
from tagmask.catalogue import dense_rule, method, method_names
from tagmask.clip.load import Clip
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, VariantSettings, affinity
from tagmask.errors import InputError
from tagmask.method import GIVES, Method
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe
from tagmask.types import Attention

ALL = [method(name, gives) for gives in ("masks", "tags") for name in method_names(gives)]
SHARED = {"masks": (MaskRecipe, TagFirstRecipe), "tags": (TagRecipe,)}


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.gives} {each.name}")
def test_a_method_has_what_its_kind_needs(each: Method) -> None:
    assert each.kind in {**pipelines.MASK_PIPELINES, **pipelines.TAG_PIPELINES}
    assert (each.rule is not None) == (each.kind == "dense")
    assert (each.score is not None) == (each.kind == "one_pass")
    assert (each.own_words is not None) == (each.gives == "tags")
    settings = {field.name for field in fields(each.settings)}
    assert set(each.quirks) <= settings
    assert set(each.preset) <= settings
    # A setting that the recipe and the method both had would be ambiguous as an override.
    for kind in SHARED[each.gives]:
        if kind is not TagFirstRecipe or each.kind == "tag_first":
            assert not settings & {field.name for field in fields(kind)}
    assert each.summary
    assert each.source


def test_kinds_are_those_of_the_pipelines() -> None:
    assert {kind for kind, gives in GIVES.items() if gives == "masks"} == set(pipelines.MASK_PIPELINES)
    assert {kind for kind, gives in GIVES.items() if gives == "tags"} == set(pipelines.TAG_PIPELINES)


@dataclass(frozen=True, kw_only=True)
class Blend(VariantSettings):
    share: float = 0.5


def blended(settings: Blend, depth: int) -> DenseRule:
    def weights(tower: TowerFeatures) -> Attention:
        return settings.share * affinity(tower.v, tower.v) + (1 - settings.share) * affinity(tower.q, tower.k)

    return DenseRule(weights)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(catalogue, "_REGISTERED", {})


def test_registered_method_works_like_a_built_in_one(sclip_model: Clip) -> None:
    tagmask.register_method("all-queries", lambda x: affinity(x.q, x.q))
    tagmask.register_method("blend", blended, settings=Blend, summary="half and half")
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    quick = {"words": ["cat", "dog"], "templates": ("a {}.",), "short_side": 64, "crop": None}

    def scores(**settings: object) -> np.ndarray:
        found = tagmask.Segmenter(sclip_model, **{**quick, **settings})(image, scores=True).scores
        assert found is not None
        return found

    np.testing.assert_array_equal(scores(method="all-queries"), scores(method="sclip-q"))
    np.testing.assert_allclose(scores(method="blend", share=0.0), scores(method="clip"), rtol=0, atol=1e-6)
    assert np.abs(scores(method="blend") - scores(method="clip")).max() > 1e-6
    assert tagmask.methods()["blend"].startswith("masks: half and half")
    segmenter = tagmask.Segmenter(sclip_model, **quick)
    assert list(segmenter.compare(image, ["sclip", "blend"])) == ["sclip", "blend"]


@pytest.mark.parametrize(
    ("name", "message"), [("sclip", "is built in"), ("My Method", "Invalid method name 'My Method'")]
)
def test_invalid_method_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tagmask.register_method(name, lambda x: None)


def test_unknown_method_suggests_a_similar_name() -> None:
    with pytest.raises(InputError, match=r"Unknown method 'scilp'. Did you mean sclip\? See"):
        dense_rule("scilp", 12)
    with pytest.raises(InputError, match="Method 'tagclip' gives tags, not masks"):
        method("tagclip", "masks")
