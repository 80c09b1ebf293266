"""TLP with dense matrices in float64: every edge of the grid in a loop, L written out, maps as vectors."""

import numpy as np


def softmax(x, axis):
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def similarity(texts):
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    raw = softmax(unit @ unit.T / 0.5, 1) + 10 * np.eye(len(texts))
    return raw / (raw.sum(axis=1, keepdims=True) + 1e-6)


def pooled(planes, grid):
    """Mean of each whole cell; Python's round is half to even."""
    down, across = (max(1, round(side / grid)) for side in planes.shape[1:])
    rows, columns = planes.shape[1] // down, planes.shape[2] // across
    cells = np.zeros((len(planes), rows, columns))
    for y in range(rows):
        for x in range(columns):
            block = planes[:, y * down : (y + 1) * down, x * across : (x + 1) * across]
            cells[:, y, x] = block.mean(axis=(1, 2))
    return cells


def system(cells, colours, texts, scale=1.0, text="diagonal"):
    """diag(rho), and the Laplacian L."""
    names, h, w = cells.shape
    s = similarity(texts)
    s = s if text == "full" else np.diag(np.diag(s))
    p = softmax(scale * cells, 0).reshape(names, -1)
    rho = np.array([max(q.max(), 0.05) ** 2 * (1 + min(max(q @ s @ q, 0), 1)) for q in p.T])
    grey = (0.299 * colours[0] + 0.587 * colours[1] + 0.114 * colours[2]).reshape(-1)
    laplacian = np.zeros((h * w, h * w))
    index = np.arange(h * w).reshape(h, w)
    for first, second in ((index[:, :-1], index[:, 1:]), (index[:-1], index[1:])):
        edges = list(zip(first.ravel(), second.ravel(), strict=True))
        mean = sum(abs(grey[i] - grey[j]) for i, j in edges) / max(len(edges), 1)
        for i, j in edges:
            boundary = np.exp(-5 * abs(grey[i] - grey[j]) / (mean + 1e-6))
            a = min(1, boundary * (1 + min(max(p[:, i] @ s @ p[:, j], 0), 1)))
            for one, other in ((i, j), (j, i)):
                laplacian[one, one] += a
                laplacian[one, other] -= a
    return np.diag(rho), laplacian


def propagate(cells, colours, texts, steps, scale=1.0, text="diagonal"):
    """`steps` conjugate-gradient steps from the scores, one step size for all names together."""
    rho, laplacian = system(cells, colours, texts, scale, text)
    z = cells.reshape(len(cells), -1).T
    matrix, f = rho + laplacian, z.copy()
    r = rho @ z - matrix @ f
    p = r.copy()
    for _ in range(steps):
        applied = matrix @ p
        rate = (r * r).sum() / ((p * applied).sum() + 1e-12)
        f = f + rate * p
        after = r - rate * applied
        p = after + (after * after).sum() / ((r * r).sum() + 1e-12) * p
        r = after
    return f.T.reshape(cells.shape)
