"""Sliding-window inference step by step, on full-size arrays."""

import math

import torch
import torch.nn.functional as F


def window_starts(side, crop, stride):
    """Step until a window reaches the border; move that one back inside."""
    starts = [0]
    while starts[-1] + crop < side:
        starts.append(starts[-1] + stride)
    if starts[-1] + crop > side:
        starts[-1] = max(side - crop, 0)
    return starts


def resize_line(values, target):
    """Bilinear resize of a list, align_corners off, no antialias."""
    source = len(values)
    out = []
    for i in range(target):
        position = max((i + 0.5) * source / target - 0.5, 0.0)
        low = min(math.floor(position), source - 1)
        high = min(low + 1, source - 1)
        part = position - low
        out.append((1 - part) * values[low] + part * values[high])
    return out


def pad_to_patches(windows, patch):
    """Zero-pad (..., h, w) to whole patches; an odd number of lines has one more below and right."""
    h, w = windows.shape[-2:]
    high, wide = math.ceil(h / patch) * patch, math.ceil(w / patch) * patch
    out = torch.zeros(*windows.shape[:-2], high, wide)
    top, left = margins((h, w), (high, wide))
    out[..., top : top + h, left : left + w] = windows
    return out


def margins(size, padded):
    """Rows above and columns left of a padded window."""
    return (padded[0] - size[0]) // 2, (padded[1] - size[1]) // 2


def stitch(maps, boxes, canvas, target, padded=None):
    """maps (windows, q, gh, gw), boxes (x0, y0, x1, y1) -> (q, *target); `padded`: padded size, if any."""
    total = torch.zeros(maps.shape[1], *canvas)
    counts = torch.zeros(1, *canvas)
    for window, (x0, y0, x1, y1) in zip(maps, boxes, strict=True):
        size = (y1 - y0, x1 - x0)
        stretched = _bilinear(window, padded or size)
        top, left = margins(size, padded or size)
        total[:, y0:y1, x0:x1] += stretched[:, top : top + size[0], left : left + size[1]]
        counts[:, y0:y1, x0:x1] += 1
    return _bilinear(total / counts, target)


def _bilinear(maps, size):
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
