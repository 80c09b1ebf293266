"""The segmenter of a run, built again from what the run recorded."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tagmask.api import Segmenter
from tagmask.catalogue import method
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.runs.describe import segmenter_identity
from tagmask.runs.identity import differences
from tagmask.runs.reader import Run
from tagmask.settings.flat import recipe_of_flat
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe

__all__ = ["any_run_recipe", "run_recipe", "run_segmenter"]


def run_recipe(run: Run) -> MaskRecipe:
    """Return the recipe of a run of a dense method.

    Raises:
        InputError: as for `any_run_recipe`; or a run of a method that masks tags.
    """
    recipe = any_run_recipe(run)
    if not isinstance(recipe, MaskRecipe):
        raise InputError(
            f"{run.path} was made with {recipe.method}, which masks tags. Give a run of a dense method."
        )
    return recipe


def any_run_recipe(run: Run) -> MaskRecipe | TagFirstRecipe:
    """Return the recipe of a run of a CLIP and words.

    Raises:
        InputError: another kind of run, of a student or of given tags; or the run's settings cannot be read.
    """
    recorded = run.identity.fields
    settings = recorded.get("settings")
    if run.kind != "mask" or "student" in recorded or not isinstance(settings, Mapping):
        raise InputError(f"{run.path} is not a run of a CLIP and words. Give a run of `tagmask mask -w ...`.")
    if recorded.get("tags") is not None:
        raise InputError(
            f"{run.path} masks the tags of a file. Give a run that was made without --tags-file."
        )
    kind: type[MaskRecipe | TagFirstRecipe]
    kind = MaskRecipe if method(settings.get("method"), "masks").kind == "dense" else TagFirstRecipe
    names = {name: recorded.get(name) for name in ("words", "background")}
    try:
        return recipe_of_flat(
            {**settings, **names}, kind, lambda name, gives: method(name, gives).default_settings()
        )
    except InputError as error:
        raise InputError(f"{run.path} cannot be repeated: {error}") from error


def run_segmenter(run: Run, recipe: MaskRecipe | TagFirstRecipe, load: Callable[[], Clip]) -> Segmenter:
    """Return the segmenter that made a run, without a head.

    Args:
        run: the run.
        recipe: of `any_run_recipe`.
        load: loads the run's weights.

    Raises:
        InputError: the weights, or anything else that decides results, are not those of the run.
    """
    segmenter = Segmenter(load(), recipe=recipe)
    now = segmenter_identity(segmenter)
    before = {name: value for name, value in run.identity.fields.items() if name != "head"}
    differ = differences(replace(run.identity, fields=before), now)
    if differ:
        raise InputError(
            f"{run.path} cannot be repeated: {'; '.join(differ[:4])}. Give the same weights with --weights."
        )
    return segmenter
