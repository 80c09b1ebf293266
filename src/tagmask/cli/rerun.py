"""`tagmask rerun`: a run's images, masked again with other words or settings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tagmask.api import Segmenter
from tagmask.cli.improve import checked_masks, listed_images, mask_again
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.pipelines.head import HEAD_FILE, read_head
from tagmask.runs.reader import Run
from tagmask.runs.recipe import any_run_recipe, run_segmenter

__all__ = ["repeat_run"]


def repeat_run(
    path: Path,
    out: Path,
    load: Callable[[Run], Clip],
    *,
    words: Sequence[str] | None,
    background: Sequence[str] | None,
    settings: dict[str, Any],
    overlays: bool = True,
    workers: int = 1,
) -> int:
    """Mask all images of a run again.

    A head of the run, and masks that a person checked, stay where the words stay.

    Args:
        path: the run.
        out: folder of the new run.
        load: loads the weights of a run.
        words: one text per class; None: the run's.
        background: background texts; None: the run's.
        settings: of the recipe, which replace the run's.
        overlays: draw the new masks over the images.
        workers: images masked at once.

    Returns:
        Number of images that could not be masked.

    Raises:
        InputError: a run that cannot be repeated, unusable words or settings, or `out` holds something else.
    """
    with Run(path) as run:
        recipe = any_run_recipe(run)
        if run.identity.fields.get("proposals") is not None:
            raise InputError(f"{path} was made with regions of another program. Give its own command again.")
        rows = [row for row in run if row.status != "failed" or row.source.exists()]
        segmenter = run_segmenter(run, recipe, lambda: load(run))
        again = Segmenter(segmenter.clip, words, recipe=recipe, background=background, **settings)
        same = (again.recipe.words, again.recipe.background) == (recipe.words, recipe.background)
        if same and run.identity.fields.get("head") is not None:
            again = Segmenter(segmenter.clip, recipe=again.recipe, head=read_head(path / HEAD_FILE))
        checked = list(checked_masks(run, rows, None)) if same else []
    return mask_again(again, listed_images(rows), out, checked, overlays=overlays, workers=workers)
