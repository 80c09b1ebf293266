"""A page to look at: what was found in each picture, in one HTML file that needs nothing else."""

from tagmask.report.attention import Look
from tagmask.report.curves import Curve, Curves
from tagmask.report.item import Sight
from tagmask.report.page import render

__all__ = ["Curve", "Curves", "Look", "Sight", "render"]
