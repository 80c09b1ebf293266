"""What is missing in a data set's folder, in words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask.data.catalogue import entry, open_dataset, split_of
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, TagmaskError

__all__ = ["CheckResult", "check_dataset"]


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked for."""

    what: str
    """What it is, in a word or two."""
    said: str
    """How much of it there is, and of what is missing an example."""
    fine: bool
    """Whether all of it is there."""


def check_dataset(
    name: str, root: Path, split: str | None = None, *, read: bool = False
) -> list[CheckResult]:
    """Look for all that a data set needs.

    Args:
        name: one of `DATASETS`.
        root: its folder.
        split: as for `open_dataset`.
        read: decode every image and mask too, which finds damaged ones and takes minutes.

    Returns:
        What was looked for, in the order it is needed. All is there if every finding is fine.

    Raises:
        InputError: an unknown data set or split. What is wrong with the folder is a finding.
    """
    known, split = entry(name), split_of(name, split)
    try:
        dataset = open_dataset(name, root, split)
    except InputError as error:
        return [CheckResult("layout", str(error), False), CheckResult("source", known.source, False)]
    findings = [_counted(dataset, split, known.splits.get(split)), *_files(dataset), *_tags(dataset)]
    if read:
        findings += [_decoded("images, read", dataset, lambda sample: sample.read_image)]
        if dataset.classes:
            findings += [_decoded("masks, read", dataset, lambda sample: sample.read_mask)]
    if not all(finding.fine for finding in findings):
        findings.append(CheckResult("source", known.source, False))
    return findings


def _counted(dataset: Dataset, split: str, published: int | None) -> CheckResult:
    count = len(dataset.samples)
    if published is None or count == published:
        return CheckResult("list", f"{split}: {count} images", count > 0)
    return CheckResult("list", f"{split}: {count} images of the {published} that were published", False)


def _files(dataset: Dataset) -> Iterator[CheckResult]:
    images = [sample.path for sample in dataset.samples if sample.path is not None]
    if images:
        yield _there("images", images)
    if dataset.classes:
        masks = [sample.mask_path for sample in dataset.samples if sample.mask_path is not None]
        drawn = sum(sample.mask_path is None and sample.read_mask is not None for sample in dataset.samples)
        if masks:
            yield _there("masks", masks)
        if drawn < len(dataset.samples) and not masks:
            yield CheckResult("masks", f"{drawn} of {len(dataset.samples)} images are annotated", False)


def _there(what: str, paths: Sequence[Path]) -> CheckResult:
    absent = [path for path in paths if not path.is_file()]
    said = f"{len(paths) - len(absent)} of {len(paths)} files are there"
    return CheckResult(what, f"{said}; missing is {absent[0]}" if absent else said, not absent)


def _tags(dataset: Dataset) -> Iterator[CheckResult]:
    if dataset.tag_classes:
        unknown = [sample.id for sample in dataset.samples if sample.tags is None]
        said = f"{len(dataset.samples) - len(unknown)} of {len(dataset.samples)} images have known tags"
        yield CheckResult("tags", f"{said}; not {unknown[0]}" if unknown else said, not unknown)


def _decoded(
    what: str, dataset: Dataset, reader: Callable[[Sample], Callable[[], object] | None]
) -> CheckResult:
    faults: list[str] = []
    for sample in dataset.samples:
        try:
            read = reader(sample)
            if read is not None:
                read()
        except TagmaskError as error:
            faults.append(str(error))
    said = f"{len(dataset.samples) - len(faults)} of {len(dataset.samples)} can be used"
    return CheckResult(what, f"{said}; the first that cannot: {faults[0]}" if faults else said, not faults)
