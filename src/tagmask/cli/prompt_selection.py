"""`tagmask prompts select`: rank prompt templates on images, print and write the best."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import typer

from tagmask.cli.console import message, report_failure, show, with_progress
from tagmask.cli.mask import require_tags_file
from tagmask.cli.tag_output import print_json
from tagmask.clip.load import Clip
from tagmask.errors import ImageError, InputError, TagmaskError
from tagmask.files import ensure_folder, write_bytes
from tagmask.images import read_image
from tagmask.pipelines.background_choice import with_chosen_background
from tagmask.pipelines.prompt_selection import (
    ImageSharpness,
    PromptSelection,
    RankedTemplate,
    default_candidates,
)
from tagmask.pipelines.warnings import warn_unknown_words
from tagmask.resolve import mask_recipe
from tagmask.runs.failures import reason_of
from tagmask.runs.ordered_map import ordered_map
from tagmask.runs.ownership import leave_out_outputs
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import check_tags, read_tags, tags_of
from tagmask.settings.recipes import TagFirstRecipe

__all__ = ["Ranking", "print_ranking", "select_prompts", "tag_first_recipe"]

_WIDTH = 80
"""Columns of a terminal."""


@dataclass(frozen=True)
class Ranking:
    """Templates, the best first, and what they were measured on."""

    templates: Sequence[RankedTemplate]
    images: int
    """Images of two or more tags."""
    failed: int
    """Images that could not be processed."""


def tag_first_recipe(
    name: str | None,
    words: list[str] | None,
    background: Sequence[str] | None,
    tags_file: Path | None,
    known_background: tuple[str, ...] = (),
) -> TagFirstRecipe:
    """Resolve the recipe that gives words, background and tagger: CLS-SEG's for own words.

    Raises:
        InputError: invalid words, a recipe that does not mask tags, or one that needs a tags file.
    """
    settings = {} if name else {"method": "cls-seg"}
    recipe = mask_recipe(name, words, background, None, settings, () if name else known_background)
    if not isinstance(recipe, TagFirstRecipe):
        raise InputError(
            f"{recipe.name} does not mask tags, which sharpness is about. Give a cls-seg/ or clip-es/ recipe."
        )
    require_tags_file(recipe, tags_file)
    return recipe


def select_prompts(
    images: list[FoundImage],
    load: Callable[[], Clip],
    recipe_for: Callable[[tuple[str, ...]], TagFirstRecipe],
    candidates: Sequence[str] | None,
    *,
    background: object = None,
    tags_file: Path | None,
    output: Path | None,
    keep: int,
) -> Ranking:
    """Measure the candidates on all images, and write the best ones.

    Args:
        images: the full listing; outputs of runs among them are left out.
        load: loads the weights; called after the cheap checks.
        recipe_for: the recipe, given the weights' background words.
        candidates: templates; None for the default ones.
        background: as the user gave it; "auto" for one that is chosen for the words.
        tags_file: tags of the images; None: the recipe's tagger finds them.
        output: file to write; None: nothing is written.
        keep: how many templates to write.

    Raises:
        InputError: no image has two tags, or the tags do not fit the images.
        OutputError: the file cannot be written.
    """
    images = leave_out_outputs(images, None)
    tags = None if tags_file is None else read_tags(tags_file, len(recipe_for(()).words))
    if tags is not None:
        check_tags(images, tags)
    if output is not None:
        ensure_folder(output.parent)
    clip = load()
    recipe = with_chosen_background(clip, recipe_for(clip.background), background)
    selection = PromptSelection(clip, recipe, candidates or default_candidates())
    warn_unknown_words(clip, (*selection.recipe.words, *selection.recipe.background))

    def work(image: FoundImage) -> ImageSharpness:
        try:
            return selection.measure(read_image(image.path), None if tags is None else tags_of(image, tags))
        except (TagmaskError, MemoryError):
            raise
        except Exception as error:  # an image must not end the run
            raise ImageError(reason_of(error)) from error

    total = torch.zeros(len(selection.templates), dtype=torch.float64)
    counts = Counter[str]()
    outcomes = ordered_map(images, work)
    for outcome in with_progress(outcomes, len(images), failures=lambda: counts["failed"]):
        if outcome.result is None:
            counts["failed"] += 1
            report_failure(outcome.item.path, outcome.reason)
        elif outcome.result.sharpness is not None:
            counts["compared"] += 1
            total += outcome.result.sharpness
    compared, failed = counts["compared"], counts["failed"]
    if not compared:
        raise InputError(
            f"No image of {len(images)} has two tags, which sharpness compares. Give other images or words."
        )
    lost = f", {failed} failed" if failed else ""
    message(f"{compared} of {len(images)} images have two or more tags{lost}")
    ranking = Ranking(selection.ranked(total), compared, failed)
    if output is not None:
        best = [each.template for each in ranking.templates[:keep]]
        write_bytes(output, "".join(f"{template}\n" for template in best).encode())
        message(f"written to {output}")
    return ranking


def print_ranking(ranking: Ranking, *, top: int | None, as_json: bool) -> None:
    """Print the best templates: a table of at most 80 columns, or JSON lines."""
    if not as_json:
        show(f"{'rank':>4}  {'sharpness':>10}  template")
    for rank, each in enumerate(ranking.templates[:top], start=1):
        if as_json:
            record = {
                "rank": rank,
                "template": each.template,
                "sharpness": each.sharpness,
                "images": ranking.images,
            }
            typer.echo(print_json(record))
        else:
            row = f"{rank:>4}  {each.sharpness:>10.4f}  {each.template}"
            show(row if len(row) <= _WIDTH else f"{row[: _WIDTH - 1]}…")
