"""Report pages: tags, masks and charts in one self-contained HTML file."""

from tagmask.report.attention import AttentionExample
from tagmask.report.curves import Curve, Curves
from tagmask.report.item import ReportItem
from tagmask.report.page import render

__all__ = ["AttentionExample", "Curve", "Curves", "ReportItem", "render"]
