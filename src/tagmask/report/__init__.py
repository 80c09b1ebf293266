"""A page to look at: what was found in each picture, in one HTML file that needs nothing else."""

from tagmask.report.attention import AttentionExample
from tagmask.report.curves import Curve, Curves
from tagmask.report.item import ReportItem
from tagmask.report.page import render

__all__ = ["AttentionExample", "Curve", "Curves", "ReportItem", "render"]
