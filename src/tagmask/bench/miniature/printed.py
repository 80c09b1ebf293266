"""All that `tagmask bench miniature` prints, in its order: the tables, and what follows from their setups."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tagmask.bench.miniature import calibration, improvement
from tagmask.bench.miniature.claims import CLAIMS, claim_lines
from tagmask.bench.miniature.ground_truth import zero_shot
from tagmask.bench.miniature.line_chart import lines_svg
from tagmask.bench.miniature.page import markdown, svg
from tagmask.bench.miniature.rows import Table
from tagmask.bench.miniature.run import (
    Measurements,
    changes,
    class_iou,
    measured_table,
    thresholds,
)
from tagmask.bench.miniature.setups import MaskSetup, Setup, TagSetup
from tagmask.bench.miniature.tables import CRF, MASK_TABLES, PAMR, TAG_TABLES
from tagmask.bench.miniature.tagclip_tables import TAGCLIP_PRINTED
from tagmask.clip.load import Clip
from tagmask.miniature.scenes import CLASS_NAMES

__all__ = ["PRINTED", "Printed", "printed_names"]

_OBJECTS = 300
"""Number of single objects in the first table."""

_BY_CLASS: Mapping[str, MaskSetup] = {
    "MaskCLIP": MaskSetup("maskclip"),
    "SCLIP": MaskSetup("sclip"),
    "SCLIP + PAMR": MaskSetup("sclip", PAMR),
    "SCLIP, only tags": MaskSetup("sclip", tags="found"),
    "CLS-SEG": MaskSetup("cls-seg", tags="found"),
    "CLS-SEG + CRF": MaskSetup("cls-seg", CRF, tags="found"),
}
"""Columns of the per-class table."""


@dataclass(frozen=True)
class Printed:
    """One part of the output."""

    name: str
    title: str
    setups: tuple[Setup, ...]
    """What it shows of the test scenes; empty if it measures something else."""
    lines: Callable[[Clip, Measurements], Iterable[str]]
    """Its Markdown lines, without the title, from the measurements of its setups."""
    labels: tuple[str, ...] = ()
    """Texts and published figures in it that are not measured."""
    picture: Callable[[Measurements], str] | None = None
    """Draws it as an SVG."""


def printed_names() -> tuple[str, ...]:
    """Return the names of all parts."""
    return tuple(part.name for part in PRINTED)


def _table(table: Table) -> Printed:
    draw = lines_svg if table.axis else svg

    def lines(clip: Clip, measured: Measurements) -> Iterator[str]:
        shown = markdown(measured_table(measured, table))
        yield from list(shown)[2:]  # without title
        if table.name == TAGCLIP_PRINTED:
            yield from _changes(table, measured)

    return Printed(
        table.name,
        table.title,
        tuple(row.setup for row in table.rows),
        lines,
        (table.paper, table.note, *(f"{row.label} {row.paper} {row.unverified}" for row in table.rows)),
        picture=lambda measured: draw(measured_table(measured, table)),
    )


def _changes(table: Table, measured: Measurements) -> Iterator[str]:
    """How far each row's scores and tags are from those as coded, with and without CWR."""
    yield "| compared with TagCLIP as coded | greatest change of a score, mean | maximum | other tags in |"
    yield "|---|---|---|---|"
    references = {False: TagSetup(), True: TagSetup((("cwr", False),))}
    for row in table.rows:
        setup = row.setup
        if not isinstance(setup, TagSetup) or setup in references.values():
            continue
        reference = references[("cwr", False) in setup.settings]
        change = changes(measured.scores[setup], measured.scores[reference])
        yield f"| {row.label} | {change.mean:.3f} | {change.greatest:.3f} | {change.tags:.0%} of scenes |"
    yield ""


def _zero_shot(clip: Clip, measured: Measurements) -> Iterator[str]:
    accuracy = zero_shot(clip, _OBJECTS)
    yield "| | accuracy | objects |"
    yield "|---|---|---|"
    yield f"| all | {accuracy.everything:.1%} | {accuracy.count} |"
    yield f"| in a colour unseen in training | {accuracy.unseen_pairs:.1%} | {accuracy.pairs} |"
    yield f"| in a drawing style unseen in training | {accuracy.unseen_styles:.1%} | {accuracy.styles} |"
    yield f"| colour and name together (of 264) | {accuracy.colour_and_name:.1%} | {accuracy.count} |"
    yield ""


def _thresholds(clip: Clip, measured: Measurements) -> Iterator[str]:
    yield "| threshold | precision | recall | F1 | tags per scene |"
    yield "|---|---|---|---|---|"
    for at in thresholds(measured.scores[TagSetup()], measured.scenes):
        yield f"| {at.tau:.1f} | {at.precision:.1%} | {at.recall:.1%} | {at.f1:.1%} | {at.tags:.2f} |"
    yield ""


def _classes(clip: Clip, measured: Measurements) -> Iterator[str]:
    columns = [class_iou(measured.counts[setup]) for setup in _BY_CLASS.values()]
    yield f"| IoU | {' | '.join(_BY_CLASS)} |"
    yield f"|---|{'---|' * len(columns)}"
    for c, word in enumerate(("background", *CLASS_NAMES)):
        yield f"| {word} | {' | '.join(f'{column[c]:.0f}' for column in columns)} |"
    yield ""


def _claims(clip: Clip, measured: Measurements) -> Iterator[str]:
    return claim_lines(measured)


def _calibration(clip: Clip, measured: Measurements) -> Iterator[str]:
    return calibration.calibration_lines(clip)


def _curve(clip: Clip, measured: Measurements) -> Iterator[str]:
    return improvement.curve_lines(clip, measured.scenes)


def _itself(clip: Clip, measured: Measurements) -> Iterator[str]:
    return improvement.self_lines(clip, measured.scenes)


PRINTED: tuple[Printed, ...] = (
    Printed(
        "zero-shot",
        "Zero-shot classification of one object by the class token",
        (),
        _zero_shot,
        (str(_OBJECTS),),
    ),
    *map(_table, (*TAG_TABLES, *MASK_TABLES)),
    Printed(
        "thresholds",
        "TagCLIP's threshold, as a fraction of the score range of a scene",
        (TagSetup(),),
        _thresholds,
    ),
    Printed("classes", "IoU per class", tuple(_BY_CLASS.values()), _classes, tuple(_BY_CLASS)),
    Printed(
        "claims",
        "Does the papers' order hold?",
        tuple(dict.fromkeys(setup for claim in CLAIMS for setup in claim.setups)),
        _claims,
        tuple(claim.text for claim in CLAIMS),
    ),
    Printed(
        "calibration",
        "Thresholds from labelled scenes: F1 over all decisions / mean of the classes",
        (),
        _calibration,
        (
            *(f"{setup.settings} {setup.adapted}" for setup in calibration.METHODS),
            f"{calibration.LABELLED} {calibration.TESTED} {calibration.FIRST}",
        ),
    ),
    Printed(
        "improve",
        "A few corrected masks: mIoU of other scenes, by the number of corrected scenes",
        (),
        _curve,
        (f"{improvement.METHODS} {improvement.CORRECTED} {improvement.SEEDS} {improvement.POOL}",),
    ),
    Printed(
        "improve-self",
        "A method that learns from its own refined masks",
        (),
        _itself,
        (f"{improvement.METHODS} {improvement.LEARNED}",),
    ),
)
