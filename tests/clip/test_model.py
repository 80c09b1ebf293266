import torch

from tagmask.clip.model import ACTIVATIONS, Vision, fold_quick_gelu
from tagmask.clip.state_dict import Geometry

SHAPE = Geometry(
    vision_width=64, vision_layers=2, vision_heads=1, patch=16, grid=2, embed=8,
    text_width=64, text_layers=1, text_heads=1, vocab=9, context=5,
)  # fmt: skip


def tower() -> Vision:
    torch.manual_seed(0)
    vision = Vision(SHAPE, ACTIVATIONS["quickgelu"])
    for parameter in vision.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vision.double()


def test_folded_quick_gelu_is_quick_gelu() -> None:
    original, folded = tower(), tower()
    fold_quick_gelu(folded)
    x = torch.randn(2, 5, 64, dtype=torch.float64)
    for block, folded_block in zip(original.blocks, folded.blocks, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(folded_block(x), block(x), rtol=1e-12, atol=1e-12)


def test_blocks_do_not_change_their_input() -> None:
    vision = tower().float().requires_grad_(False)
    with torch.inference_mode():
        x = torch.randn(2, 5, 64)
        before = x.clone()
        first = vision.blocks[0](x)
        second = vision.blocks[0](x)
        with_map, _ = vision.blocks[0].forward_with_mean_attention(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, with_map)


def test_inference_mode_changes_no_number() -> None:
    vision = tower().float().requires_grad_(False)
    x = torch.randn(2, 5, 64)
    expected = vision.blocks[0](x)
    with torch.inference_mode():
        inferred = vision.blocks[0](x.clone())
    torch.testing.assert_close(inferred, expected, rtol=0, atol=0)
