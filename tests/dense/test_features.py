import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec, class_token, class_token_features, extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.errors import InputError


@torch.inference_mode()
def test_class_token_equals_the_whole_tower(tagclip_model: Clip) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32))
    tower = extract_features(tagclip_model.vision, pixels, bilinear_half)
    whole = F.normalize(class_token_features(tagclip_model.vision, pixels), dim=-1)
    torch.testing.assert_close(class_token(tower), whole, rtol=0, atol=2e-6)


@torch.inference_mode()
def test_class_token_does_not_change_the_features(tagclip_model: Clip) -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 64, 96)).astype(np.float32))
    tower = extract_features(tagclip_model.vision, pixels, bilinear_half)
    before = tower.project_last_block(None)
    first = class_token(tower)
    torch.testing.assert_close(class_token(tower), first, rtol=0, atol=0)
    torch.testing.assert_close(tower.project_last_block(None), before, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (176, 208)])
@torch.inference_mode()
def test_averages_and_votes_equal_those_of_the_single_maps(
    tagclip_model: Clip, size: tuple[int, int]
) -> None:
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    groups = [frozenset(layers) for layers in ({8, 9, 10}, range(11), {3})]
    summed = CaptureSpec(averages=frozenset(groups), votes=frozenset({"patches", "tokens"}))
    single = CaptureSpec(attention=frozenset(range(11)))
    tower = extract_features(tagclip_model.vision, pixels, bilinear_half, capture=summed | single)
    layers = [*(tower.attention[layer] for layer in range(11)), tower.last_attention]
    for group in groups:
        for chosen in (group, group | {11}):
            expected = torch.stack([layers[layer] for layer in chosen]).mean(dim=0)
            # Only the order of the sum differs.
            torch.testing.assert_close(tower.average_attention(chosen), expected, rtol=1e-6, atol=1e-9)
    assert torch.equal(tower.average_attention({11}), layers[11])
    for image in range(2):
        patches = [layer[image, 1:, 1:] for layer in layers]
        votes = sum((layer > layer.double().mean()).int() for layer in patches)
        of_tokens = sum((layer > 1 / len(layers[0][image])).int() for layer in patches)
        # An attention may be within rounding of the mean.
        assert int((tower.count_votes("patches")[image] != votes).sum()) <= 2
        assert torch.equal(tower.count_votes("tokens")[image].int(), of_tokens)
    alone = extract_features(tagclip_model.vision, pixels, bilinear_half, capture=summed)
    assert not alone.attention
    assert torch.equal(alone.count_votes("patches"), tower.count_votes("patches"))


@torch.inference_mode()
def test_average_of_other_layers_is_refused(tagclip_model: Clip) -> None:
    capture = CaptureSpec(averages=frozenset({frozenset({1, 2})}))
    tower = extract_features(tagclip_model.vision, torch.zeros(1, 3, 32, 48), bilinear_half, capture=capture)
    with pytest.raises(InputError, match=r"average attention of layers \[1\] was not captured"):
        tower.average_attention({1, 11})
