import pytest
import torch

from tagmask.clip.hf_key_map import is_hugging_face, openai_layout, without_text_prefix
from tagmask.clip.state_dict import clip_tensors
from tagmask.errors import WeightsError
from tests.oracles import clip_tree, hugging_face

SCALARS = {"input_resolution", "context_length", "vocab_size"}


@pytest.fixture(scope="module")
def weights():
    tree = clip_tree.ClipTree(**clip_tree.SMALL)
    return {name: t.detach() for name, t in tree.state_dict().items() if name not in SCALARS}


@pytest.fixture
def theirs(weights):
    return hugging_face.tensors(weights, layers=3, text_layers=2)


def test_every_number_finds_its_place(weights, theirs):
    assert is_hugging_face(theirs)
    assert not is_hugging_face(weights)
    found = openai_layout(theirs | hugging_face.positions(weights))
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].is_contiguous(), name
    assert clip_tensors(found).keys() == weights.keys()


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_q_k_v_belong_together(part, theirs):
    name = f"vision_model.encoder.layers.1.self_attn.{part}_proj.weight"
    with pytest.raises(
        WeightsError, match=r"resblocks\.1\.attn\.in_proj_weight cannot be put together.*shapes"
    ):
        openai_layout(theirs | {name: torch.zeros(64, 128)})
    del theirs[name]
    with pytest.raises(WeightsError, match=f"self_attn.{part}_proj missing"):
        openai_layout(theirs)


@pytest.mark.parametrize("name", ["vision_model.head.weight", "logit_bias", "text_model.head.bias", "x"])
def test_what_a_clip_model_does_not_have_is_named(name, theirs):
    with pytest.raises(WeightsError, match=f"does not have: {name} "):
        openai_layout(theirs | {name: torch.zeros(1)})


def test_what_is_missing_is_counted_by_the_other_layouts_names(theirs):
    del theirs["vision_model.post_layernorm.bias"]
    with pytest.raises(WeightsError, match=r"visual\.ln_post\.bias \(1 in all\)"):
        clip_tensors(openai_layout(theirs))


def test_a_custom_text_tower_loses_its_prefix(weights):
    prefixed = {k if k.startswith(("visual.", "logit_")) else f"text.{k}": v for k, v in weights.items()}
    assert prefixed.keys() != weights.keys()
    assert without_text_prefix(prefixed).keys() == weights.keys()
