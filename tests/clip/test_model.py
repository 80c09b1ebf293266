import torch

from tagmask.clip.model import ACTIVATIONS, Vision, fold_quick_gelu
from tagmask.clip.state_dict import Geometry

SHAPE = Geometry(
    vision_width=64, vision_layers=2, vision_heads=1, patch=16, grid=2, embed=8,
    text_width=64, text_layers=1, text_heads=1, vocab=9, context=5,
)  # fmt: skip


def tower() -> Vision:
    torch.manual_seed(0)
    made = Vision(SHAPE, ACTIVATIONS["quickgelu"])
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.double()


def test_folded_quick_gelu_is_quick_gelu() -> None:
    plain, folded = tower(), tower()
    fold_quick_gelu(folded)
    x = torch.randn(2, 5, 64, dtype=torch.float64)
    for one, other in zip(plain.blocks, folded.blocks, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(other(x), one(x), rtol=1e-12, atol=1e-12)


def test_blocks_leave_their_input_as_it_is() -> None:
    vision = tower().float().requires_grad_(False)
    with torch.inference_mode():
        x = torch.randn(2, 5, 64)
        before = x.clone()
        first = vision.blocks[0](x)
        again = vision.blocks[0](x)
        watched, _ = vision.blocks[0].forward_with_mean_attention(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close(first, watched)


def test_inference_mode_changes_no_number() -> None:
    vision = tower().float().requires_grad_(False)
    x = torch.randn(2, 5, 64)
    plain = vision.blocks[0](x)
    with torch.inference_mode():
        quick = vision.blocks[0](x.clone())
    torch.testing.assert_close(quick, plain, rtol=0, atol=0)
