"""What a dense recipe computes: windows, tokens, multiplications. Counted from sizes; nothing is run.

A MAC is one multiplication with its addition, that is two floating-point operations (FLOPs). Counted are the
matrix products of both towers and of the cosines; norms, softmax and resizing are not. Refinement is counted
by itself.
"""

from dataclasses import dataclass

from tagmask.clip.state_dict import Geometry
from tagmask.dense.prompts import split_names
from tagmask.dense.resize import short_side_size
from tagmask.dense.windows import plan_windows, single_window
from tagmask.refine.tlp import pooling_steps
from tagmask.settings.recipes import MaskRecipe
from tagmask.settings.refinement import REFINERS
from tagmask.types import Size
from tagmask.variants.sclip import SclipSettings

__all__ = [
    "VIT_B16",
    "Cost",
    "Refinement",
    "recipe_cost",
    "refinement_costs",
    "sentence_macs",
    "window_macs",
]

VIT_B16 = Geometry(
    vision_width=768,
    vision_layers=12,
    vision_heads=12,
    patch=16,
    grid=14,
    embed=512,
    text_width=512,
    text_layers=12,
    text_heads=8,
    vocab=49408,
    context=77,
)
"""The sizes of CLIP's ViT-B/16."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one image costs with a recipe."""

    scaled: Size
    """(h, w) of the scaled image, in pixels."""
    windows: int
    window: Size
    """(h, w) of a window, in pixels."""
    tokens: int
    """Of a window: its patches and the class token."""
    window_macs: int
    sentences: int
    """Prompts of all names; encoded once for all images, then cached."""
    text_macs: int
    """Of all sentences at their full length; tagmask cuts them to the longest in a batch."""

    @property
    def image_macs(self) -> int:
        """Of all windows of an image."""
        return self.windows * self.window_macs


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """What refining one image's maps costs."""

    maps: int
    """One per name."""
    macs: int
    memory: int
    """Bytes in addition to a strip of full-size maps."""


_TLP_MACS, _TLP_GRIDS = 10, 8
"""Of a step of TLP, per name and cell; and its arrays of the size of the maps on the grid."""


def refinement_costs(recipe: MaskRecipe, size: Size) -> dict[str, Refinement]:
    """Count what PAMR and TLP would cost on an image of (h, w) pixels, each with its usual steps.

    The cost of the dense CRF depends on the image's colours, and cannot be counted from sizes.
    """
    maps = len(split_names(recipe.words).texts) + len(recipe.background)
    pixels = size[0] * size[1]
    steps = {name: int(str(REFINERS[name][f"{name}_steps"])) for name in ("pamr", "tlp")}
    neighbours = 8 * len(recipe.pamr_dilations)
    down, across = pooling_steps(size, recipe.tlp_grid)
    cells = (size[0] // down) * (size[1] // across)
    return {
        "pamr": Refinement(
            maps=maps,
            macs=steps["pamr"] * maps * neighbours * pixels,
            memory=8 * neighbours * pixels,  # a weight and an index, each of 4 bytes
        ),
        "tlp": Refinement(
            maps=maps,
            macs=steps["tlp"] * maps * _TLP_MACS * cells,
            memory=4 * _TLP_GRIDS * maps * cells,
        ),
    }


def recipe_cost(recipe: MaskRecipe, size: Size, geometry: Geometry = VIT_B16) -> Cost:
    """Count what an image of (h, w) pixels costs.

    Args:
        recipe: a dense recipe; its windows are counted as for `join="maps"`.
        size: of the image, in pixels.
        geometry: the sizes of the weights.
    """
    if recipe.short_side is None:  # the image's own size, in whole patches
        height, width = (-(-side // geometry.patch) * geometry.patch for side in size)
        scaled = height, width
    else:
        scaled = short_side_size(size, recipe.short_side)
    plan = single_window(scaled) if recipe.crop is None else plan_windows(scaled, recipe.crop, recipe.stride)
    rounding = geometry.patch - 1 if recipe.pad_windows else 0
    rows, columns = ((side + rounding) // geometry.patch for side in (plan.height, plan.width))
    names = len(split_names(recipe.words).texts) + len(recipe.background)
    sentences = names * len(recipe.templates)
    return Cost(
        scaled=scaled,
        windows=len(plan),
        window=(plan.height, plan.width),
        tokens=rows * columns + 1,
        window_macs=window_macs(recipe, rows * columns, names, geometry),
        sentences=sentences,
        text_macs=sentences * sentence_macs(geometry),
    )


def window_macs(recipe: MaskRecipe, patches: int, names: int, geometry: Geometry = VIT_B16) -> int:
    """MACs of one window under a recipe's method.

    Exact for `clip`, `maskclip` and `sclip`. The last block of other methods is counted as CLIP's own.
    """
    n, d = patches + 1, geometry.vision_width
    embed = patches * 3 * geometry.patch**2 * d
    project = patches * d * geometry.embed + patches * geometry.embed * names
    blocks = geometry.vision_layers * _block_macs(n, d)
    if recipe.method == "maskclip":  # no queries, no keys, no attention
        blocks -= 2 * n * d**2 + 2 * n**2 * d
    if isinstance(recipe.variant, SclipSettings):
        # A second product of tokens; blocks before the last run once more, after the common trunk.
        blocks += recipe.variant.last_blocks * n**2 * d + (recipe.variant.last_blocks - 1) * _block_macs(n, d)
    return embed + blocks + project


def sentence_macs(geometry: Geometry = VIT_B16) -> int:
    """MACs of one sentence of the text tower's full length."""
    d = geometry.text_width
    return geometry.text_layers * _block_macs(geometry.context, d) + d * geometry.embed


def _block_macs(n: int, d: int) -> int:
    """Of a transformer block: four projections and an MLP of four times the width; two n x n products."""
    return 12 * n * d**2 + 2 * n**2 * d
