"""Regions of masks: connected components, outlines, rings and run lengths, for other tools' formats."""

from tagmask.regions.components import Region, class_regions, components
from tagmask.regions.outlines import outline_loops
from tagmask.regions.rings import centre_ring, corner_ring

__all__ = ["Region", "centre_ring", "class_regions", "components", "corner_ring", "outline_loops"]
