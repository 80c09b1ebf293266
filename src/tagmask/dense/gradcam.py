"""Softmax Grad-CAM at the last block: which patches raise the probability of a text.

The image is described by the mean of its patches after the last block; a softmax over the texts compares it
with them; the gradient of one text's probability at the block's ln_1 output, averaged over the patches,
weighs the channels of that output. It passes through the attention branch alone: the residual goes around.

Only that average is wanted, and it has a closed form in which no gradient of the attention weights (patches x
tokens, for each text and head) ever exists. All texts share one way out and go back together, and since
no graph is recorded, this also works on what inference mode has made.

    p  patches = n - 1    k  target texts    m  width of the MLP
    u  ln_1 output        O = A V, the attention's output, one head at a time
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.dense.features import TowerFeatures
from tagmask.errors import ShapeError
from tagmask.types import TextFeatures

__all__ = ["Gradcam", "softmax_gradcam"]

_GRADIENTS_ALIVE = 2**24
"""Numbers in one (k, p, m) gradient: 64 MiB in float32; more targets go back in groups."""


class Gradcam(NamedTuple):
    """Activation maps, and what they were made of."""

    maps: Float[Tensor, "k gh gw"]
    """At least 0, not scaled: gradients of probabilities are often tiny."""
    weights: Float[Tensor, "k d"]
    """Mean gradient of each target's probability over the patches, per channel."""
    probabilities: Float[Tensor, " q"]
    """Of all texts; they sum to 1."""


def softmax_gradcam(
    tower: TowerFeatures, texts: TextFeatures, targets: Sequence[int], logit_scale: float
) -> Gradcam:
    """Grad-CAM of the targets' probabilities, among all texts.

    Args:
        tower: features of one image.
        texts: unit features of everything that competes in the softmax.
        targets: rows of `texts` that get a map, in this order; none is allowed.
        logit_scale: multiplies cosines before the softmax.

    Returns:
        Maps on the patch grid: max(0, sum over channels of mean gradient * u), float32. A map is all 0 where
        the target has no rival, its probability is 0 to float32, or no patch speaks for it.

    Raises:
        ShapeError: the pass holds several images.

    Source:
        CLIP-ES (CVPR 2023), as coded by the authors: ln_post before the mean, the class token in neither
        mean. Their program runs the block and a full backward pass once for each text. Departure: for a text
        whose probability is all but 1, their gradient in float32 is rounding noise and this one is not.
    """
    if len(tower.tokens) != 1:
        raise ShapeError(f"got a pass of {len(tower.tokens)} images; give one image at a time")
    out = _output_path(tower)
    cosines = texts.float() @ out.feature
    probabilities = torch.softmax(logit_scale * cosines, dim=0)
    gradient = _at_feature(probabilities, texts.float(), list(targets)) * logit_scale
    # Then through the feature's own normalisation.
    gradient = (gradient - (gradient @ out.feature)[:, None] * out.feature) / out.length
    together = max(1, _GRADIENTS_ALIVE // out.slope.numel())
    weights = [_mean_gradients(tower, out, group) for group in gradient.split(together)]
    mean = torch.cat(weights)
    maps = (mean @ tower.z[0, 1:].T).clamp_(min=0)
    return Gradcam(maps.unflatten(1, tower.grid), mean, probabilities)


class _Norm(NamedTuple):
    """A layer normalisation as seen from its output."""

    unit: Float[Tensor, "p d"]
    """Its input at mean 0 and deviation 1."""
    inverse: Float[Tensor, "p 1"]
    """1 / deviation of its input."""
    weight: Float[Tensor, " d"]

    def back(self, gradient: Float[Tensor, "k p d"]) -> Float[Tensor, "k p d"]:
        """From a gradient at the output to that at the input."""
        inner = _centred(gradient * self.weight)
        return (inner - self.unit * (inner * self.unit).mean(dim=-1, keepdim=True)) * self.inverse


class _OutputPath(NamedTuple):
    """What the last block did to the patches of one image."""

    attended: Float[Tensor, "heads p dh"]
    """O, float32."""
    before_mlp: _Norm
    slope: Float[Tensor, "p m"]
    """Of the MLP's activation."""
    after: _Norm
    feature: Float[Tensor, " e"]
    """Mean of the patches in the shared space, unit length."""
    length: Float[Tensor, ""]
    """Its length before."""


def _output_path(tower: TowerFeatures) -> _OutputPath:
    block, vision = tower.block, tower.vision
    attended = F.scaled_dot_product_attention(tower.q[:, :, 1:], tower.k, tower.v)
    x = (tower.tokens[:, 1:] + block.attn.merge(attended))[0]
    hidden = block.mlp.c_fc(block.ln_2(x).to(block.mlp.c_fc.weight.dtype))
    y = x + block.mlp.c_proj(block.mlp.activation(hidden))
    pooled = vision.ln_post(y).mean(dim=0)
    feature = (pooled.to(vision.proj.dtype) @ vision.proj).float()
    length = feature.norm()
    return _OutputPath(
        attended[0].float(),
        _norm(block.ln_2, x),
        _slope(block.mlp.activation, hidden.float()),
        _norm(vision.ln_post, y),
        feature / length,
        length,
    )


def _norm(layer: nn.LayerNorm, x: Float[Tensor, "p d"]) -> _Norm:
    centred = _centred(x)
    inverse = (centred.square().mean(dim=-1, keepdim=True) + layer.eps).rsqrt()
    return _Norm(centred * inverse, inverse, layer.weight)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _slope(activation: Callable[[Tensor], Tensor], x: Float[Tensor, "p m"]) -> Float[Tensor, "p m"]:
    # The only derivative that is left to autograd, since the activation belongs to the weights. A tensor
    # made in inference mode cannot be differentiated, its clone outside can.
    with torch.inference_mode(mode=False), torch.enable_grad():
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(activation(x).sum(), x)
    return slope


def _at_feature(
    probabilities: Float[Tensor, " q"], texts: TextFeatures, targets: list[int]
) -> Float[Tensor, "k e"]:
    """Gradient of the targets' probabilities at the feature, but for the logit scale."""
    rivals = probabilities.repeat(len(targets), 1)
    rivals[range(len(targets)), targets] = 0
    # sum_j p_j (t_c - t_j) over the rivals. The usual t_c - sum_j p_j t_j is the same, but for a tag that is
    # all but certain it would be a difference of equal numbers, and the map would show their rounding.
    apart = rivals.sum(dim=1, keepdim=True) * texts[targets] - rivals @ texts
    return probabilities[targets, None] * apart


def _mean_gradients(
    tower: TowerFeatures, out: _OutputPath, gradient: Float[Tensor, "k e"]
) -> Float[Tensor, "k d"]:
    """From gradients at the unit feature to their mean over the patches at ln_1's output."""
    patches = len(out.slope)
    pooled = gradient @ tower.vision.proj.float().T
    # All that follows is linear. A power of two in front changes no digit, and gradients of about 1e-7
    # would vanish in half precision.
    top = pooled.abs().amax(dim=-1, keepdim=True).cpu()  # not every device has frexp
    exponent = torch.frexp(top).exponent.clamp(min=-100).to(pooled.device)
    at_attention = _back_to_attention(tower, out, torch.ldexp(pooled, -exponent))
    summed = _sum_through_attention(tower, out.attended, at_attention)
    mean = summed @ tower.block.attn.in_proj_weight.float() / patches
    return torch.ldexp(mean, exponent) / patches  # the pool's own 1 / patches


def _back_to_attention(
    tower: TowerFeatures, out: _OutputPath, pooled: Float[Tensor, "k d"]
) -> Float[Tensor, "k heads p dh"]:
    """Back through the pool, ln_post, the MLP and the output projection, to O."""
    attn, mlp = tower.block.attn, tower.block.mlp
    # Every patch gets the same gradient at ln_post's output, so at its input they differ by a multiple of
    # `unit` only, and the MLP's wide projection is needed once for all targets.
    inner = _centred(pooled * out.after.weight)
    along = inner @ out.after.unit.T / inner.shape[-1]
    at_y = (inner[:, None] - along[..., None] * out.after.unit) * out.after.inverse
    shared = _times(out.after.unit * out.after.inverse, mlp.c_proj.weight) * out.slope
    at_hidden = _times(inner, mlp.c_proj.weight)[:, None] * (out.slope * out.after.inverse)
    at_hidden -= along[..., None] * shared
    at_x = out.before_mlp.back(_times(at_hidden, mlp.c_fc.weight)) + at_y
    at_merged = _times(at_x, attn.out_proj.weight)
    return attn.split(at_merged)


def _sum_through_attention(
    tower: TowerFeatures, attended: Float[Tensor, "heads p dh"], gradient: Float[Tensor, "k heads p dh"]
) -> Float[Tensor, "k qkv"]:
    """Sum over the patches of the gradients at q, k and v, side by side as the input projection has them.

    With A the weights (patches' rows), g the gradient at O, and r_i = g_i . O_i, the gradient at the logits
    is A_ij (g_i . V_j - r_i); its rows sum to 0. So, over all patches i and tokens j,

        sum of dV_j = sum_j (Aᵀ g)_j                 (j but for the class token, which is no patch)
        sum of dQ_i = sum_j ((Aᵀ g)_j . V_j - (Aᵀ r)_j) K_j
        sum of dK_j = - sum_i A_i0 (g_i . V_0 - r_i) Q_i     (0 is the class token)
    """
    q, k, v = (part[0].float() for part in (tower.q, tower.k, tower.v))
    scale = q.shape[-1] ** -0.5
    sums = gradient.new_empty(3, len(gradient), *q.shape[::2])
    for head in range(len(q)):
        weights = torch.softmax((q[head, 1:] * scale) @ k[head].T, dim=-1)
        g = gradient[:, head]
        r = (g * attended[head]).sum(dim=-1)
        columns = torch.cat([g, r[..., None]], dim=-1).transpose(0, 1)
        back = (weights.T @ columns.flatten(1)).unflatten(1, columns.shape[1:]).transpose(0, 1)
        heard = (back[..., :-1] * v[head]).sum(dim=-1) - back[..., -1]
        to_class = weights[:, 0] * (g @ v[head, 0] - r)
        sums[0, :, head] = heard @ k[head] * scale
        sums[1, :, head] = to_class @ q[head, 1:] * -scale
        sums[2, :, head] = back[:, 1:, :-1].sum(dim=1)
    return sums.transpose(0, 1).flatten(1)


def _times(gradient: Tensor, weight: Tensor) -> Tensor:
    """A product with a weight, in the weight's precision."""
    return (gradient.to(weight.dtype) @ weight).float()
