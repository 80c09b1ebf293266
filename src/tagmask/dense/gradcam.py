"""Softmax Grad-CAM at the last block: which patches raise the probability of a text.

The image feature is the mean of the patches after the last block, and a softmax over the texts compares it
with them. The gradient of one text's probability at the block's ln_1 output, averaged over the patches,
weights the channels of that output. It flows through the attention branch only: the residual connection
bypasses ln_1.

Only that average is needed, and it has a closed form that never materialises a gradient of the attention
weights (patches x tokens, for each text and head). All texts share one forward path and one backward path,
which takes the patches in blocks, so that memory does not grow with their square. No graph is recorded, so
this also works on tensors created in inference mode.

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

__all__ = ["Gradcam", "patch_feature", "softmax_gradcam"]

_GRADIENTS_ALIVE = 2**25
"""Numbers in one (k, heads, p, dh) gradient: 128 MiB in float32; more targets are processed in groups."""
_HIDDEN_ALIVE = 2**22
"""Numbers in one (k, rows, m) gradient: 16 MiB in float32; more patches are processed in blocks of rows."""
_WEIGHTS_ALIVE = 2**20
"""Attention weights of one head in memory at once: 4 MiB in float32, which stay in a processor's cache."""


class Gradcam(NamedTuple):
    """Activation maps, and the values they were computed from."""

    maps: Float[Tensor, "k gh gw"]
    """Non-negative, not scaled: gradients of probabilities are often tiny."""
    weights: Float[Tensor, "k d"]
    """Mean gradient of each target's probability over the patches, per channel."""
    probabilities: Float[Tensor, " q"]
    """Probabilities of all texts; they sum to 1."""


def softmax_gradcam(
    tower: TowerFeatures, texts: TextFeatures, targets: Sequence[int], logit_scale: float
) -> Gradcam:
    """Grad-CAM of the targets' probabilities in the softmax over all texts.

    Args:
        tower: features of one image.
        texts: unit features of all texts that compete in the softmax.
        targets: rows of `texts` to compute maps for, in this order; may be empty.
        logit_scale: multiplies the cosines before the softmax.

    Returns:
        Maps on the patch grid: max(0, sum over channels of mean gradient * u), float32. A map is all 0 if
        no other text competes, the target's probability is 0 in float32, or no patch raises it.

    Raises:
        ShapeError: the features are of several images.

    Source:
        CLIP-ES (CVPR 2023), as coded by the authors: ln_post before the mean, the class token in neither
        mean. Their program runs the block and a full backward pass once for each text. Departure: for a text
        whose probability is nearly 1, their gradient in float32 is rounding noise and this one is not.
    """
    out = _output_path(tower)
    cosines = texts.float() @ out.feature
    probabilities = torch.softmax(logit_scale * cosines, dim=0)
    gradient = _gradient_at_feature(probabilities, texts.float(), list(targets)) * logit_scale
    # Then through the feature's own normalisation.
    gradient = (gradient - (gradient @ out.feature)[:, None] * out.feature) / out.length
    together = max(1, _GRADIENTS_ALIVE // out.attention_output.numel())
    weights = [_mean_gradients(tower, out, group) for group in gradient.split(together)]
    mean = torch.cat(weights)
    maps = (mean @ tower.z[0, 1:].T).clamp_(min=0)
    return Gradcam(maps.unflatten(1, tower.grid), mean, probabilities)


def patch_feature(tower: TowerFeatures) -> Float[Tensor, " e"]:
    """Return the unit image feature of `softmax_gradcam`: the mean of the patches after the last block.

    Raises:
        ShapeError: the features are of several images.
    """
    return _output_path(tower).feature


class _Norm(NamedTuple):
    """What the backward pass of a layer normalisation needs."""

    unit: Float[Tensor, "p d"]
    """Its input, scaled to mean 0 and standard deviation 1."""
    inverse: Float[Tensor, "p 1"]
    """1 / standard deviation of its input."""
    weight: Float[Tensor, " d"]

    def at(self, rows: slice) -> "_Norm":
        """The same for some of the patches."""
        return _Norm(self.unit[rows], self.inverse[rows], self.weight)

    def back(self, gradient: Float[Tensor, "k p d"]) -> Float[Tensor, "k p d"]:
        """Turn a gradient at the output into one at the input."""
        inner = _centred(gradient * self.weight)
        return (inner - self.unit * (inner * self.unit).mean(dim=-1, keepdim=True)) * self.inverse


class _OutputPath(NamedTuple):
    """Intermediate values of the last block and the projection, for the patches of one image."""

    attention_output: Float[Tensor, "heads p dh"]
    """O, float32."""
    before_mlp: _Norm
    hidden: Float[Tensor, "p m"]
    """Input of the MLP's activation."""
    after: _Norm
    feature: Float[Tensor, " e"]
    """Mean of the patches in the shared space, unit length."""
    length: Float[Tensor, ""]
    """Its length before normalisation."""


def _output_path(tower: TowerFeatures) -> _OutputPath:
    if len(tower.tokens) != 1:
        raise ShapeError(f"Got features of {len(tower.tokens)} images. Grad-CAM takes one image at a time.")
    block, vision = tower.block, tower.vision
    attention_output = F.scaled_dot_product_attention(tower.q[:, :, 1:], tower.k, tower.v)
    x = (tower.tokens[:, 1:] + block.attn.merge(attention_output))[0]
    hidden = block.mlp.c_fc(block.ln_2(x).to(block.mlp.c_fc.weight.dtype))
    y = x + block.mlp.c_proj(block.mlp.activation(hidden))
    pooled = vision.ln_post(y).mean(dim=0)
    feature = (pooled.to(vision.proj.dtype) @ vision.proj).float()
    length = feature.norm()
    return _OutputPath(
        attention_output[0].float(),
        _norm(block.ln_2, x),
        hidden,
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
    # The only derivative left to autograd, because the activation depends on the weights. A tensor created
    # in inference mode cannot be differentiated; a clone created outside of it can.
    with torch.inference_mode(mode=False), torch.enable_grad():
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(activation(x).sum(), x)
    return slope


def _gradient_at_feature(
    probabilities: Float[Tensor, " q"], texts: TextFeatures, targets: list[int]
) -> Float[Tensor, "k e"]:
    """Gradient of the targets' probabilities at the feature, without the factor of the logit scale."""
    competing = probabilities.repeat(len(targets), 1)
    competing[range(len(targets)), targets] = 0
    # sum_j p_j (t_c - t_j) over the competing texts. The textbook form t_c - sum_j p_j t_j is equal, but for
    # a nearly certain tag it subtracts almost equal numbers, and the map would show their rounding errors.
    difference = competing.sum(dim=1, keepdim=True) * texts[targets] - competing @ texts
    return probabilities[targets, None] * difference


def _mean_gradients(
    tower: TowerFeatures, out: _OutputPath, gradient: Float[Tensor, "k e"]
) -> Float[Tensor, "k d"]:
    """Turn gradients at the unit feature into their mean over the patches at ln_1's output."""
    patches = len(out.hidden)
    pooled = gradient @ tower.vision.proj.float().T
    # Everything from here on is linear. Scaling by a power of two is exact, and without it gradients of
    # about 1e-7 would vanish in half precision.
    top = pooled.abs().amax(dim=-1, keepdim=True).cpu()  # not every device has frexp
    exponent = torch.frexp(top).exponent.clamp(min=-100).to(pooled.device)
    at_attention = _back_to_attention(tower, out, torch.ldexp(pooled, -exponent))
    summed = _sum_through_attention(tower, out.attention_output, at_attention)
    mean = summed @ tower.block.attn.in_proj_weight.float() / patches
    return torch.ldexp(mean, exponent) / patches  # 1 / patches of the mean pooling


def _back_to_attention(
    tower: TowerFeatures, out: _OutputPath, pooled: Float[Tensor, "k d"]
) -> Float[Tensor, "k heads p dh"]:
    """Backpropagate through the mean pooling, ln_post, the MLP and the output projection, to O."""
    attn, mlp = tower.block.attn, tower.block.mlp
    inner = _centred(pooled * out.after.weight)
    at_activation = _matmul(inner, mlp.c_proj.weight)[:, None]
    at_attention = inner.new_empty(len(inner), *out.attention_output.shape)
    for rows in _blocks(len(out.hidden), at_activation.numel(), _HIDDEN_ALIVE):
        before, after = out.before_mlp.at(rows), out.after.at(rows)
        slope = _slope(mlp.activation, out.hidden[rows].float())
        # Every patch has the same gradient at ln_post's output, so at its input they differ only by a
        # multiple of `unit`, and one product with the MLP's wide projection serves all targets.
        along = (inner @ after.unit.T / inner.shape[-1])[..., None]
        shared = _matmul(after.unit * after.inverse, mlp.c_proj.weight)
        at_hidden = at_activation * (slope * after.inverse)
        at_hidden -= along * (shared * slope)
        at_y = (inner[:, None] - along * after.unit) * after.inverse
        at_x = before.back(_matmul(at_hidden, mlp.c_fc.weight)) + at_y
        at_attention[:, :, rows] = attn.split(_matmul(at_x, attn.out_proj.weight))
    return at_attention


def _sum_through_attention(
    tower: TowerFeatures,
    attention_output: Float[Tensor, "heads p dh"],
    gradient: Float[Tensor, "k heads p dh"],
) -> Float[Tensor, "k qkv"]:
    """Sum the gradients at q, k and v over the patches, concatenated in the order of the input projection.

    With A the weights (patches' rows), g the gradient at O, and r_i = g_i . O_i, the gradient at the logits
    is A_ij (g_i . V_j - r_i); its rows sum to 0. So, over all patches i and tokens j,

        sum of dV_j = sum_j (Aᵀ g)_j                 (all j but the class token, which is not a patch)
        sum of dQ_i = sum_j ((Aᵀ g)_j . V_j - (Aᵀ r)_j) K_j
        sum of dK_j = - sum_i A_i0 (g_i . V_0 - r_i) Q_i     (0 is the class token)
    """
    q, k, v = (part[0].float() for part in (tower.q, tower.k, tower.v))
    scale = q.shape[-1] ** -0.5
    # The widest product may be in bfloat16, summed in float32 block by block; float16 lacks the range.
    precision = torch.bfloat16 if tower.q.dtype == torch.bfloat16 else torch.float32
    sums = gradient.new_empty(3, len(gradient), *q.shape[::2])
    for head in range(len(q)):
        g = gradient[:, head]
        r = (g * attention_output[head]).sum(dim=-1)
        columns = torch.cat([g, r[..., None]], dim=-1).transpose(0, 1)
        flat = columns.flatten(1).to(precision)
        back, to_class = r.new_zeros(len(k[head]), flat.shape[1]), r.new_empty(len(flat))
        for rows in _blocks(len(flat), len(back), _WEIGHTS_ALIVE):
            weights = torch.softmax((q[head, 1:][rows] * scale) @ k[head].T, dim=-1)
            back += weights.T.to(precision) @ flat[rows]
            to_class[rows] = weights[:, 0]
        gathered = back.unflatten(1, columns.shape[1:]).transpose(0, 1)
        at_values = gathered[..., :-1]
        received = (at_values * v[head]).sum(dim=-1) - gathered[..., -1]
        sums[0, :, head] = received @ k[head] * scale
        sums[1, :, head] = (to_class * (g @ v[head, 0] - r)) @ q[head, 1:] * -scale
        sums[2, :, head] = at_values[:, 1:].sum(dim=1)
    return sums.transpose(0, 1).flatten(1)


def _blocks(rows: int, numbers: int, alive: int) -> list[slice]:
    """Split rows of `numbers` numbers each into blocks of at most `alive` numbers, or of one row."""
    size = max(1, alive // max(1, numbers))
    return [slice(first, first + size) for first in range(0, rows, size)]


def _matmul(gradient: Tensor, weight: Tensor) -> Tensor:
    """Multiply by a weight, in the weight's precision."""
    return (gradient.to(weight.dtype) @ weight).float()
