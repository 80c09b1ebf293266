"""What `tagmask mask` masks images with: a CLIP and words, or a trained student."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tagmask import __version__
from tagmask.api import Segmenter
from tagmask.cli.console import message
from tagmask.cli.options import Precision
from tagmask.cli.runs import ONLY_BACKGROUND
from tagmask.errors import InputError
from tagmask.files import file_hash
from tagmask.pipelines.frozen import Frozen
from tagmask.proposals.source import ProposalSource
from tagmask.results import Segmentation, ignore_index_for
from tagmask.runs.classes import Classes
from tagmask.runs.describe import classes_of, segmenter_identity
from tagmask.runs.identity import RunIdentity
from tagmask.runtime.folders import FoundImage
from tagmask.settings.recipes import MaskRecipe
from tagmask.types import Image
from tagmask.weak.students.student import Student

__all__ = ["Masker", "open_region_source", "refuse_clip_options", "segmenter_masker", "student_masker"]


@dataclass(frozen=True)
class Masker:
    """Masks images, and says what decides its masks and what they mean."""

    mask: Callable[[FoundImage, Image, Sequence[int] | None], Segmentation]
    """Masks one upright image, given its tags or None, with confidences."""
    classes: Classes
    """Names of the values in the masks."""
    identity: RunIdentity
    """Of the run that it makes."""
    freeze: Callable[[Image], Frozen] | None = None
    """Computes the features of an upright image, of methods that keep some."""
    hint: str = ONLY_BACKGROUND
    """What to do where every image came out as background."""


def segmenter_masker(
    segmenter: Segmenter,
    tags: Mapping[str, tuple[int, ...]] | None,
    proposals: ProposalSource | None = None,
) -> Masker:
    """Mask with a segmenter.

    Args:
        segmenter: a CLIP with words and a method.
        tags: the classes to mask in each image, if they are given.
        proposals: regions of each image that get one class each, if there are any.
    """

    def mask(found: FoundImage, image: Image, given: Sequence[int] | None) -> Segmentation:
        regions = None if proposals is None else proposals.of(found.name, image)
        return segmenter(image, tags=given, confidence=True, proposals=regions)

    identity = segmenter_identity(
        segmenter, tags=tags, proposals=None if proposals is None else proposals.identity
    )
    recipe = segmenter.recipe
    keeps = proposals is None and isinstance(recipe, MaskRecipe) and not recipe.purifies
    return Masker(mask, classes_of(segmenter), identity, segmenter.freeze if keeps else None)


def open_region_source(proposals: str | None, device: str) -> ProposalSource | None:
    """Open what --proposals names, before any weights are loaded; None if it is not given.

    Raises:
        TagmaskError: it cannot be used.
    """
    if proposals is None:
        return None
    from tagmask.cli.downloads import download_progress
    from tagmask.proposals.opening import proposal_source

    with download_progress() as progress:
        return proposal_source(proposals, device, progress)


def student_masker(file: Path, *, threshold: float | None, device: str) -> Masker:
    """Load a trained student to mask with, and report what runs. It takes no tags.

    Args:
        file: a file that `save_student` wrote.
        threshold: pixels whose greatest probability is below it become background; None: no threshold.
        device: "auto" or a torch device name.

    Raises:
        WeightsError: the file cannot be used.
        InputError: an unknown device, a threshold out of range, or a package that the student needs is not
            installed.
    """
    changes: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
    student = Student(file, device=device, **changes)
    words, card, settings = student.words, student.trained.card, student.settings
    target = next(student.trained.net.parameters()).device
    message(f"{file.name}: student {card.student}, {len(words)} classes, {target}, float32")

    def mask(found: FoundImage, image: Image, _: Sequence[int] | None) -> Segmentation:
        return student(image, confidence=True)

    return Masker(
        mask,
        Classes(words, ignore_index_for(len(words))),
        RunIdentity(
            "mask",
            {
                "words": words[int(card.background) :],
                "background": card.background,
                "student": file_hash(file),
                "precision": "float32",
                "settings": asdict(settings),
            },
            {
                "tagmask": __version__,
                "student file": file.name,
                "architecture": card.student,
                "device": str(target),
            },
        ),
        hint="Lower --threshold, or check that the student was trained for such images.",
    )


def refuse_clip_options(options: Mapping[str, object], precision: Precision) -> None:
    """Refuse options of a CLIP, which have no effect on a student.

    Args:
        options: the value of each by its name; None, False or nothing: not given. --weights may come from
            TAGMASK_WEIGHTS, which is for other commands too, and is then not used.
        precision: of --precision.

    Raises:
        InputError: such an option is given.
    """
    given = [name for name, value in options.items() if value]
    if options.get("--weights") == os.environ.get("TAGMASK_WEIGHTS"):
        given = [name for name in given if name != "--weights"]
    if given:
        raise InputError(
            f"{given[0]} and --student exclude each other: a student file holds its words and settings. "
            "Give only one."
        )
    if precision not in (Precision.auto, Precision.float32):
        raise InputError(
            f"--precision {precision} and --student exclude each other: students compute in float32."
        )
