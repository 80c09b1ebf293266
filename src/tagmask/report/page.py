"""The page: a header with the facts, then a sheet of sights."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np

from tagmask.masks import overlay_colours
from tagmask.report.attention import AttentionExample, attention_section
from tagmask.report.card import card
from tagmask.report.curves import Curves, curve_charts
from tagmask.report.item import ReportItem, made
from tagmask.report.switches import maker_switch, view_switch
from tagmask.report.text import escaped

__all__ = ["render"]


def render(
    title: str,
    lead: str,
    sights: Sequence[ReportItem],
    metadata: Mapping[str, str],
    *,
    looks: Sequence[tuple[str, str, AttentionExample]] = (),
    charts: Sequence[Curves] = (),
) -> str:
    """A page that shows pictures and what was found in them, whole in itself.

    Pictures are written into the page, at most 800 pixels long, and regions as outlines, so that the page
    fetches nothing and may be sent as one file; its content security policy forbids it to. Colours are
    those of `Segmentation.overlay`. The same arguments give the same text.

    Args:
        title: its heading, and the name of the window.
        lead: a sentence or two below the title.
        sights: the pictures, in the order in which they are shown. What they show is not changed.
        metadata: what the reader may want to know of the run, e.g. {"weights": "...", "time": "3.2 s"}; the
            value of "command" is set as code.
        looks: shown below the pictures, each with a title and a sentence or two.
        charts: how numbers went over time, shown above the pictures.

    Returns:
        HTML; write it as UTF-8.

    Raises:
        ShapeError: labels that are not of their picture's size, not one score per word, or not one value per
            place of a chart.
        InputError: a label without a word.
    """
    counts = [len({w for _, s in made(sight) for w in s.words}) for sight in sights]
    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in overlay_colours(max(counts, default=0) or 1)]
    frame = _frame(sights)
    cards = "".join(card(i, sight, colours, frame) for i, sight in enumerate(sights))
    makers = list(dict.fromkeys(by for sight in sights for by, _ in made(sight)))
    attention = "".join(attention_section(look, name, said) for name, said, look in looks)
    script = _part("page.js")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)}</title>\n"
        f"<style>\n{_part('style.css')}{_choices(sights)}.sheet{{--frame:{frame:.4f}}}\n</style>\n</head>\n"
        f'<body>\n<header class="top"><h1>{escaped(title)}</h1>\n<p class="lead">{escaped(lead)}</p>\n'
        f"{_metadata_list(metadata)}</header>\n{curve_charts(charts)}{_for_all(makers) if len(sights) > 1 else ''}"
        f'<main>\n<div class="sheet">\n{cards}</div>\n{attention}</main>\n'
        '<footer class="foot"><p>Shares count pixels. Scores are compared within one picture. '
        "This page is one file and fetches nothing.</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _part(name: str) -> str:
    return files("tagmask.report").joinpath(name).read_text("utf-8")


def _policy(script: str) -> str:
    """Nothing may be fetched, and no script may run but the page's own, even if a name smuggled one in."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _frame(sights: Sequence[ReportItem]) -> float:
    """Width over height of the frames: the pictures' median, neither tall nor panoramic."""
    ratios = [sight.image.shape[1] / max(sight.image.shape[0], 1) for sight in sights] or [4 / 3]
    return float(np.clip(np.median(ratios), 0.8, 1.8))


def _choices(sights: Sequence[ReportItem]) -> str:
    """Style that shows what a sight's second, third... radio button stands for."""
    most = max((len(made(sight)) for sight in sights), default=0)
    return "".join(
        f".sight:has(.by-{i}:checked) .of:not(.of-{i}){{display:none}}"
        f".sight:has(.by-{i}:checked) .of-{i}{{display:block}}\n"
        for i in range(1, most)
    )


def _metadata_list(metadata: Mapping[str, str]) -> str:
    def value(name: str, text: str) -> str:
        return f"<code>{escaped(text)}</code>" if name == "command" else escaped(text)

    pairs = "".join(f"<div><dt>{escaped(k)}</dt><dd>{value(k, v)}</dd></div>" for k, v in metadata.items())
    return f'<dl class="facts">{pairs}</dl>\n' if pairs else ""


def _for_all(makers: Sequence[str]) -> str:
    """Switches for all sights at once. They need the script, which uncovers them."""
    if not makers:
        return ""
    return (
        '<div class="all switches" hidden><span>All pictures</span>'
        f"{view_switch('view-all', 'View of all pictures')}"
        f"{maker_switch('by-all', 'Masks of all pictures by', makers)}</div>\n"
    )
