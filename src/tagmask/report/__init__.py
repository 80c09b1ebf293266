"""Report pages: tags, masks and charts in one self-contained HTML file."""

from tagmask.report.attention import AttentionExample
from tagmask.report.card import Pictures
from tagmask.report.curves import Curve, Curves
from tagmask.report.item import ReportItem, words_found
from tagmask.report.page import PageLayout, frame_for, render, render_parts

__all__ = [
    "AttentionExample",
    "Curve",
    "Curves",
    "PageLayout",
    "Pictures",
    "ReportItem",
    "frame_for",
    "render",
    "render_parts",
    "words_found",
]
