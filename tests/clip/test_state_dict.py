import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.clip.state_dict import Geometry, clip_tensors, geometry
from tagmask.errors import WeightsError
from tests.golden import make_weights
from tests.oracles import clip_tree

BLOCK = "visual.transformer.resblocks.1."
SCALARS = {"input_resolution", "context_length", "vocab_size"}


@pytest.fixture
def weights():
    return clip_tree.tensors(**clip_tree.SMALL)


def refused(tensors):
    with pytest.raises(WeightsError) as error:
        clip_tensors(tensors)
    return str(error.value)


def renamed(tensors, old, new):
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def blank(*shape):
    return torch.zeros(shape)


def test_all_but_the_scalars_are_returned_unchanged(weights):
    tensors = clip_tensors(weights)
    assert tensors.keys() == weights.keys() - SCALARS
    assert all(tensors[name] is weights[name] for name in tensors)


def test_the_reference_checkpoint_is_accepted():
    small = make_weights.CFG | {"v_layers": 1, "t_layers": 1, "vocab": 5}
    weights = make_weights.make_state_dict(cfg=small)
    assert clip_tensors(weights).keys() == weights.keys()


def test_the_sizes_of_openai_s_vit_b_16():
    tensors = clip_tensors(clip_tree.tensors(**clip_tree.B16))
    assert sum(tensor.numel() for tensor in tensors.values()) == 149_620_737
    assert geometry(tensors) == Geometry(
        vision_width=768,
        vision_layers=12,
        vision_heads=12,
        patch=16,
        grid=14,
        embed=512,
        text_width=512,
        text_layers=12,
        text_heads=8,
        vocab=49408,
        context=77,
    )


sizes = st.integers(1, 12)


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        dict.fromkeys(("layers", "patch", "embed", "text_layers", "vocab", "context"), sizes)
        | {"grid": sizes, "heads": st.integers(1, 17), "text_heads": sizes}
    )
)
def test_sizes_are_read_from_any_tree(given):
    grid, heads, text_heads = given.pop("grid"), given.pop("heads"), given.pop("text_heads")
    tree = clip_tree.tensors(
        width=64 * heads, text_width=64 * text_heads, side=grid * given["patch"], **given
    )
    assert geometry(clip_tensors(tree)) == Geometry(
        vision_width=64 * heads,
        vision_layers=given["layers"],
        vision_heads=heads,
        patch=given["patch"],
        grid=grid,
        embed=given["embed"],
        text_width=64 * text_heads,
        text_layers=given["text_layers"],
        text_heads=text_heads,
        vocab=given["vocab"],
        context=given["context"],
    )


def test_a_logit_scale_may_have_the_shape_1(weights):
    assert clip_tensors(weights | {"logit_scale": blank(1)})["logit_scale"].shape == (1,)
    with pytest.raises(WeightsError, match=r"logit_scale is \(2,\) instead of \(\)"):
        clip_tensors(weights | {"logit_scale": blank(2)})
    with pytest.raises(WeightsError, match=r"ln_final.bias is \(1,\) instead of"):
        clip_tensors(weights | {"ln_final.bias": blank(1)})


def test_tensors_outside_the_towers_are_ignored(weights):
    extra = {
        "head.weight": blank(3),
        "transformer.resblocks.0.attn_mask": blank(7, 7),
        "text_decoder.x": blank(1),
    }
    assert clip_tensors(weights | extra).keys() == weights.keys() - SCALARS


@pytest.mark.parametrize("name", sorted(clip_tree.tensors(**clip_tree.SMALL).keys() - SCALARS))
def test_no_tensor_may_be_missing_or_of_another_shape(weights, name):
    original = weights.pop(name)
    message = refused(weights)
    assert message.startswith("Missing tensors of a CLIP ViT")
    assert f": {name} (1 in all)" in message
    weights[name] = blank(*original.shape, 2)
    assert name in refused(weights)
    weights[name] = blank(*original.shape).long()
    assert f"not floating point: {name} is torch.int64 (1 in all)" in refused(weights)


def test_missing_tensors_are_counted_and_the_first_named(weights):
    incomplete = {name: tensor for name, tensor in weights.items() if not name.startswith(BLOCK)}
    message = refused(incomplete)
    assert message.startswith(f"Missing tensors of a CLIP ViT ({len(weights) - len(SCALARS)} expected): ")
    assert f"{BLOCK}ln_1.weight" in message
    assert message.count(BLOCK) == 4
    assert message.endswith(", … (12 in all). Get the complete checkpoint.")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (
            "visual.positional_embedding",
            (18, 128),
            "has 18 rows. Expected one for the class token and a square grid",
        ),
        ("visual.positional_embedding", (1, 128), "has 1 rows"),
        ("visual.positional_embedding", (0, 128), "has 0 rows"),
        ("visual.positional_embedding", (17, 64), "is (17, 64) instead of (17, 128)"),
        ("visual.conv1.weight", (128, 3, 16, 14), "is (128, 3, 16, 14) instead of (128, 3, 14, 14)"),
        ("visual.conv1.weight", (100, 3, 16, 16), "image tower has width 100, which is not a multiple of 64"),
        ("visual.conv1.weight", (0, 3, 16, 16), "image tower has width 0"),
        ("visual.conv1.weight", (1280, 3, 16, 16), "has width 1280, as open_clip's ViT-H"),
        ("token_embedding.weight", (11, 96), "text tower has width 96"),
        ("text_projection", (64, 33), "text_projection is (64, 33) instead of (64, 32)"),
        (BLOCK + "mlp.c_fc.weight", (500, 128), "is (500, 128) instead of (512, 128)"),
        ("logit_scale", (2,), "logit_scale is (2,) instead of ()"),
    ],
)
def test_inconsistent_shapes_are_refused(weights, name, shape, expected):
    assert expected in refused(weights | {name: blank(*shape)})


def test_a_wrong_width_is_counted_once_per_tensor(weights):
    weights["visual.ln_pre.weight"] = blank(3)
    weights["visual.ln_pre.bias"] = blank(3)
    message = refused(weights)
    assert (
        "Tensors with inconsistent shapes: visual.ln_pre.weight is (3,) instead of (128,), visual" in message
    )
    assert "(2 in all)" in message


@pytest.mark.parametrize(
    "name", ["visual.attn_pool.query", BLOCK + "ls_1.gamma", "transformer.resblocks.1234567890.ln_1.bias"]
)
def test_unexpected_tensors_in_a_tower_are_refused(weights, name):
    message = refused(weights | {name: blank(3)})
    assert f"Unexpected tensors in the towers: {name} (1 in all)" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: w | {"visual.layer1.0.conv1.weight": blank(1)}, "a CLIP ResNet"),
        (lambda w: w | {"visual.attnpool.k_proj.weight": blank(1)}, "a CLIP ResNet"),
        (lambda w: w | {"logit_bias": blank()}, "a SigLIP"),
        (lambda w: renamed(w, "visual.", "visual.trunk."), "a SigLIP or have custom towers"),
        (lambda w: w | {"text.transformer.x": blank(1)}, "a SigLIP or have custom towers"),
        (lambda w: renamed(w, "visual.", "vision_model."), "Hugging Face key layout"),
        (lambda w: {k: v for k, v in w.items() if k.startswith("visual.")}, "image tower without its text"),
        (lambda w: {k: v for k, v in w.items() if not k.startswith("visual.")}, "have no image tower"),
        (
            lambda w: {"blocks.0.x": blank(1), "cls_token": blank(1)},
            "not a CLIP. Their tensors: blocks.0.x, cls",
        ),
        (lambda w: {}, "not a CLIP. Their tensors: none (0 in all)"),
    ],
)
def test_other_models_are_named(weights, change, expected):
    message = refused(change(weights))
    assert expected in message
    assert message.endswith("Only CLIP ViTs in the OpenAI / open_clip key layout are supported.")


def test_geometry_of_an_incomplete_dict_is_refused(weights):
    del weights["visual.proj"]
    with pytest.raises(WeightsError, match=r"The tensor visual\.proj is missing"):
        geometry(weights)
