"""`tagmask maps`: draw the steps behind the tags or masks of an image."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask.cli.attention import picture_format
from tagmask.cli.console import message, print_path
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.images import read_image
from tagmask.pipelines.background_choice import with_chosen_background
from tagmask.pipelines.score_maps import cam_steps, tag_steps
from tagmask.report.score_maps import cam_sheet, tag_sheet
from tagmask.resolve import mask_recipe, tag_recipe
from tagmask.settings.recipes import Recipe, TagFirstRecipe, TagRecipe

__all__ = ["MapRequest", "draw_maps"]

_MOST_ROWS = 6
"""Most words that are all drawn; of more, only the tags are."""


@dataclass(frozen=True, kw_only=True)
class MapRequest:
    """What to draw."""

    source: Path
    masks: bool
    """CLIP-ES's steps, not TagCLIP's."""
    words: Sequence[str] | None
    """Class lines; None for the recipe's."""
    only: Sequence[str]
    """The words to draw; empty for the tags."""
    recipe: str | None
    background: Sequence[str] | None
    as_: str | None
    out: Path

    def resolve(self, known_background: tuple[str, ...] = ()) -> TagRecipe | TagFirstRecipe:
        """Return the recipe.

        Raises:
            InputError: no words, or a recipe of another method.
        """
        names = (self.recipe, self.words, self.background, self.as_)
        if not self.masks:
            return tag_recipe(*names, known_background=known_background)
        overrides = {} if self.recipe else {"method": "cls-seg"}
        found = mask_recipe(*names, overrides, known_background)
        if isinstance(found, TagFirstRecipe):
            return found
        raise InputError(f"{found.name} masks without tags. Give a recipe such as cls-seg/voc2012.")


def draw_maps(request: MapRequest, load_clip: Callable[[], Clip]) -> None:
    """Draw the steps, and write the picture. Everything is validated before the weights are loaded.

    Raises:
        ImageError: the image cannot be read.
        InputError: no words, a word to draw that is not among them, a recipe of another method, or an
            unsupported file suffix.
    """
    kind = picture_format(request.out)
    only = _indices(request.only, request.resolve())
    image = read_image(request.source)
    if request.out.exists() and request.out.samefile(request.source):
        raise InputError(f"--out {request.out} is the input image. Give another file.")
    clip = load_clip()
    recipe = with_chosen_background(clip, request.resolve(clip.background), request.background)
    if isinstance(recipe, TagFirstRecipe):
        sheet = cam_sheet(image, cam_steps(clip, recipe, image, only))
    else:
        steps = tag_steps(clip, recipe, image)
        rows = only or (range(len(steps.words)) if len(steps.words) <= _MOST_ROWS else steps.chosen)
        if len(rows) < len(steps.words) and not only:
            message(f"drawing the {len(rows)} tags of {len(steps.words)} words; --only WORD draws others")
        sheet = tag_sheet(image, steps, rows)
    file = io.BytesIO()
    sheet.save(file, kind)
    write_bytes(request.out, file.getvalue())
    print_path(request.out)


def _indices(words: Sequence[str], recipe: Recipe) -> list[int] | None:
    """The classes of words, by their first names; None if there are no words."""
    if not words:
        if recipe.needs_tags:
            raise InputError(f"{recipe.name} masks given tags. Give them: --only WORD.")
        return None
    known = [line.split(", ")[0] for line in recipe.words]
    if unknown := [word for word in words if word not in known]:
        raise InputError(f"--only {unknown[0]!r} is not among the words. They are {', '.join(known[:20])}.")
    return [known.index(word) for word in dict.fromkeys(words)]
