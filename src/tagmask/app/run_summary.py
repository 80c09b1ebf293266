"""What the page shows of a run as a whole."""

from collections.abc import Mapping

from tagmask.app.live import Live
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.errors import InputError
from tagmask.exporters import EXPORTERS, ExportOptions
from tagmask.masks import overlay_colours
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe

__all__ = ["export_formats", "summarise"]


def summarise(run: ReviewedRun, live: Live) -> dict[str, object]:
    """Return the run's words, counts and state, and what can be done with it."""
    counts = run.counts()
    fields = run.run.identity.fields
    settings = fields.get("settings")
    method = settings.get("method") if isinstance(settings, Mapping) else None
    recipe = live.recipe
    return {
        "name": run.path.resolve().name,
        "recipe": str(method or "student"),
        "method": str(method or "student"),
        "words": run.words,
        "word_lines": recipe.words if recipe else run.words[int(run.background) :],
        "background": run.background,
        "background_texts": recipe.background if recipe else (),
        "colors": overlay_colours(len(run.words)).tolist(),
        "ignore": run.classes.ignore_index,
        "counts": counts,
        "total": counts["all"] or None,
        "state": run.state(counts),
        "threshold": live.threshold,
        "refine": refiner(recipe),
        "live": {"possible": not live.impossible, "reason": live.reason},
        "seconds": live.seconds,
        "formats": export_formats(),
        "read_only": run.read_only,
    }


def export_formats() -> list[str]:
    """Names of the formats whose libraries are installed."""
    fitting = []
    for name, exporter in EXPORTERS.items():
        try:
            exporter.check(ExportOptions())
        except InputError:
            continue
        fitting.append(name)
    return fitting


def refiner(recipe: MaskRecipe | TagFirstRecipe | None) -> str:
    """Name of the refiner of a recipe; "none" without one."""
    if recipe is None:
        return "none"
    found = [
        name
        for name, on in (("crf", recipe.crf), ("pamr", recipe.pamr_steps), ("tlp", recipe.tlp_steps))
        if on
    ]
    return found[0] if found else "none"
