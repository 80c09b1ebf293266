"""Plain implementation of WeakCLIP: training and masks.

All parameters require gradients, including the image tower; texts are encoded for every step and every
window; all layers of the co-attention are computed, though most have no effect; scores are resized and
concatenated with each level of the pyramid; the CRF of the loss processes one image after another; windows
run one at a time and are summed and counted at full size. Autograd's anomaly detection is on in training, as
in the authors' program. A matrix of nearest neighbours, which that program computes in each step and
discards, is omitted.

Written from the definitions only. `tensors` have the authors' names (`weak.model_file.published_tensors`).
The CRF is `tagmask.refine.crf`.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain_clip import Tensors, norm, qkv
from tagmask.dense.resize import resize_cv2_linear
from tagmask.refine.crf import CRF_SETTINGS, dense_crf

__all__ = ["plain_forward", "plain_losses", "plain_mask", "plain_probabilities", "plain_step", "trained"]

IGNORE_INDEX = 255
HEADS = 4
"""Heads of the co-attention."""
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def trained(tensors: Tensors) -> dict[str, Tensor]:
    """Copies that require gradients, except the norms' counters and running statistics."""
    return {
        name: tensor.clone().requires_grad_("running" not in name and tensor.is_floating_point())
        for name, tensor in tensors.items()
    }


# -- The towers ----------------------------------------------------------------------------------------------


def _drop_path(branch: Tensor, rate: float) -> Tensor:
    """Stochastic depth as coded: drops whole positions, in all images."""
    if rate == 0:
        return branch
    kept = torch.rand(1, branch.shape[1], 1) >= rate
    return branch * kept / (1 - rate)


def _block(tensors: Tensors, block: str, x: Tensor, mask: Tensor | None, drop_rate: float) -> Tensor:
    q, k, v = qkv(tensors, block, norm(tensors, f"{block}.ln_1", x))
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(logits if mask is None else logits + mask, dim=-1)
    mixed = (weights @ v).transpose(-3, -2).flatten(-2)
    x = x + _drop_path(_linear(tensors, f"{block}.attn.out_proj", mixed), drop_rate)
    u = _linear(tensors, f"{block}.mlp.c_fc", norm(tensors, f"{block}.ln_2", x))
    return x + _drop_path(_linear(tensors, f"{block}.mlp.c_proj", u * torch.sigmoid(1.702 * u)), drop_rate)


def _linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def _blocks(tensors: Tensors, tower: str) -> list[str]:
    count = sum(name.startswith(tower) and name.endswith("attn.in_proj_weight") for name in tensors)
    return [f"{tower}.transformer.resblocks.{layer}" for layer in range(count)]


def _image_tower(
    tensors: Tensors, pixels: Tensor, out_indices: Sequence[int], drop: float
) -> tuple[list[Tensor], Tensor]:
    kernel = tensors["backbone.conv1.weight"]
    patches = F.conv2d(pixels, kernel, stride=kernel.shape[-1])
    b, width, gh, gw = patches.shape
    embedding, table = tensors["backbone.class_embedding"], tensors["backbone.positional_embedding"]
    side = int((len(table) - 1) ** 0.5)
    square = table[1:].reshape(1, side, side, width).permute(0, 3, 1, 2)
    spatial = F.interpolate(square, size=(gh, gw), mode="bilinear").flatten(2).transpose(1, 2)
    x = torch.cat([embedding.expand(b, 1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + torch.cat([(table[0] + embedding)[None, None], spatial], dim=1)
    x = norm(tensors, "backbone.ln_pre", x)
    maps = {}
    blocks = _blocks(tensors, "backbone")
    for number, block in enumerate(blocks):
        x = _block(tensors, block, x, None, drop * number / (len(blocks) - 1))
        maps[number + 1] = x[:, 1:].transpose(1, 2).reshape(b, width, gh, gw)
    memory = norm(tensors, "backbone.ln_post", x) @ tensors["backbone.proj"]
    return [maps[index] for index in out_indices], memory


def _texts(tensors: Tensors, ids: Tensor) -> Tensor:
    contexts = tensors["contexts"]
    words = tensors["text_encoder.token_embedding.weight"][ids]
    x = torch.cat([words[:, :1], contexts.expand(len(ids), -1, -1), words[:, 1:]], dim=1)
    length = x.shape[1]
    x = x + tensors["text_encoder.positional_embedding"][:length]
    causal = torch.full((length, length), -torch.inf).triu(1)
    for block in _blocks(tensors, "text_encoder"):
        x = _block(tensors, block, x, causal, 0.0)
    x = norm(tensors, "text_encoder.ln_final", x)
    at_end = x[torch.arange(len(x)), ids.argmax(dim=1) + contexts.shape[1]]
    return at_end @ tensors["text_encoder.text_projection"]


# -- The trained part ----------------------------------------------------------------------------------------


def _attend(tensors: Tensors, name: str, x: Tensor, memory: Tensor, dropout: float) -> Tensor:
    q, k, v = (
        _linear(tensors, f"{name}.{part}_proj", of).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part, of in (("q", x), ("k", memory), ("v", memory))
    )
    weights = torch.softmax((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5, dim=-1)
    mixed = (weights @ v).transpose(1, 2).flatten(2)
    return F.dropout(_linear(tensors, f"{name}.proj", mixed), dropout)


def _layer(tensors: Tensors, name: str, x: Tensor, memory: Tensor, dropout: float) -> Tensor:
    normed = norm(tensors, f"{name}.norm1", x)
    x = x + _attend(tensors, f"{name}.self_attn", normed, normed, dropout)
    x = x + _attend(tensors, f"{name}.cross_attn", norm(tensors, f"{name}.norm2", x), memory, dropout)
    hidden = F.gelu(_linear(tensors, f"{name}.mlp.0", norm(tensors, f"{name}.norm3", x)))
    hidden = _linear(tensors, f"{name}.mlp.3", F.dropout(hidden, dropout))
    return x + F.dropout(hidden, dropout)


def _match(tensors: Tensors, texts: Tensor, memory: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    at = "context_decoder"
    m = _linear(tensors, f"{at}.memory_proj.1", norm(tensors, f"{at}.memory_proj.0", memory))
    m = norm(tensors, f"{at}.memory_proj.2", m)
    t = _linear(tensors, f"{at}.text_proj.1", norm(tensors, f"{at}.text_proj.0", texts))
    layers = sum(name.startswith(f"{at}.decoder.") and name.endswith("norm1.weight") for name in tensors)
    for layer in range(layers):  # each layer starts from the same input: only the last one's result is used
        x = _layer(tensors, f"{at}.decoder.{layer}", t, m, dropout)
        y = _layer(tensors, f"{at}.anti_decoder.{layer}", m, t, dropout)
    x = _linear(tensors, f"{at}.out_proj.1", norm(tensors, f"{at}.out_proj.0", x))
    y = _linear(tensors, f"{at}.anti_out_proj.1", norm(tensors, f"{at}.anti_out_proj.0", y))
    return texts + tensors["gamma"] * x, memory + tensors["beta"] * y


def _group_norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 1, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _batch_norm(tensors: Tensors, name: str, x: Tensor, training: bool) -> Tensor:
    means = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
    return F.batch_norm(x, *means, tensors[f"{name}.weight"], tensors[f"{name}.bias"], training)


def _double(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=2)


def _pyramid(tensors: Tensors, maps: Sequence[Tensor], training: bool) -> list[Tensor]:
    x = _double(tensors, "backbone.fpn1.1", _group_norm(tensors, "backbone.fpn1.0", maps[0]))
    x = F.gelu(_batch_norm(tensors, "backbone.fpn1.2", x, training))
    return [
        _double(tensors, "backbone.fpn1.4", x),
        _double(tensors, "backbone.fpn2.1", _group_norm(tensors, "backbone.fpn2.0", maps[1])),
        _group_norm(tensors, "backbone.fpn3", maps[2]),
        F.max_pool2d(_group_norm(tensors, "backbone.fpn4.0", maps[3]), 2, stride=2),
    ]


def _conv(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return F.conv2d(x, weight, tensors.get(f"{name}.bias"), padding=weight.shape[-1] // 2)


def _decode(
    tensors: Tensors, levels: Sequence[Tensor], scores: Tensor, training: bool, dropout: float
) -> Tensor:
    with_scores = [
        torch.cat([x, F.interpolate(scores, size=x.shape[2:], mode="bilinear", align_corners=True)], dim=1)
        for x in levels
    ]
    x = [_conv(tensors, f"neck.lateral_convs.{i}.conv", level) for i, level in enumerate(with_scores)]
    for fine in (2, 1, 0):
        x[fine] = x[fine] + F.interpolate(x[fine + 1], size=x[fine].shape[2:], mode="nearest")
    x = [_conv(tensors, f"neck.fpn_convs.{i}.conv", level) for i, level in enumerate(x)]
    outputs = []
    for level, units in enumerate((1, 1, 2, 3)):
        y = x[level]
        for unit in range(units):
            name = f"decode_head.scale_heads.{level}.{2 * unit}"
            y = F.relu(_batch_norm(tensors, f"{name}.bn", _conv(tensors, f"{name}.conv", y), training))
            if level:
                y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        outputs.append(F.interpolate(y, size=x[0].shape[2:], mode="bilinear", align_corners=False))
    total = F.dropout2d(torch.stack(outputs).sum(dim=0), dropout)
    return _conv(tensors, "decode_head.conv_seg", total)


def plain_forward(
    tensors: Tensors,
    ids: Tensor,
    pixels: Tensor,
    out_indices: Sequence[int],
    *,
    training: bool = False,
    dropout: float = 0.0,
    drop: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Logits (b, k, h/4, w/4) and scores (b, k, h/16, w/16) of normalised pixels."""
    maps, memory = _image_tower(tensors, pixels, out_indices, drop)
    texts = _texts(tensors, ids).expand(len(pixels), -1, -1)
    texts, memory = _match(tensors, texts, memory, dropout)
    patches = memory[:, 1:] / memory[:, 1:].norm(dim=-1, keepdim=True)
    queries = texts / texts.norm(dim=-1, keepdim=True)
    scores = (queries @ patches.transpose(1, 2)).reshape(len(pixels), len(ids), *maps[0].shape[2:])
    levels = _pyramid(tensors, maps, training)
    return _decode(tensors, levels, scores, training, dropout), scores


# -- Training ------------------------------------------------------------------------------------------------


def plain_losses(logits: Tensor, scores: Tensor, labels: Tensor, images: Tensor, size: int) -> Tensor:
    """Weighted sum of the three losses; labels (b, h, w), uint8 images (b, 3, h, w)."""
    small = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
    p = small.softmax(dim=1) + 1e-7
    p = p / p.sum(dim=1, keepdim=True)
    nearest = F.interpolate(labels[:, None].float(), size=(size, size), mode="nearest")[:, 0].long()
    hot = torch.stack([(nearest == c).float() for c in range(logits.shape[1])], dim=1)
    each = -(hot * p.log()).sum(dim=(2, 3))
    areas = hot.sum(dim=(2, 3))
    background = each[:, 0] / areas[:, 0].clamp(min=1e-4)
    foreground = each[:, 1:].sum(dim=1) / areas[:, 1:].sum(dim=1).clamp(min=1e-4)
    seed = (background + foreground).mean()
    guides = F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=True) + 1e-3
    targets = []
    for probabilities, image in zip(p.detach(), guides.clamp(max=255).to(torch.uint8), strict=True):
        q = dense_crf(probabilities.clone(), image.permute(1, 2, 0).numpy(), CRF_SETTINGS["weakclip/loss"])
        q = q.clamp(min=1e-4)
        targets.append(q / q.sum(dim=0))
    q = torch.stack(targets)
    crf = (q * (q / p).clamp(0.05, 20).log()).sum(dim=1).mean()
    full = F.interpolate(scores / 0.07, size=labels.shape[1:], mode="bilinear", align_corners=False)
    contrast = F.cross_entropy(full, labels.long(), ignore_index=IGNORE_INDEX, reduction="none").mean()
    return seed + crf + 0.4 * contrast


def plain_step(
    tensors: Tensors,
    ids: Tensor,
    images: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    out_indices: Sequence[int],
) -> Tensor:
    """Run one step on a batch of uint8 crops (b, 3, h, w); return the loss."""
    with torch.autograd.set_detect_anomaly(True):
        logits, scores = plain_forward(
            tensors, ids, _normalised(images), out_indices, training=True, dropout=0.1, drop=0.1
        )
        loss = plain_losses(logits, scores, labels, images, 64)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.detach()


def _normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return (images.float() - mean) / std


# -- Masks ---------------------------------------------------------------------------------------------------


def _starts(side: int, crop: int, stride: int) -> list[int]:
    count = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride + crop, side) - crop, 0) for i in range(count)]


def _slide(tensors: Tensors, ids: Tensor, pixels: Tensor, out_indices: Sequence[int]) -> Tensor:
    _, _, h, w = pixels.shape
    summed, counts = torch.zeros(1, len(ids), h, w), torch.zeros(1, 1, h, w)
    for y in _starts(h, 512, 341):
        for x in _starts(w, 512, 341):
            window = pixels[:, :, y : y + 512, x : x + 512]
            logits, _ = plain_forward(tensors, ids, window, out_indices)
            up = F.interpolate(logits, size=window.shape[2:], mode="bilinear", align_corners=False)
            summed[:, :, y : y + 512, x : x + 512] += up
            counts[:, :, y : y + 512, x : x + 512] += 1
    return summed / counts


@torch.no_grad()
def plain_probabilities(
    tensors: Tensors, ids: Tensor, image: np.ndarray, out_indices: Sequence[int], scales: Sequence[float]
) -> Tensor:
    """Probabilities (k, h, w) averaged over scales and horizontal flips."""
    h, w = image.shape[:2]
    total = torch.zeros(len(ids), h, w)
    for scale in scales:
        factor = min(int(2048 * scale) / max(h, w), int(512 * scale) / min(h, w))
        resized = resize_cv2_linear(image, (int(h * factor + 0.5), int(w * factor + 0.5)))
        for flip in (False, True):
            view = np.ascontiguousarray(resized[:, ::-1] if flip else resized)
            pixels = _normalised(torch.from_numpy(view).permute(2, 0, 1)[None])
            logits = _slide(tensors, ids, pixels, out_indices)
            full = F.interpolate(logits, size=(h, w), mode="bilinear", align_corners=False)[0].softmax(dim=0)
            total += full.flip(-1) if flip else full
    return total / (2 * len(scales))


def plain_mask(
    tensors: Tensors,
    ids: Tensor,
    image: np.ndarray,
    out_indices: Sequence[int],
    scales: Sequence[float],
    crf: str,
) -> np.ndarray:
    """Labels (h, w) after the CRF on the classes that win at some pixel."""
    probabilities = plain_probabilities(tensors, ids, image, out_indices, scales)
    keys = torch.unique(probabilities.argmax(dim=0))
    refined = dense_crf(probabilities[keys], image, CRF_SETTINGS[crf])
    return keys[refined.argmax(dim=0)].numpy().astype(np.uint8)
