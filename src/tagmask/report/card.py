"""One report item as HTML: the image, its mask overlays, legends, tags and activation maps."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from tagmask.errors import ShapeError
from tagmask.report.bars import tag_bars
from tagmask.report.heatmap import heatmap_strip
from tagmask.report.item import Layer, ReportItem, layers, subsample
from tagmask.report.label_placement import label_positions
from tagmask.report.outlines import path_data
from tagmask.report.switches import source_switch, view_switch
from tagmask.report.text import data_uri, escaped, percent

__all__ = ["card"]

_IMAGE_SIDE, _OUTLINE_SIDE = 800, 480
"""Longest side, in pixels, of the embedded image and of the label map that is outlined."""
_LEGEND_ENTRIES = 12
"""Largest number of legend entries before the rest is folded."""


def card(number: int, item: ReportItem, colours: Sequence[str], frame: float) -> str:
    """Return the HTML of one item.

    Args:
        number: index of the item; makes the names of its controls unique.
        item: the image and its results.
        colours: colours of words, `#rrggbb`, at least as many as the item has words.
        frame: aspect ratio, width / height, of the frame that all images share.

    Raises:
        ShapeError: labels differ from the image in size, or scores from words in number.
        InputError: a label has no word.
    """
    words, item_layers = layers(item)
    h, w = item.image.shape[:2]
    if not item.image.size:
        raise ShapeError(f"{item.name}: The image has shape {item.image.shape}. It needs at least one pixel.")
    slots = {word: slot for slot, word in enumerate(words)}
    width = min(1.0, (w / h) / frame)
    overlays = "".join(_overlay(i, layer, words, colours) for i, layer in enumerate(item_layers))
    legends = "".join(_legend(i, layer, words, colours) for i, layer in enumerate(item_layers))
    note = f'<p class="note">{escaped(item.note)}</p>' if item.note else ""
    switches = ""
    if item_layers:
        views = view_switch(f"view-{number}", "View")
        sources = source_switch(f"source-{number}", "Masks by", [layer.source for layer in item_layers])
        switches = f'<div class="switches">{views}{sources}</div>'
    return (
        f'<article class="item" aria-labelledby="name-{number}"><div class="inner">'
        f'<div class="frame"><div class="stage" style="width:{100 * width:.2f}%;aspect-ratio:{w}/{h}">'
        f'<img src="{_jpeg_uri(item.image)}" width="{w}" height="{h}" loading="lazy" decoding="async"'
        f' alt="{escaped(_alt_text(item))}">{overlays}</div></div>'
        f'<div class="info"><header><h2 id="name-{number}">{escaped(item.name)}</h2>'
        f'<span class="size">{w} &times; {h}</span></header>{note}{switches}{legends}'
        f"{tag_bars(item.tags, slots, colours) if item.tags else ''}"
        f"{heatmap_strip(item.image, item.maps)}</div></div></article>\n"
    )


def _alt_text(item: ReportItem) -> str:
    if item.tags is None:
        return f"Image {item.name}"
    return f"Image {item.name}, tags: {', '.join(item.tags.names) or 'none'}"


def _jpeg_uri(image: UInt8[np.ndarray, "h w 3"]) -> str:
    thumbnail = PIL.Image.fromarray(np.ascontiguousarray(image))
    thumbnail.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    thumbnail.save(file, "JPEG", quality=88, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def _overlay(number: int, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    """Return the outlined regions of a layer and their names."""
    coarse, step = subsample(layer.slots, _OUTLINE_SIDE)
    h, w = (2 * side / step for side in layer.slots.shape)
    paths = []
    for slot, _ in layer.shares:
        tint = ' class="bare"' if slot == layer.background else f' style="--c:{colours[slot]}"'
        if data := path_data(coarse == slot):
            paths.append(f'<path data-slot="{slot}"{tint} d="{data}"/>')
    names = {slot: words[slot] for slot, _ in layer.shares if slot != layer.background}
    labels = "".join(
        f'<span class="name" data-slot="{slot}" style="left:{100 * x:.1f}%;top:{100 * y:.1f}%;'
        f'--c:{colours[slot]};--on:{_text_colour(colours[slot])}">{escaped(words[slot])}</span>'
        for slot, (x, y) in label_positions(layer.slots, names).items()
    )
    return (
        f'<div class="overlay layer layer-{number}" aria-hidden="true"><svg viewBox="0 0 {w:g} {h:g}"'
        f' preserveAspectRatio="none">{"".join(paths)}</svg>{labels}</div>'
    )


def _text_colour(colour: str) -> str:
    """Return black or white, whichever contrasts more with a colour."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # WCAG 2.1: at this relative luminance, black and white have equal contrast.
    return "#000" if float(linear @ (0.2126, 0.7152, 0.0722)) > 0.179 else "#fff"


def _legend(number: int, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    """Return the legend of a layer: its words and their shares; each entry highlights its region."""
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
            '<li><span class="key bare"><b></b>no label '
            f'<span class="part">{percent(layer.unlabelled)}</span></span></li>'
        )
    folded = ""
    if len(entries) > _LEGEND_ENTRIES + 1:
        more = f"<summary>{len(entries) - _LEGEND_ENTRIES} more words</summary>"
        folded = f'<details>{more}<ul class="keys">{"".join(entries[_LEGEND_ENTRIES:])}</ul></details>'
        entries = entries[:_LEGEND_ENTRIES]
    agreement = (
        ""
        if layer.agreement is None
        else '<p class="agreement">Agrees with the ground truth on '
        f"{percent(layer.agreement)} of the pixels.</p>"
    )
    return (
        f'<div class="legend layer layer-{number}"><div class="strip" aria-hidden="true">{parts}{rest}</div>'
        f'<ul class="keys" aria-label="Shares of the image, by {escaped(layer.source)}">'
        f"{''.join(entries)}</ul>{folded}{agreement}</div>"
    )


def _entry(slot: int, part: float, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    attributes = (
        ' class="key bare"' if slot == layer.background else f' class="key" style="--c:{colours[slot]}"'
    )
    return (
        f'<li><button type="button" aria-pressed="false" data-slot="{slot}"{attributes}><b></b>'
        f'<span class="word">{escaped(words[slot])}</span> <span class="part">{percent(part)}</span>'
        "</button></li>"
    )
