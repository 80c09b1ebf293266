"""Connected components by flood fill, and their boxes, one by one."""

import numpy as np

EIGHT = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
FOUR = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def regions(strong, steps=EIGHT):
    """The cells (row, column) of each connected region of true cells."""
    h, w = strong.shape
    visited = np.zeros_like(strong)
    components = []
    for start in np.argwhere(strong):
        if visited[tuple(start)]:
            continue
        visited[tuple(start)] = True
        region, open_cells = [], [tuple(int(v) for v in start)]
        while open_cells:
            y, x = open_cells.pop()
            region.append((y, x))
            for dy, dx in steps:
                ny, nx = y + dy, x + dx
                if 0 <= ny < h and 0 <= nx < w and strong[ny, nx] and not visited[ny, nx]:
                    visited[ny, nx] = True
                    open_cells.append((ny, nx))
        components.append(region)
    return components


def outermost(strong):
    """Number of regions that do not lie in a hole of another region."""
    padded = np.pad(strong, 1)
    outside = next(cells for cells in regions(~padded, FOUR) if (0, 0) in cells)
    sea = set(outside)
    return sum(
        any((y + dy, x + dx) in sea for y, x in region for dy, dx in FOUR) for region in regions(padded)
    )


def strong_cells(scores, threshold):
    levels = np.trunc(scores.astype(np.float32) * np.float32(255)).astype(int)
    return levels > int(threshold * levels.max())


def boxes_union(strong, lose_border):
    h, w = strong.shape
    union = np.zeros_like(strong)
    for region in regions(strong):
        rows, columns = [y for y, _ in region], [x for _, x in region]
        bottom, right = max(rows) + 1, max(columns) + 1
        if lose_border:
            bottom, right = min(bottom, h - 1), min(right, w - 1)
        for y in range(min(rows), bottom):
            for x in range(min(columns), right):
                union[y, x] = True
    return union
