import copy
import pickle
from collections.abc import Iterator

import pytest
import torch

import tagmask
from tagmask.clip import load as load_module
from tagmask.clip import packed
from tagmask.clip.model import ACTIVATIONS, Block, Vision, fold_quick_gelu
from tagmask.clip.packed import PackedBlock, can_pack, pack_blocks
from tagmask.clip.state_dict import Geometry

needs_packing = pytest.mark.skipif(
    not can_pack(torch.zeros(64, 64, dtype=torch.bfloat16)),
    reason="this processor or torch cannot pack weights",
)

SHAPE = Geometry(
    vision_width=128, vision_layers=3, vision_heads=2, patch=16, grid=2, embed=8,
    text_width=64, text_layers=1, text_heads=1, vocab=9, context=5,
)  # fmt: skip


def tower(activation: str = "quickgelu") -> Vision:
    torch.manual_seed(0)
    vision = Vision(SHAPE, ACTIVATIONS[activation])
    for parameter in vision.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    if activation == "quickgelu":
        fold_quick_gelu(vision)
    for block in vision.blocks:
        block.attn.bfloat16()
        block.mlp.bfloat16()
    return vision.requires_grad_(False).eval()


def packed_tower(activation: str = "quickgelu") -> Vision:
    vision = tower(activation)
    pack_blocks(vision)
    return vision


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1 / 128, atol=1e-3)


def first(result: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The tokens that a block returns, with or without a map."""
    return result if isinstance(result, torch.Tensor) else result[0]


@pytest.fixture
def checked_anew() -> Iterator[None]:
    """Check again whether packing works, and forget the result afterwards."""
    packed._packing_works.cache_clear()
    yield
    packed._packing_works.cache_clear()


@needs_packing
@pytest.mark.parametrize("activation", ["quickgelu", "gelu"])
def test_packed_blocks_compute_the_same(activation: str) -> None:
    plain, vision = tower(activation), packed_tower(activation)
    assert [type(block) for block in vision.blocks] == [PackedBlock, PackedBlock, Block]
    x = torch.randn(2, 5, 128)
    with torch.inference_mode():
        for block, other in zip(vision.blocks[:2], plain.blocks[:2], strict=True):
            # Sums in another order may round to the next bfloat16, which is up to 1/128 away.
            for part in (None, 0, 1, 2):
                close(block.attn.project(x, part), other.attn.project(x, part))
            for got, want in zip(block.attn.qkv(x), other.attn.qkv(x), strict=True):
                close(got, want)
            q = other.attn.qkv(x)[0]
            close(block.attn.merge(q), other.attn.merge(q))
            exact = copy.deepcopy(other).double()
            for name in ("mlp", "forward", "forward_with_mean_attention"):
                wanted = first(getattr(exact, name)(x.double()))
                rounding = first(getattr(other, name)(x)) - wanted
                error = first(getattr(block, name)(x)) - wanted
                assert error.square().mean() < 1.1 * rounding.square().mean(), name
            assert block(x[:0]).shape == (0, 5, 128)


@needs_packing
def test_packed_weights_replace_plain_ones_and_can_be_read() -> None:
    plain, vision = tower(), packed_tower()
    names = [name for name, _ in vision.blocks[0].named_parameters()]
    assert sorted(names) == ["ln_1.bias", "ln_1.weight", "ln_2.bias", "ln_2.weight"]
    expected, tensors = plain.state_dict(), vision.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


@needs_packing
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda block: pickle.loads(pickle.dumps(block))])
def test_copies_are_plain(copied: object) -> None:
    plain, block = tower().blocks[0], packed_tower().blocks[0]
    assert callable(copied)
    got = copied(block)
    assert type(got) is Block
    assert got.mlp.activation is plain.mlp.activation
    for name, parameter in plain.named_parameters():
        assert torch.equal(got.get_parameter(name), parameter), name
    assert not any(parameter.requires_grad for parameter in got.parameters())
    x = torch.randn(2, 5, 128)
    assert torch.equal(got(x), plain(x))


@needs_packing
def test_gradients_pass_through_a_packed_block() -> None:
    gradients: list[torch.Tensor] = []
    for vision in (tower(), packed_tower()):
        x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
        vision.blocks[0](x).square().sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-2, atol=1e-2)
    assert bool(gradients[0].any())


@needs_packing
def test_loading_packs_bfloat16_only_and_keeps_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tagmask.load("miniature", device="cpu", precision="bfloat16")
    assert all(isinstance(block, PackedBlock) for block in clip.vision.blocks[:-1])
    exact = tagmask.load("miniature", device="cpu", precision="float32")
    assert not any(isinstance(block, PackedBlock) for block in exact.vision.blocks)
    monkeypatch.setattr(load_module, "pack_blocks", lambda vision: None)
    assert tagmask.load("miniature", device="cpu", precision="bfloat16").fingerprint == clip.fingerprint


@pytest.mark.usefixtures("checked_anew")
@pytest.mark.parametrize("problem", ["processor", "operator", "result"])
def test_plain_where_packing_does_not_work(monkeypatch: pytest.MonkeyPatch, problem: str) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    def wrong(x: torch.Tensor, weight: torch.Tensor, *_: object) -> torch.Tensor:
        return x.new_zeros(len(x), 96)

    if problem == "processor":
        monkeypatch.setattr(packed, "cpu_has_bfloat16", lambda: False)
    elif problem == "operator":
        monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", refuse)
    else:
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong)
    assert all(type(block) is Block for block in packed_tower().blocks)
