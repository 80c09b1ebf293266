"""OpenCV's fixed-point bilinear resize, one value at a time."""

import math

import numpy as np


def _at(index, source, target):
    """(lower sample, weight of the next sample), in float32 as in OpenCV."""
    scale = 1.0 / (target / source)
    position = np.float32((index + 0.5) * scale - 0.5)
    low = math.floor(position)
    return low, np.float32(position - np.float32(low))


def _weights(part):
    return round(float((np.float32(1) - part) * np.float32(2048))), round(float(part * np.float32(2048)))


def resize(image, size):
    h, w, channels = image.shape
    if (h, w) == (2 * size[0], 2 * size[1]):
        return _halve(image, size)
    out = np.empty((*size, channels), np.uint8)
    for y in range(size[0]):
        top, part_y = _at(y, h, size[0])
        a_y, b_y = _weights(part_y)
        rows = [image[min(max(row, 0), h - 1)] for row in (top, top + 1)]
        for x in range(size[1]):
            left, part_x = _at(x, w, size[1])
            if left < 0 or left >= w - 1:
                part_x = np.float32(0)
            a_x, b_x = _weights(part_x)
            left = min(max(left, 0), w - 1)
            right = min(left + 1, w - 1)
            for c in range(channels):
                upper, lower = (a_x * int(row[left, c]) + b_x * int(row[right, c]) for row in rows)
                total = ((a_y * (upper >> 4)) >> 16) + ((b_y * (lower >> 4)) >> 16)
                out[y, x, c] = (total + 2) >> 2
    return out


def _halve(image, size):
    out = np.empty((*size, image.shape[2]), np.uint8)
    for y, x, c in np.ndindex(out.shape):
        block = image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, c]
        out[y, x, c] = (int(block.sum()) + 2) // 4
    return out
