"""Regions of masks: connected components, outlines, rings and run lengths, for other tools' formats."""

from tagmask.regions.components import (
    REGION_KINDS,
    Region,
    RegionKind,
    class_regions,
    components,
    regions_of,
)
from tagmask.regions.outlines import outline_loops
from tagmask.regions.rings import centre_ring, corner_ring

__all__ = [
    "REGION_KINDS",
    "Region",
    "RegionKind",
    "centre_ring",
    "class_regions",
    "components",
    "corner_ring",
    "outline_loops",
    "regions_of",
]
