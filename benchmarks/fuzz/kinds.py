"""Every kind of file that the harness damages, by name, in two groups."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.fuzz.images import IMAGES
from benchmarks.fuzz.imports import IMPORTS
from benchmarks.fuzz.kind import Kind
from benchmarks.fuzz.records import RECORDS
from benchmarks.fuzz.weights import WEIGHTS

__all__ = ["GROUPS", "KINDS", "chosen"]

GROUPS: Mapping[str, tuple[str, ...]] = {"images": tuple(IMAGES), "files": (*WEIGHTS, *RECORDS, *IMPORTS)}
"""Names of the kinds of image files, and of all others."""

KINDS: Mapping[str, Callable[[], Kind]] = {**IMAGES, **WEIGHTS, **RECORDS, **IMPORTS}
"""Kinds by name; each is made, with its samples, when it is called."""


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds that names of kinds and groups stand for, in the table's order.

    Raises:
        KeyError: an unknown name.
    """
    wanted = {kind for name in names for kind in GROUPS.get(name, (name,))}
    if unknown := sorted(wanted - KINDS.keys()):
        raise KeyError(unknown[0])
    return tuple(kind for kind in KINDS if kind in wanted)
