"""Radio buttons that choose the view and the source of the masks; they work without scripts."""

from collections.abc import Sequence

from tagmask.report.text import escaped

__all__ = ["source_switch", "view_switch"]


def view_switch(name: str, legend: str) -> str:
    """Return the buttons for image, overlay and masks; the overlay is the default.

    Args:
        name: name of the radio group.
        legend: label of the group for screen readers.
    """
    views = ("image", "overlay", "masks")
    return _switch(name, legend, [(f"show-{view}", view, view.capitalize()) for view in views], 1)


def source_switch(name: str, legend: str, sources: Sequence[str]) -> str:
    """Return the buttons for the sources of the masks; the first is the default.

    Args:
        name: name of the radio group.
        legend: label of the group for screen readers.
        sources: in the order of the layers.
    """
    return _switch(name, legend, [(f"source-{i}", source, source) for i, source in enumerate(sources)], 0)


def _switch(name: str, legend: str, choices: Sequence[tuple[str, str, str]], checked: int) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="{name}" class="{kind}" value="{escaped(value)}"'
        f"{' checked' if i == checked else ''}>{escaped(text)}</label>"
        for i, (kind, value, text) in enumerate(choices)
    )
    return f'<fieldset class="switch"><legend>{escaped(legend)}</legend>{buttons}</fieldset>'
