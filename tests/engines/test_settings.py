"""What is refused before any work: engines, their precision, and methods that leave them nothing to run."""

import numpy as np
import pytest

import tagmask
from tagmask.clip.load import Clip
from tagmask.engines.support import check_supported
from tagmask.errors import InputError
from tagmask.resolve import mask_recipe, tag_recipe
from tagmask.settings.engine import EngineSettings, engine_settings
from tagmask.settings.recipes import Recipe

PHOTO = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "onnx"}, "Unknown engine 'onnx'. Give one of torch, openvino"),
        (
            {"name": "openvino", "precision": "int4"},
            "Unknown precision of an engine 'int4'. Give one of int8",
        ),
        ({"precision": "int8", "images": [PHOTO]}, "torch does not compute in int8. Give the engine"),
        ({"name": "openvino", "precision": "int8"}, "int8 is calibrated on photos, and none are given"),
        ({"name": "openvino", "images": [PHOTO]}, "no effect without precision='int8'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EngineSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [tagmask.Segmenter, tagmask.Tagger])
def test_an_engine_that_is_not_installed_is_refused_with_the_command(
    make: type[tagmask.Segmenter] | type[tagmask.Tagger], sclip_model: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda module: None)
    with pytest.raises(InputError, match=r"openvino needs openvino. Run: pip install 'tagmask\[openvino\]'"):
        make(sclip_model, ["cat"], engine="openvino")


def test_int8_without_nncf_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda module: None if module == "nncf" else object())
    engine_settings("openvino")
    with pytest.raises(InputError, match=r"int8 needs nncf. Run: pip install 'tagmask\[openvino\]'"):
        engine_settings(EngineSettings("openvino", "int8", [PHOTO]))


@pytest.mark.parametrize(
    "recipe",
    [
        mask_recipe(words=["cat"], overrides={"purify": "scores"}),
        mask_recipe(words=["cat"], overrides={"purify": "tags"}),
        tag_recipe(words=["cat"], overrides={"cwr": False}),
        tag_recipe(words=["cat"], overrides={"method": "freecp"}),
    ],
)
def test_methods_that_read_the_attention_of_every_block_are_refused(recipe: Recipe) -> None:
    with pytest.raises(InputError, match=r"reads those of every block\. Leave the engine out"):
        check_supported(recipe, 12, "openvino")


@pytest.mark.parametrize(
    "recipe",
    [
        mask_recipe(words=["cat"]),
        mask_recipe(words=["cat"], overrides={"method": "resclip"}),
        mask_recipe(words=["cat"], overrides={"method": "cls-seg"}),
        mask_recipe(words=["cat"], overrides={"method": "clip-es"}),
        tag_recipe(words=["cat"]),
        tag_recipe(words=["cat"], overrides={"cwr": False, "dmar": False}),
        tag_recipe(words=["cat"], overrides={"method": "clip-softmax"}),
        tag_recipe(words=["cat"], overrides={"method": "sparc"}),
        tag_recipe(words=["cat"], overrides={"method": "piaa"}),
    ],
)
def test_other_methods_are_not(recipe: Recipe) -> None:
    check_supported(recipe, 12, "openvino")
    with pytest.raises(InputError, match="have one layer"):
        check_supported(recipe, 1, "openvino")
