"""WeakCLIP as a straightforward program trains it and makes masks with it.

Everything requires gradients, the image tower too; texts are encoded for every step and for every window; all
layers of the co-attention are computed, though most have no effect; scores are resized and laid beside each
level of the pyramid at full width; the CRF of the loss takes one image after another; windows go through
one at a time and are added and counted at full size. Autograd's anomaly detection is on in training, as in
the authors' program. Left out is a matrix of nearest neighbours, which that program computes in each step
and drops.

Written from the definitions alone. `tensors` have the authors' names
(`weak.model_file.published_tensors`). The field of `tagmask.refine.crf` is taken as it is.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain_clip import Tensors, norm, qkv
from tagmask.dense.resize import resize_cv2_linear
from tagmask.refine.crf import CRF_SETTINGS, dense_crf

__all__ = ["plain_look", "plain_losses", "plain_mask", "plain_probabilities", "plain_step", "trained"]

IGNORE = 255
HEADS = 4
"""Of the co-attention."""
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def trained(tensors: Tensors) -> dict[str, Tensor]:
    """Copies that all require gradients, but for the norms' counters and running values."""
    return {
        name: tensor.clone().requires_grad_("running" not in name and tensor.is_floating_point())
        for name, tensor in tensors.items()
    }


# -- The towers ----------------------------------------------------------------------------------------------


def _kept(branch: Tensor, chance: float) -> Tensor:
    """Stochastic depth as coded: whole positions, for all images."""
    if chance == 0:
        return branch
    drawn = torch.rand(1, branch.shape[1], 1) >= chance
    return branch * drawn / (1 - chance)


def _block(tensors: Tensors, block: str, x: Tensor, mask: Tensor | None, chance: float) -> Tensor:
    q, k, v = qkv(tensors, block, norm(tensors, f"{block}.ln_1", x))
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(logits if mask is None else logits + mask, dim=-1)
    mixed = (weights @ v).transpose(-3, -2).flatten(-2)
    x = x + _kept(_linear(tensors, f"{block}.attn.out_proj", mixed), chance)
    u = _linear(tensors, f"{block}.mlp.c_fc", norm(tensors, f"{block}.ln_2", x))
    return x + _kept(_linear(tensors, f"{block}.mlp.c_proj", u * torch.sigmoid(1.702 * u)), chance)


def _linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def _blocks(tensors: Tensors, tower: str) -> list[str]:
    count = sum(name.startswith(tower) and name.endswith("attn.in_proj_weight") for name in tensors)
    return [f"{tower}.transformer.resblocks.{layer}" for layer in range(count)]


def _image_tower(
    tensors: Tensors, pixels: Tensor, taps: Sequence[int], drop: float
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
    return [maps[tap] for tap in taps], memory


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
    own = norm(tensors, f"{name}.norm1", x)
    x = x + _attend(tensors, f"{name}.self_attn", own, own, dropout)
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
    for layer in range(layers):  # each from the start again: the last one's result is what remains
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
    beside = [
        torch.cat([x, F.interpolate(scores, size=x.shape[2:], mode="bilinear", align_corners=True)], dim=1)
        for x in levels
    ]
    x = [_conv(tensors, f"neck.lateral_convs.{i}.conv", level) for i, level in enumerate(beside)]
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


def plain_look(
    tensors: Tensors,
    ids: Tensor,
    pixels: Tensor,
    taps: Sequence[int],
    *,
    training: bool = False,
    dropout: float = 0.0,
    drop: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Logits (b, k, h/4, w/4) and scores (b, k, h/16, w/16) of normalised pixels."""
    maps, memory = _image_tower(tensors, pixels, taps, drop)
    texts = _texts(tensors, ids).expand(len(pixels), -1, -1)
    texts, memory = _match(tensors, texts, memory, dropout)
    seen = memory[:, 1:] / memory[:, 1:].norm(dim=-1, keepdim=True)
    asked = texts / texts.norm(dim=-1, keepdim=True)
    scores = (asked @ seen.transpose(1, 2)).reshape(len(pixels), len(ids), *maps[0].shape[2:])
    levels = _pyramid(tensors, maps, training)
    return _decode(tensors, levels, scores, training, dropout), scores


# -- Training ------------------------------------------------------------------------------------------------


def plain_losses(logits: Tensor, scores: Tensor, labels: Tensor, images: Tensor, size: int) -> Tensor:
    """Weighted sum of the three; labels (b, h, w), images (b, 3, h, w) of bytes."""
    small = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
    p = small.softmax(dim=1) + 1e-7
    p = p / p.sum(dim=1, keepdim=True)
    nearest = F.interpolate(labels[:, None].float(), size=(size, size), mode="nearest")[:, 0].long()
    hot = torch.stack([(nearest == c).float() for c in range(logits.shape[1])], dim=1)
    each = -(hot * p.log()).sum(dim=(2, 3))
    areas = hot.sum(dim=(2, 3))
    behind = each[:, 0] / areas[:, 0].clamp(min=1e-4)
    before = each[:, 1:].sum(dim=1) / areas[:, 1:].sum(dim=1).clamp(min=1e-4)
    seed = (behind + before).mean()
    shown = F.interpolate(images.float(), size=(size, size), mode="bilinear", align_corners=True) + 1e-3
    targets = []
    for one, image in zip(p.detach(), shown.clamp(max=255).to(torch.uint8), strict=True):
        q = dense_crf(one.clone(), image.permute(1, 2, 0).numpy(), CRF_SETTINGS["weakclip/loss"])
        q = q.clamp(min=1e-4)
        targets.append(q / q.sum(dim=0))
    q = torch.stack(targets)
    crf = (q * (q / p).clamp(0.05, 20).log()).sum(dim=1).mean()
    full = F.interpolate(scores / 0.07, size=labels.shape[1:], mode="bilinear", align_corners=False)
    contrast = F.cross_entropy(full, labels.long(), ignore_index=IGNORE, reduction="none").mean()
    return seed + crf + 0.4 * contrast


def plain_step(
    tensors: Tensors,
    ids: Tensor,
    images: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    taps: Sequence[int],
) -> Tensor:
    """One step on a batch of crops (b, 3, h, w) of bytes; the loss."""
    with torch.autograd.set_detect_anomaly(True):
        logits, scores = plain_look(
            tensors, ids, _normalised(images), taps, training=True, dropout=0.1, drop=0.1
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


def _slide(tensors: Tensors, ids: Tensor, pixels: Tensor, taps: Sequence[int]) -> Tensor:
    _, _, h, w = pixels.shape
    summed, counts = torch.zeros(1, len(ids), h, w), torch.zeros(1, 1, h, w)
    for y in _starts(h, 512, 341):
        for x in _starts(w, 512, 341):
            window = pixels[:, :, y : y + 512, x : x + 512]
            logits, _ = plain_look(tensors, ids, window, taps)
            up = F.interpolate(logits, size=window.shape[2:], mode="bilinear", align_corners=False)
            summed[:, :, y : y + 512, x : x + 512] += up
            counts[:, :, y : y + 512, x : x + 512] += 1
    return summed / counts


@torch.no_grad()
def plain_probabilities(
    tensors: Tensors, ids: Tensor, image: np.ndarray, taps: Sequence[int], scales: Sequence[float]
) -> Tensor:
    """Averaged over sizes and mirror images, (k, h, w)."""
    h, w = image.shape[:2]
    total = torch.zeros(len(ids), h, w)
    for scale in scales:
        factor = min(int(2048 * scale) / max(h, w), int(512 * scale) / min(h, w))
        resized = resize_cv2_linear(image, (int(h * factor + 0.5), int(w * factor + 0.5)))
        for mirrored in (False, True):
            shown = np.ascontiguousarray(resized[:, ::-1] if mirrored else resized)
            pixels = _normalised(torch.from_numpy(shown).permute(2, 0, 1)[None])
            logits = _slide(tensors, ids, pixels, taps)
            full = F.interpolate(logits, size=(h, w), mode="bilinear", align_corners=False)[0].softmax(dim=0)
            total += full.flip(-1) if mirrored else full
    return total / (2 * len(scales))


def plain_mask(
    tensors: Tensors, ids: Tensor, image: np.ndarray, taps: Sequence[int], scales: Sequence[float], field: str
) -> np.ndarray:
    """Labels (h, w) after the field on the classes that win somewhere."""
    probabilities = plain_probabilities(tensors, ids, image, taps, scales)
    keys = torch.unique(probabilities.argmax(dim=0))
    refined = dense_crf(probabilities[keys], image, CRF_SETTINGS[field])
    return keys[refined.argmax(dim=0)].numpy().astype(np.uint8)
