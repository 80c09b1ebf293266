"""The dense CRF by its definition: every pair of pixels, in float64."""

import numpy as np

__all__ = ["dense_crf"]


def dense_crf(planes, image, settings):
    """The exact result that `tagmask.refine.crf.dense_crf` approximates, for images up to about 40 x 40.

    Args:
        planes: (c, h, w).
        image: (h, w, 3).
        settings: a `CrfSettings`.
    """
    planes, image = np.asarray(planes, np.float64), np.asarray(image, np.float64)
    c, h, w = planes.shape
    places = np.array([(y, x) for y in range(h) for x in range(w)], np.float64)
    message = np.zeros((h * w, h * w))
    for weight, parts in (
        (settings.near_weight, [places / settings.near]),
        (settings.colour_weight, [places / settings.far, image.reshape(-1, 3) / settings.colour]),
    ):
        features = np.concatenate(parts, axis=1)
        kernel = np.exp(-0.5 * ((features[:, None] - features) ** 2).sum(-1))
        sums = kernel.sum(1)
        message += weight * kernel / np.sqrt(sums[:, None] * sums)
    belief = np.log(np.clip(planes.reshape(c, -1).T, settings.floor, 1))
    q = np.exp(belief) / np.exp(belief).sum(1, keepdims=True)
    for _ in range(settings.rounds):
        raised = belief + message @ q
        q = np.exp(raised - raised.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return q.T.reshape(c, h, w)
