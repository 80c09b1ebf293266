"""A sight as HTML: the picture, what lies over it, and what was measured."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from tagmask.errors import ShapeError
from tagmask.report.bars import tag_bars
from tagmask.report.heatmap import heat_strip
from tagmask.report.item import Layer, ReportItem, layers, sampled
from tagmask.report.label_placement import places
from tagmask.report.outlines import path_data
from tagmask.report.switches import maker_switch, view_switch
from tagmask.report.text import data_uri, escaped, share

__all__ = ["card"]

_PICTURE, _OUTLINE = 800, 480
"""Longest sides, in pixels, at which a picture is shown and its regions are outlined."""
_LEGEND = 12
"""Entries of a legend before the rest is folded."""


def card(number: int, sight: ReportItem, colours: Sequence[str], frame: float) -> str:
    """One sight.

    Args:
        number: distinguishes its controls from those of other sights.
        sight: the picture and what was found in it.
        colours: of words, `#rrggbb`, at least as many as the sight has.
        frame: width over height of the frame that all pictures share.

    Raises:
        ShapeError: labels that are not of the picture's size, or not one score per word.
        InputError: a label without a word.
    """
    words, made = layers(sight)
    h, w = sight.image.shape[:2]
    if not sight.image.size:
        raise ShapeError(
            f"{sight.name}: a picture needs at least one pixel; it has shape {sight.image.shape}."
        )
    slots = {word: slot for slot, word in enumerate(words)}
    width = min(1.0, (w / h) / frame)
    over = "".join(_over(i, layer, words, colours) for i, layer in enumerate(made))
    below = "".join(_legend(i, layer, words, colours) for i, layer in enumerate(made))
    note = f'<p class="note">{escaped(sight.note)}</p>' if sight.note else ""
    switches = ""
    if made:
        views = view_switch(f"view-{number}", "View")
        makers = maker_switch(f"by-{number}", "Masks by", [layer.by for layer in made])
        switches = f'<div class="switches">{views}{makers}</div>'
    return (
        f'<article class="sight" aria-labelledby="name-{number}"><div class="inner">'
        f'<div class="frame"><div class="stage" style="width:{100 * width:.2f}%;aspect-ratio:{w}/{h}">'
        f'<img src="{_picture(sight.image)}" width="{w}" height="{h}" loading="lazy" decoding="async"'
        f' alt="{escaped(_described(sight))}">{over}</div></div>'
        f'<div class="told"><header><h2 id="name-{number}">{escaped(sight.name)}</h2>'
        f'<span class="size">{w} &times; {h}</span></header>{note}{switches}{below}'
        f"{tag_bars(sight.tags, slots, colours) if sight.tags else ''}"
        f"{heat_strip(sight.image, sight.maps)}</div></div></article>\n"
    )


def _described(sight: ReportItem) -> str:
    if sight.tags is None:
        return f"Picture {sight.name}"
    return f"Picture {sight.name}, tagged {', '.join(sight.tags.names) or 'with none of the words'}"


def _picture(image: UInt8[np.ndarray, "h w 3"]) -> str:
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_PICTURE, _PICTURE), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def _over(number: int, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    """The regions over the picture, and their names."""
    coarse, step = sampled(layer.slots, _OUTLINE)
    h, w = (2 * side / step for side in layer.slots.shape)
    paths = []
    for slot, _ in layer.shares:
        tint = ' class="bare"' if slot == layer.background else f' style="--c:{colours[slot]}"'
        if data := path_data(coarse == slot):
            paths.append(f'<path data-slot="{slot}"{tint} d="{data}"/>')
    names = {slot: words[slot] for slot, _ in layer.shares if slot != layer.background}
    chips = "".join(
        f'<span class="name" data-slot="{slot}" style="left:{100 * x:.1f}%;top:{100 * y:.1f}%;'
        f'--c:{colours[slot]};--on:{_ink(colours[slot])}">{escaped(words[slot])}</span>'
        for slot, (x, y) in places(layer.slots, names).items()
    )
    return (
        f'<div class="over of of-{number}" aria-hidden="true"><svg viewBox="0 0 {w:g} {h:g}"'
        f' preserveAspectRatio="none">{"".join(paths)}</svg>{chips}</div>'
    )


def _ink(colour: str) -> str:
    """Black or white, whichever is read better on a colour."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # WCAG 2.1: at this relative luminance black and white contrast alike.
    return "#000" if float(linear @ (0.2126, 0.7152, 0.0722)) > 0.179 else "#fff"


def _legend(number: int, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    """The words present with their shares; each entry lights up its region."""
    parts = "".join(
        f'<i class="bare" data-slot="{slot}" style="flex-grow:{part:.5f}"></i>'
        if slot == layer.background
        else f'<i data-slot="{slot}" style="flex-grow:{part:.5f};--c:{colours[slot]}"></i>'
        for slot, part in layer.shares
    )
    rest = f'<i class="bare" style="flex-grow:{layer.unlabelled:.5f}"></i>' if layer.unlabelled else ""
    entries = [_entry(slot, part, layer, words, colours) for slot, part in layer.shares]
    if layer.unlabelled:
        entries.append(
            f'<li><span class="key bare"><b></b>no label <span class="part">{share(layer.unlabelled)}</span>'
            "</span></li>"
        )
    folded = ""
    if len(entries) > _LEGEND + 1:
        more = f"<summary>{len(entries) - _LEGEND} more words</summary>"
        folded = f'<details>{more}<ul class="keys">{"".join(entries[_LEGEND:])}</ul></details>'
        entries = entries[:_LEGEND]
    agreed = (
        ""
        if layer.agreement is None
        else f'<p class="agreement">Agrees with the truth on {share(layer.agreement)} of the pixels.</p>'
    )
    return (
        f'<div class="legend of of-{number}"><div class="strip" aria-hidden="true">{parts}{rest}</div>'
        f'<ul class="keys" aria-label="Shares of the picture, by {escaped(layer.by)}">{"".join(entries)}</ul>'
        f"{folded}{agreed}</div>"
    )


def _entry(slot: int, part: float, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    look = ' class="key bare"' if slot == layer.background else f' class="key" style="--c:{colours[slot]}"'
    return (
        f'<li><button type="button" aria-pressed="false" data-slot="{slot}"{look}><b></b>'
        f'<span class="word">{escaped(words[slot])}</span> <span class="part">{share(part)}</span>'
        "</button></li>"
    )
