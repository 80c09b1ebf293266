"""MCTformer: properties of network and maps on tiny random weights, and errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.errors import InputError, ShapeError, WeightsError
from tagmask.papers.mctformer import (
    MapSettings,
    MctFormer,
    MctShape,
    initialise,
    localisation_maps,
    localise,
    network_from,
    pooled_scores,
)

TINY = MctShape("v2", classes=3, width=24, depth=3, heads=2, grid=4)


def tiny(version: str = "v2", **sizes: int) -> MctFormer:
    torch.manual_seed(3)
    net = MctFormer(replace(TINY, version=version, **sizes))
    for parameter in net.parameters():  # the fresh weights are too small for attention to matter
        parameter.data += 0.2 * torch.randn_like(parameter)
    return net.eval()


def deit(width: int = 24, depth: int = 3, grid: int = 4) -> dict[str, Tensor]:
    net = MctFormer(MctShape("v1", classes=1, width=width, depth=depth, heads=2, grid=grid))
    state = {name: torch.randn(value.shape) for name, value in net.state_dict().items()}
    return {**state, "head.weight": torch.randn(10, width), "head.bias": torch.randn(10)}


def picture(h: int = 48, w: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
def test_training_and_maps_run_the_same_network(version: str) -> None:
    net, pixels = tiny(version), torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        output = net(pixels)
        *_, (tokens, mean) = net.run_blocks(pixels, attention=True)
    assert torch.allclose(tokens[:, 3:], output.patch_tokens, atol=1e-5)
    assert torch.allclose(mean.sum(dim=-1), torch.ones(2, 3 + 12), atol=1e-5)
    assert output.class_tokens.shape == (3, 2, 3, 24)


def test_dropped_branches_leave_the_mean_unchanged() -> None:
    net = MctFormer(TINY, drop_path=0.5)
    block = net.blocks[-1]
    branch = torch.ones(2000, 1, 24)
    kept = block._dropped(branch)
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert abs(kept.mean().item() - 1) < 0.1
    assert torch.equal(net.blocks[0]._dropped(branch), branch)
    assert torch.equal(net.eval().blocks[-1]._dropped(branch), branch)


def test_unused_parameters_are_not_trained() -> None:
    for version, unused in (("v1", {"norm", "head"}), ("v2", {"norm"}), ("plus", {"norm", "pos_embed"})):
        frozen = {name for name, value in tiny(version).named_parameters() if not value.requires_grad}
        assert {name.split(".")[0] for name in frozen} == unused


@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
def test_refined_maps_are_the_formula_written_out(version: str) -> None:
    net, pixels = tiny(version), torch.randn(1, 3, 48, 64)
    settings = MapSettings(last=2)
    with torch.no_grad():
        blocks = [mean[0] for _, mean in net.run_blocks(pixels, attention=True)]
        output = net(pixels)
    for c in range(3):
        q = sum(block[c, 3:] for block in blocks[-2:])
        if version == "plus":
            q = q / 2
        r = None if version == "v1" else output.patch_maps[0, c].flatten().clamp(min=0)
        s = q if r is None else (q * r).sqrt() if version == "plus" else q * r
        wanted = [
            sum(float(block[3 + i, 3 + j] * s[j]) for block in blocks for j in range(12)) for i in range(12)
        ]
        assert torch.allclose(
            localise(net, pixels, settings).refined[0, c].flatten(), torch.tensor(wanted), atol=1e-5
        )


def test_the_map_of_a_mirrored_image_is_mirrored() -> None:
    net, image = tiny(), picture()
    maps = localisation_maps(net, image, [0, 2])
    mirrored = localisation_maps(net, np.ascontiguousarray(image[:, ::-1]), [2, 0])
    assert list(maps) == list(mirrored) == [0, 2]
    for c in maps:
        assert maps[c].shape == (48, 64)
        assert (maps[c].min(), maps[c].dtype) == (0, np.float32)
        assert 0.999 < maps[c].max() <= 1
        np.testing.assert_allclose(mirrored[c][:, ::-1], maps[c], atol=1e-5)


def test_settings_change_the_maps_as_they_say() -> None:
    net, image = tiny(), picture()
    (plain,) = localisation_maps(net, image, [1], MapSettings(flip=False)).values()
    pixels = torch.randn(1, 3, 48, 64)
    whole = localise(net, pixels)
    assert torch.equal(localise(net, pixels, MapSettings(affinity=False)).refined, whole.fused)
    assert torch.equal(localise(net, pixels, MapSettings(fusion="patch")).fused, whole.patch_cam)
    assert torch.equal(localise(net, pixels, MapSettings(fusion="attention")).fused, whole.class_attention)
    assert torch.equal(localise(net, pixels, MapSettings(last=9)).class_attention,
                       localise(net, pixels, MapSettings(last=3)).class_attention)  # fmt: skip
    (reduced,) = localisation_maps(net, image, [1], MapSettings(flip=False, longest=32)).values()
    (half,) = localisation_maps(net, image, [1], MapSettings(flip=False, scales=(0.5,))).values()
    np.testing.assert_array_equal(reduced, half)
    (same,) = localisation_maps(net, image, [1], MapSettings(flip=False, longest=64)).values()
    np.testing.assert_array_equal(same, plain)


def test_ranked_pooling_is_the_formula_written_out() -> None:
    maps = torch.randn(2, 3, 4, 5)
    for b in range(2):
        for c in range(3):
            ranked = sorted(maps[b, c].flatten().tolist(), reverse=True)
            weights = [0.9**r for r in range(20)]
            wanted = sum(w * value for w, value in zip(weights, ranked, strict=True)) / sum(weights)
            assert pooled_scores(maps, 0.9)[b, c].item() == pytest.approx(wanted, abs=1e-5)


def test_no_tags_no_maps_and_errors() -> None:
    net = tiny()
    assert localisation_maps(net, picture(), []) == {}
    with pytest.raises(InputError, match=r"The tags are \[1, 3\]\. Expected classes from 0 to 2"):
        localisation_maps(net, picture(), [3, 1])
    with pytest.raises(ShapeError, match=r"\(15, 64\) \(h, w\), smaller than a patch"):
        localisation_maps(net, picture(15), [0])
    with pytest.raises(InputError, match="V1 has no patch head"):
        localisation_maps(tiny("v1"), picture(), [0], MapSettings(fusion="patch"))
    with pytest.raises(InputError, match="multiple of the number of heads, 5"):
        replace(TINY, heads=5)
    with pytest.raises(InputError, match="scales is empty"):
        MapSettings(scales=())


def test_a_state_dict_rebuilds_its_network() -> None:
    for version in ("v1", "v2", "plus"):
        net, pixels = tiny(version, grid=3), torch.randn(1, 3, 48, 64)
        again = network_from(net.state_dict(), heads=2)
        assert again.shape.version == version
        assert torch.equal(again(pixels).class_scores, net(pixels).class_scores)
    assert network_from(tiny(width=128).state_dict()).shape.heads == 2
    for change, message in (
        (lambda s: s.pop("norm.bias"), "norm.bias"),
        (lambda s: s.pop("cls_token"), "cls_token"),
    ):
        state = dict(tiny().state_dict())
        change(state)
        with pytest.raises(WeightsError, match=f"not MCTformer's weights .*{message}"):
            network_from(state, heads=2)


@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
def test_initialisation_at_another_size(version: str) -> None:
    net, weights = MctFormer(replace(TINY, version=version, grid=8)), deit()
    fresh = initialise(net, weights)
    assert {name.split(".")[0] for name in fresh} == (
        {"head", "pos_embed"} if version == "plus" else {"head"}
    )
    table = weights["pos_embed"][0, 1:].reshape(4, 4, 24)
    if version == "plus":
        wanted = table.repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert torch.equal(net.pos_embed_pat[0].reshape(8, 8, 24), wanted)
        assert torch.equal(net.pos_embed_cls[0, 2], weights["pos_embed"][0, 0])
    else:
        found = net.pos_embed[0, 3:].reshape(8, 8, 24)
        assert torch.equal(net.pos_embed[0, 1], weights["pos_embed"][0, 0])
        assert found.shape == (8, 8, 24)
        means = found.reshape(4, 2, 4, 2, 24).mean(dim=(1, 3)).flatten()  # of the cells of each old patch
        assert torch.cosine_similarity(means, table.flatten(), dim=0) > 0.5
    assert torch.equal(net.cls_token[0, 0], net.cls_token[0, 2])
    assert torch.equal(net.blocks[2].mlp.fc1.weight, weights["blocks.2.mlp.fc1.weight"])


def test_weights_that_do_not_fit_change_nothing() -> None:
    net = MctFormer(TINY)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    lacking = {name: value for name, value in deit().items() if name != "blocks.1.norm1.bias"}
    distilled = {**deit(), "pos_embed": torch.randn(1, 18, 24)}
    for weights, message in (
        (deit(width=48), r"cls_token is of shape \(1, 3, 48\), expected \(1, 3, 24\)"),
        (deit(depth=2), "blocks.2.norm1.weight is missing"),
        (lacking, "blocks.1.norm1.bias is missing"),
        (distilled, "its position table is not square"),
        ({"x": torch.ones(1)}, "'cls_token' is missing"),
    ):
        with pytest.raises(WeightsError, match=message):
            initialise(net, weights)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
