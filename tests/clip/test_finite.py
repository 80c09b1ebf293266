"""NaN and infinity are refused where they are read, and reported where they are computed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask import Segmenter, Tagger
from tagmask.clip.finite import check_computed
from tagmask.clip.load import load
from tagmask.clip.sources import BUNDLED
from tagmask.dense.features import class_token_features
from tagmask.errors import WeightsError

Tensors = dict[str, torch.Tensor]
IMAGE = np.full((96, 80, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def tensors(sclip_weights: Path) -> Tensors:
    state: Tensors = torch.load(sclip_weights, weights_only=True)
    return state


def changed(tensors: Tensors, path: Path, name: str, change: object) -> Path:
    torch.save(tensors | {name: change(tensors[name].clone())}, path)  # type: ignore[operator]
    return path


def with_last(value: float) -> object:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["visual.proj", "positional_embedding", "visual.transformer.resblocks.2.ln_1.bias", "logit_scale"]
)
def test_one_value_anywhere_is_refused_with_its_tensor(
    tensors: Tensors, tmp_path: Path, name: str, value: float
) -> None:
    file = changed(tensors, tmp_path / "diverged.pt", name, with_last(value))
    with pytest.raises(WeightsError) as error:
        load(file, device="cpu", activation="gelu")
    assert f"diverged.pt holds NaN or infinite values, in {name}." in str(error.value)


def test_values_must_stay_finite_in_the_precision_they_are_used_in(tensors: Tensors, tmp_path: Path) -> None:
    doubles = changed(tensors, tmp_path / "a.pt", "visual.proj", lambda t: t.double() * 1e300)
    with pytest.raises(WeightsError, match=r"a\.pt holds NaN or infinite values, in visual\.proj"):
        load(doubles, device="cpu", activation="gelu")
    large = changed(tensors, tmp_path / "b.pt", "visual.proj", with_last(1e5))
    load(large, device="cpu", activation="gelu", precision="bfloat16")
    with pytest.raises(WeightsError, match=r"b\.pt does not fit float16: visual\.proj has values over 65504"):
        load(large, device="cpu", activation="gelu", precision="float16")


def test_all_tensors_are_named(tensors: Tensors, tmp_path: Path) -> None:
    names = ["visual.transformer.resblocks.0.ln_1.bias", "visual.transformer.resblocks.2.mlp.c_fc.weight"]
    wrong = {name: with_last(float("nan"))(tensors[name].clone()) for name in names}  # type: ignore[operator]
    torch.save(tensors | wrong, tmp_path / "a.pt")
    for precision in ("float32", "float16"):
        with pytest.raises(WeightsError, match=f"holds NaN or infinite values, in {', '.join(names)}"):
            load(tmp_path / "a.pt", device="cpu", activation="gelu", precision=precision)


def test_the_weight_that_does_not_fit_float16_is_named(tensors: Tensors, tmp_path: Path) -> None:
    for name in (
        "transformer.resblocks.1.attn.in_proj_weight",
        "visual.transformer.resblocks.0.mlp.c_proj.bias",
    ):
        large = changed(tensors, tmp_path / "a.pt", name, with_last(1e5))
        with pytest.raises(WeightsError, match=f"does not fit float16: {name} has values over 65504"):
            load(large, device="cpu", activation="gelu", precision="float16")


@pytest.mark.parametrize("scale", [1000.0, -1000.0, 50.0])
def test_an_implausible_scale_is_refused(tensors: Tensors, tmp_path: Path, scale: float) -> None:
    file = changed(tensors, tmp_path / "a.pt", "logit_scale", lambda _: torch.tensor(scale))
    with pytest.raises(WeightsError, match=r"a\.pt multiplies cosines by .* \(logit_scale\)"):
        load(file, device="cpu", activation="gelu")


def test_the_mask_of_openais_archives_may_be_infinite(tensors: Tensors, tmp_path: Path) -> None:
    torch.save(tensors | {"attn_mask": torch.full((77, 77), float("-inf"))}, tmp_path / "a.pt")
    load(tmp_path / "a.pt", device="cpu", activation="gelu")


@pytest.mark.parametrize("block", [1, -1], ids=["an early block", "the last block"])
def test_features_that_overflow_are_reported(block: int) -> None:
    clip = load(BUNDLED, device="cpu")
    bias = clip.vision.blocks[block].attn.out_proj.bias
    bias.data.fill_(3e38)
    with pytest.raises(WeightsError, match=r"The (image|patch) features are NaN or infinite"):
        Segmenter(clip, words=["cat", "dog"])(IMAGE)
    with pytest.raises(WeightsError, match=r"The (image features|scores) are NaN or infinite"):
        Tagger(clip, words=["cat", "dog"])(IMAGE)
    with pytest.raises(WeightsError, match="The image features are NaN or infinite"):
        class_token_features(clip.vision, torch.zeros(1, 3, *2 * [clip.vision.grid * clip.vision.patch]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_computed_values(value: float) -> None:
    check_computed(torch.tensor([1.0, -1e30]), "Numbers")
    check_computed(torch.tensor([6e4, 6e4], dtype=torch.float16), "Numbers")  # whose sum float16 lacks
    with pytest.raises(WeightsError, match="Numbers are NaN or infinite"):
        check_computed(torch.tensor([1.0, value]), "Numbers")
