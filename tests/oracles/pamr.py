"""PAMR with a loop per pixel, neighbour and channel, in Python floats."""

import math
import statistics


def pamr(maps, guide, steps, dilations):
    """maps and guide: nested lists [channel][row][column] -> refined maps."""
    h, w = len(guide[0]), len(guide[0][0])
    offsets = [(dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    around = [offset for offset in offsets if offset != (0, 0)]

    def at(plane, y, x):
        return plane[min(max(y, 0), h - 1)][min(max(x, 0), w - 1)]

    def weights_of(y, x):
        logits = [0.0] * len(around)
        for plane in guide:
            deviation = statistics.stdev(at(plane, y + dy, x + dx) for dy, dx in offsets)
            for n, (dy, dx) in enumerate(around):
                distance = abs(plane[y][x] - at(plane, y + dy, x + dx))
                logits[n] -= distance / (1e-8 + 0.1 * deviation) / len(guide)
        parts = [math.exp(value - max(logits)) for value in logits]
        return [part / sum(parts) for part in parts]

    weights = [[weights_of(y, x) for x in range(w)] for y in range(h)]
    for _ in range(steps):
        maps = [
            [
                [
                    sum(
                        weight * at(plane, y + dy, x + dx)
                        for weight, (dy, dx) in zip(weights[y][x], around, strict=True)
                    )
                    for x in range(w)
                ]
                for y in range(h)
            ]
            for plane in maps
        ]
    return maps
