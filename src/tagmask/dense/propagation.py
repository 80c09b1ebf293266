"""Text-guided Laplacian propagation (TLP) of an image's cosine maps, without full-size maps.

Pooling is linear and separable, like the steps that stitch the windows. So their two matrices are pooled
instead of the maps, and the maps are computed on the grid alone, whatever the size of the image.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.windows import resize_matrix
from tagmask.refine.tlp import TlpSettings, mean_of_rows, pooling_steps, propagate
from tagmask.types import TextFeatures

__all__ = ["propagate_maps"]


def propagate_maps(maps: CosineMaps, texts: TextFeatures, settings: TlpSettings) -> CosineMaps:
    """Return the maps after TLP: on its grid, with the bilinear resize to full size.

    A head's corrections are brought to the same grid, and not propagated. Pixels that depend on a window with
    NaN cosines count as 0 in their neighbours' scores and stay NaN.

    Args:
        maps: the cosines of one image.
        texts: features of the names, one per map.
        settings: of TLP.
    """
    height, width = maps.size
    down, across = pooling_steps(maps.size, settings.tlp_grid)
    matrices = mean_of_rows(maps.down, down), mean_of_rows(maps.across, across)
    cells = _on_grid(maps.cosines, *matrices)
    scaled_height, scaled_width = maps.pixels.shape[-2:]
    colours = _on_grid(
        maps.pixels,
        mean_of_rows(resize_matrix(scaled_height, height).to(maps.down), down),
        mean_of_rows(resize_matrix(scaled_width, width).to(maps.down), across),
    )
    refined = propagate(
        cells,
        colours,
        texts,
        steps=settings.tlp_steps,
        scale=settings.tlp_scale,
        text=settings.tlp_text,
    )
    return replace(
        maps,
        cosines=refined,
        down=resize_matrix(refined.shape[1], height).to(maps.down),
        across=resize_matrix(refined.shape[2], width).to(maps.down),
        corrections=None if maps.corrections is None else _on_grid(maps.corrections, *matrices),
    )


def _on_grid(
    maps: Float[Tensor, "q rows cols"], down: Float[Tensor, "gh rows"], across: Float[Tensor, "gw cols"]
) -> Float[Tensor, "q gh gw"]:
    return down @ maps @ across.T
