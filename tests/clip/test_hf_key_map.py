import pytest
import torch

from tagmask.clip.hf_key_map import is_hugging_face, to_openai_layout, without_text_prefix
from tagmask.clip.state_dict import clip_tensors
from tagmask.clip.stored import StoredTensor
from tagmask.errors import WeightsError
from tests.oracles import clip_tree, hugging_face

SCALARS = {"input_resolution", "context_length", "vocab_size"}


@pytest.fixture(scope="module")
def weights():
    tree = clip_tree.ClipTree(**clip_tree.SMALL)
    return {name: t.detach() for name, t in tree.state_dict().items() if name not in SCALARS}


def stored(tensors):
    return {
        name: StoredTensor(tuple(tensor.shape), tensor.dtype, lambda tensor=tensor: tensor)
        for name, tensor in tensors.items()
    }


@pytest.fixture
def hf_weights(weights):
    return stored(hugging_face.tensors(weights, layers=3, text_layers=2))


def test_every_tensor_is_converted(weights, hf_weights):
    assert is_hugging_face(hf_weights)
    assert not is_hugging_face(weights)
    converted = to_openai_layout(hf_weights | stored(hugging_face.positions(weights)))
    assert converted.keys() == weights.keys()
    for name, tensor in weights.items():
        read = converted[name].read()
        assert torch.equal(read, tensor), name
        assert read.is_contiguous(), name
        assert converted[name].shape == read.shape, name
        assert converted[name].dtype == read.dtype, name
    assert clip_tensors(converted).keys() == weights.keys()


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_q_k_v_must_be_complete_and_of_one_shape(part, hf_weights):
    name = f"vision_model.encoder.layers.1.self_attn.{part}_proj.weight"
    with pytest.raises(
        WeightsError, match=r"resblocks\.1\.attn\.in_proj_weight: q, k and v have different shapes"
    ):
        to_openai_layout(hf_weights | stored({name: torch.zeros(64, 128)}))
    scalars = [name.replace(f".{part}_proj", f".{other}_proj") for other in "qkv"]
    with pytest.raises(WeightsError, match=r"q, k and v have different shapes, or none: \[\(\)\]"):
        to_openai_layout(hf_weights | stored({name: torch.tensor(1.0) for name in scalars}))
    del hf_weights[name]
    with pytest.raises(WeightsError, match=f"self_attn.{part}_proj missing"):
        to_openai_layout(hf_weights)


@pytest.mark.parametrize("name", ["vision_model.head.weight", "logit_bias", "text_model.head.bias", "x"])
def test_unexpected_tensors_are_named(name, hf_weights):
    with pytest.raises(WeightsError, match=f"unexpected tensors {name} "):
        to_openai_layout(hf_weights | stored({name: torch.zeros(1)}))


def test_missing_tensors_are_named_in_openais_layout(hf_weights):
    del hf_weights["vision_model.post_layernorm.bias"]
    with pytest.raises(WeightsError, match=r"visual\.ln_post\.bias \(1 in all\)"):
        clip_tensors(to_openai_layout(hf_weights))


def test_a_custom_text_tower_loses_its_prefix(weights):
    prefixed = {k if k.startswith(("visual.", "logit_")) else f"text.{k}": v for k, v in weights.items()}
    assert prefixed.keys() != weights.keys()
    assert without_text_prefix(prefixed).keys() == weights.keys()
