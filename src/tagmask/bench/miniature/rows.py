"""Tables and their rows: a setup, and the figure that its paper reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tagmask.bench.miniature.setups import MaskSetup, TagSetup

__all__ = ["MaskRow", "Table", "TagRow"]


@dataclass(frozen=True)
class TagRow:
    """A tagging setup and its published mean average precision."""

    label: str
    setup: TagSetup
    paper: float | None = None
    unverified: bool = False
    """Whether the published figure was never checked against its paper."""
    point: tuple[str, int] | None = None
    """Of a row that is a point of a line chart: the line's name, and x."""


@dataclass(frozen=True)
class MaskRow:
    """A segmentation setup and its published mean IoU."""

    label: str
    setup: MaskSetup
    paper: float | None = None
    unverified: bool = False
    """As for tags."""
    point: tuple[str, int] | None = None
    """As for tags."""


@dataclass(frozen=True)
class Table:
    """Rows to compare with each other."""

    name: str
    title: str
    paper: str
    """Metric and data set of the published figures."""
    rows: tuple[TagRow, ...] | tuple[MaskRow, ...]
    why: Mapping[str, str] = field(default_factory=dict)
    """By row, why its rank differs from the paper's."""
    note: str = ""
    axis: str = ""
    """If the rows are points of a line chart: the name of x."""
