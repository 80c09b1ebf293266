"""The report page: a header with metadata, then charts, items and attention maps."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from tagmask.masks import overlay_colours
from tagmask.report.attention import AttentionExample, attention_section
from tagmask.report.card import Pictures, card
from tagmask.report.curves import Curves, curve_charts
from tagmask.report.item import ReportItem, segmentations_of
from tagmask.report.switches import source_switch, view_switch
from tagmask.report.text import escaped

__all__ = ["PageLayout", "frame_for", "render", "render_parts"]


@dataclass(frozen=True)
class PageLayout:
    """What must be known of all items of a page before the first one is written."""

    items: int
    words: int
    """Largest number of words of an item."""
    frame: float
    """Aspect ratio, width / height, of the frame that all images share; see `frame_for`."""
    sources: tuple[str, ...]
    """Sources of masks to choose from for all items at once; empty: there is no choice."""
    layers: int
    """Largest number of segmentations of an item."""
    pictures: Pictures


def render(
    title: str,
    lead: str,
    items: Sequence[ReportItem],
    metadata: Mapping[str, str],
    *,
    attention: Sequence[tuple[str, str, AttentionExample]] = (),
    charts: Sequence[Curves] = (),
) -> str:
    """Render images and their results as one self-contained HTML page.

    Images are embedded, at most 800 pixels long, and regions are SVG outlines, so that the page can be sent
    as one file. It fetches nothing; its content security policy forbids it. Colours are those of
    `Segmentation.overlay`. The same arguments give the same text.

    Args:
        title: heading and window title.
        lead: introduction below the title, one or two sentences.
        items: the images and results, in the order of the page. They are not modified.
        metadata: facts about the run, e.g. {"weights": "...", "time": "3.2 s"}. The value of "command" is
            set as code.
        attention: title, introduction and maps of each attention section, shown below the images.
        charts: values over time, shown above the images.

    Returns:
        HTML text, to be written as UTF-8.

    Raises:
        ShapeError: labels differ from their image in size, scores from words, or y from x values, in number.
        InputError: a label has no word.
    """
    layout = _layout(items)
    return "".join(render_parts(title, lead, items, metadata, layout, attention=attention, charts=charts))


def render_parts(
    title: str,
    lead: str,
    items: Iterable[ReportItem],
    metadata: Mapping[str, str],
    layout: PageLayout,
    *,
    attention: Sequence[tuple[str, str, AttentionExample]] = (),
    charts: Sequence[Curves] = (),
    failures: Iterable[tuple[str, str]] = (),
) -> Iterator[str]:
    """Render the page of `render` in parts, one item after the other.

    Args:
        title: as for `render`.
        lead: as for `render`.
        items: each is asked for when the ones before it have been rendered, and may then be dropped.
        metadata: as for `render`.
        layout: what the items have in common.
        attention: as for `render`.
        charts: as for `render`.
        failures: names of images without results, and the reasons, listed at the end.

    Yields:
        The page's parts, in order.

    Raises:
        ShapeError: as `render`.
        InputError: as `render`.
    """
    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in overlay_colours(layout.words or 1)]
    switches = _switches_for_all(layout.sources) if layout.items > 1 and layout.layers else ""
    script = _resource("page.js")
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)}</title>\n"
        f"<style>\n{_resource('style.css')}{_layer_rules(layout.layers)}.sheet{{--frame:{layout.frame:.4f}}}\n</style>\n</head>\n"
        f'<body>\n<header><h1>{escaped(title)}</h1>\n<p class="lead">{escaped(lead)}</p>\n'
        f"{_metadata_list(metadata)}</header>\n{curve_charts(charts)}{switches}"
        '<main>\n<div class="sheet">\n'
    )
    for i, item in enumerate(items):
        yield card(i, item, colours, layout.frame, layout.pictures)
    yield "</div>\n"
    for name, text, example in attention:
        yield attention_section(example, name, text)
    yield from _failure_list(failures)
    yield (
        "</main>\n"
        '<footer class="foot"><p>Percentages are shares of pixels. '
        "Scores are comparable only within one image. "
        "This page is self-contained and fetches nothing.</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def frame_for(ratios: Sequence[float]) -> float:
    """Return the frames' aspect ratio, width / height: the images' median, clipped to 0.8..1.8."""
    return float(np.clip(np.median(ratios or [4 / 3]), 0.8, 1.8))


def _layout(items: Sequence[ReportItem]) -> PageLayout:
    counts = [len({w for _, s in segmentations_of(item) for w in s.words}) for item in items]
    images = [item.image for item in items if item.image is not None]
    return PageLayout(
        items=len(items),
        words=max(counts, default=0),
        frame=frame_for([image.shape[1] / max(image.shape[0], 1) for image in images]),
        sources=tuple(dict.fromkeys(source for item in items for source, _ in segmentations_of(item))),
        layers=max((len(segmentations_of(item)) for item in items), default=0),
        pictures=Pictures(),
    )


def _failure_list(failures: Iterable[tuple[str, str]]) -> Iterator[str]:
    begun = False
    for name, reason in failures:
        if not begun:
            yield '<section class="failures"><h2>Failed images</h2>\n<ul>'
            begun = True
        yield f"<li><b>{escaped(name)}</b><span>{escaped(reason)}</span></li>\n"
    if begun:
        yield "</ul></section>\n"


def _resource(name: str) -> str:
    return files("tagmask.report").joinpath(name).read_text("utf-8")


def _policy(script: str) -> str:
    """Return a policy that forbids all requests and all scripts but the page's own, even injected ones."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _layer_rules(layers: int) -> str:
    """Return CSS rules that show the layer of the second, third... radio button."""
    return "".join(
        f".item:has(.source-{i}:checked) .layer:not(.layer-{i}){{display:none}}"
        f".item:has(.source-{i}:checked) .layer-{i}{{display:block}}\n"
        for i in range(1, layers)
    )


def _metadata_list(metadata: Mapping[str, str]) -> str:
    def value(name: str, text: str) -> str:
        return f"<code>{escaped(text)}</code>" if name == "command" else escaped(text)

    pairs = "".join(f"<div><dt>{escaped(k)}</dt><dd>{value(k, v)}</dd></div>" for k, v in metadata.items())
    return f'<dl class="facts">{pairs}</dl>\n' if pairs else ""


def _switches_for_all(sources: Sequence[str]) -> str:
    """Return switches for all items at once. They need the script, which reveals them."""
    choice = source_switch("source-all", "Masks of all images by", sources) if sources else ""
    return (
        '<div class="all switches" hidden><span>All images</span>'
        f"{view_switch('view-all', 'View of all images')}{choice}</div>\n"
    )
