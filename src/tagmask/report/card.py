"""One report item as HTML: the image, its mask overlays, legends, tags and activation maps."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from tagmask.errors import ShapeError
from tagmask.report.bars import tag_bars
from tagmask.report.heatmap import heatmap_strip
from tagmask.report.item import Layer, ReportItem, layers, subsample
from tagmask.report.label_placement import label_positions
from tagmask.report.outlines import path_data
from tagmask.report.switches import source_switch, view_switch
from tagmask.report.text import data_uri, escaped, percent
from tagmask.types import Image

__all__ = ["Pictures", "card"]

_LEGEND_ENTRIES = 12
"""Largest number of legend entries before the rest is folded."""


@dataclass(frozen=True)
class Pictures:
    """How finely images are embedded, as JPEG, and their masks, as outlines."""

    longest: int = 800
    """Longest side, in pixels; larger images are reduced."""
    quality: int = 88
    longest_outlined: int = 480
    """Longest side, in pixels, of the label map that is outlined."""


def card(number: int, item: ReportItem, colours: Sequence[str], frame: float, pictures: Pictures) -> str:
    """Return the HTML of one item.

    Args:
        number: index of the item; makes the names of its controls unique.
        item: the image and its results.
        colours: colours of words, `#rrggbb`, at least as many as the item has words.
        frame: aspect ratio, width / height, of the frame that all images share.
        pictures: how finely the image and its masks are embedded.

    Raises:
        ShapeError: labels differ from the image in size, or scores from words in number.
        InputError: a label has no word.
    """
    words, item_layers = layers(item)
    if item.image is not None and not item.image.size:
        raise ShapeError(f"{item.name}: The image has shape {item.image.shape}. It needs at least one pixel.")
    slots = {word: slot for slot, word in enumerate(words)}
    legends = "".join(_legend(i, layer, words, colours) for i, layer in enumerate(item_layers))
    note = f'<p class="note">{escaped(item.note)}</p>' if item.note else ""
    switches = ""
    if item_layers and item.image is not None:
        views = view_switch(f"view-{number}", "View")
        names = [layer.source for layer in item_layers]
        sources = source_switch(f"source-{number}", "Masks by", names) if len(names) > 1 else ""
        switches = f'<div class="switches">{views}{sources}</div>'
    return (
        f'<article class="item" aria-labelledby="name-{number}"><div class="inner">'
        f"{_picture(item, item_layers, words, colours, frame, pictures)}"
        f'<div class="info"><header><h2 id="name-{number}">{escaped(item.name)}</h2>'
        f"{_size(item.image)}</header>{note}{switches}{legends}"
        f"{tag_bars(item.tags, slots, colours) if item.tags else ''}"
        f"{'' if item.image is None else heatmap_strip(item.image, item.maps)}</div></div></article>\n"
    )


def _picture(
    item: ReportItem,
    item_layers: Sequence[Layer],
    words: Sequence[str],
    colours: Sequence[str],
    frame: float,
    pictures: Pictures,
) -> str:
    """Return the framed image under its overlays."""
    if item.image is None:
        return '<div class="frame empty">no picture</div>'
    h, w = item.image.shape[:2]
    width = min(1.0, (w / h) / frame)
    overlays = "".join(
        _overlay(i, layer, words, colours, pictures.longest_outlined) for i, layer in enumerate(item_layers)
    )
    return (
        f'<div class="frame"><div class="stage" style="width:{100 * width:.2f}%;aspect-ratio:{w}/{h}">'
        f'<img src="{_jpeg_uri(item.image, pictures)}" width="{w}" height="{h}" loading="lazy"'
        f' decoding="async" alt="{escaped(_alt_text(item))}">{overlays}</div></div>'
    )


def _size(image: Image | None) -> str:
    return "" if image is None else f'<span class="size">{image.shape[1]} &times; {image.shape[0]}</span>'


def _alt_text(item: ReportItem) -> str:
    if item.tags is None:
        return f"Image {item.name}"
    return f"Image {item.name}, tags: {', '.join(item.tags.names) or 'none'}"


def _jpeg_uri(image: Image, pictures: Pictures) -> str:
    thumbnail = PIL.Image.fromarray(np.ascontiguousarray(image))
    thumbnail.thumbnail((pictures.longest, pictures.longest), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    thumbnail.save(file, "JPEG", quality=pictures.quality, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def _overlay(number: int, layer: Layer, words: Sequence[str], colours: Sequence[str], longest: int) -> str:
    """Return the outlined regions of a layer and their names."""
    coarse, step = subsample(layer.slots, longest)
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
    found = (
        ""
        if layer.found is None
        else f'<p class="found">Objects found: {layer.found[0]} of {layer.found[1]}.</p>'
    )
    return (
        f'<div class="legend layer layer-{number}"><div class="strip" aria-hidden="true">{parts}{rest}</div>'
        f'<ul class="keys" aria-label="Shares of the image, by {escaped(layer.source)}">'
        f"{''.join(entries)}</ul>{folded}{found}</div>"
    )


def _entry(slot: int, part: float, layer: Layer, words: Sequence[str], colours: Sequence[str]) -> str:
    attributes = (
        ' class="key bare"' if slot == layer.background else f' class="key" style="--c:{colours[slot]}"'
    )
    confidence = f" ({layer.confidence[slot]:.2f})" if slot in layer.confidence else ""
    return (
        f'<li><button type="button" aria-pressed="false" data-slot="{slot}"{attributes}><b></b>'
        f'<span class="word">{escaped(words[slot])}</span> '
        f'<span class="part">{percent(part)}{confidence}</span></button></li>'
    )
