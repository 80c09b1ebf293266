"""What is shown, and what it was made by: rows of radio buttons, which need no script."""

from collections.abc import Sequence

from tagmask.report.text import escaped

__all__ = ["maker_switch", "view_switch"]


def view_switch(name: str, legend: str) -> str:
    """Picture, overlay or masks only; the overlay comes first.

    Args:
        name: of the group of buttons.
        legend: what the group is called to those who do not see it.
    """
    views = ("picture", "overlay", "masks")
    return _switch(name, legend, [(f"to-{view}", view, view.capitalize()) for view in views], 1)


def maker_switch(name: str, legend: str, makers: Sequence[str]) -> str:
    """Whose masks are shown; the first one's come first.

    Args:
        name: of the group of buttons.
        legend: what the group is called to those who do not see it.
        makers: in the order of the layers.
    """
    return _switch(name, legend, [(f"by-{i}", maker, maker) for i, maker in enumerate(makers)], 0)


def _switch(name: str, legend: str, choices: Sequence[tuple[str, str, str]], checked: int) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="{name}" class="{kind}" value="{escaped(value)}"'
        f"{' checked' if i == checked else ''}>{escaped(text)}</label>"
        for i, (kind, value, text) in enumerate(choices)
    )
    return f'<fieldset class="switch"><legend>{escaped(legend)}</legend>{buttons}</fieldset>'
