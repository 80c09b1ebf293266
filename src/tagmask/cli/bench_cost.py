"""`tagmask bench cost`: print what the rows of a table compute."""

import re
from collections.abc import Iterator

import typer

from tagmask.bench.catalogue import Cell, cells, protocol_of
from tagmask.bench.cost import Cost, recipe_cost, refinement_costs
from tagmask.cli.console import message
from tagmask.errors import InputError
from tagmask.settings.recipes import MaskRecipe
from tagmask.types import Size

__all__ = ["parse_size", "show_costs"]

_COUNTED = ("clip", "maskclip", "sclip")
"""Methods whose last block is counted as it is; see `bench.cost.window_macs`."""
_LARGEST_SIDE = 100_000


def parse_size(text: str) -> Size:
    """Parse HEIGHTxWIDTH.

    Raises:
        InputError: it is something else.

    Example:
        >>> parse_size("375x500")
        (375, 500)
    """
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*[xX]\s*([0-9]{1,6})\s*", text, re.ASCII)
    h, w = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (0 < h <= _LARGEST_SIDE and 0 < w <= _LARGEST_SIDE):
        raise InputError(f"Invalid --size {text!r}. Give HEIGHTxWIDTH in pixels, as in 375x500.")
    return h, w


def show_costs(pattern: str, size: Size) -> None:
    """Print the costs of every dense recipe whose table, row, column or name matches, with ViT-B/16.

    Raises:
        InputError: none matches.
    """
    rows = dict(_recipes(pattern))
    if not rows:
        raise InputError(
            f"No dense recipe matches {pattern!r}. See `tagmask bench list`, for example sclip-4."
        )
    costs = {name: recipe_cost(recipe, size) for name, recipe in rows.items()}
    message(f"an image of {size[0]} x {size[1]} pixels, ViT-B/16; 1 MAC is 2 FLOPs")
    typer.echo("| | scaled | windows | tokens | GMAC a window | GMAC an image | GFLOP an image |")
    typer.echo("|---|---|---|---|---|---|---|")
    for name, cost in costs.items():
        typer.echo(_line(name, cost))
    if others := sorted({recipe.method for recipe in rows.values()} - set(_COUNTED)):
        message(f"The last block of {', '.join(others)} is counted as CLIP's own.")
    refined = {
        (refined.maps, name, refined.macs, refined.memory)
        for recipe in rows.values()
        for name, refined in refinement_costs(recipe, size).items()
    }
    for maps, name, macs, memory in sorted(refined):
        message(f"--refine {name}, {maps} maps: {macs / 1e9:.2f} GMAC and {memory / 2**20:.0f} MiB more.")
    texts = {(cost.sentences, cost.text_macs) for cost in costs.values()}
    for sentences, macs in sorted(texts):
        message(f"Words: {sentences} sentences, {macs / 1e12:.1f} TMAC at full length, once; then cached.")


def _line(name: str, cost: Cost) -> str:
    window = f"{cost.windows} of {cost.window[0]} x {cost.window[1]}"
    return (
        f"| {name} | {cost.scaled[0]} x {cost.scaled[1]} | {window} | {cost.tokens} "
        f"| {cost.window_macs / 1e9:.2f} | {cost.image_macs / 1e9:.1f} | {2 * cost.image_macs / 1e9:.1f} |"
    )


def _recipes(pattern: str) -> Iterator[tuple[str, MaskRecipe]]:
    """Each matching recipe, by its row and name."""
    for cell in cells(pattern):
        protocol = protocol_of(cell)
        if protocol is not None and isinstance(protocol.recipe, MaskRecipe):
            yield _name(cell), protocol.recipe


def _name(cell: Cell) -> str:
    return f"{cell.row}: {' '.join([str(cell.recipe), *cell.settings])}"
