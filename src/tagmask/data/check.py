"""Check a data set's folder for missing or damaged files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask.data.catalogue import entry, open_dataset, split_of
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, TagmaskError

__all__ = ["CheckResult", "check_dataset"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    what: str
    """What was checked, in a word or two."""
    detail: str
    """The counts, and an example of what is missing."""
    ok: bool
    """Whether nothing is missing."""


def check_dataset(
    name: str, root: Path, split: str | None = None, *, read: bool = False
) -> list[CheckResult]:
    """Check that a data set is complete.

    Args:
        name: one of `DATASETS`, or a registered one.
        root: its folder.
        split: as for `open_dataset`.
        read: also decode every image and mask; finds damaged files, takes minutes.

    Returns:
        One result per check. The data set is complete if all are `ok`.

    Raises:
        InputError: an unknown data set or split. Problems of the folder are results, not errors.
    """
    known, split = entry(name), split_of(name, split)
    try:
        dataset = open_dataset(name, root, split)
    except InputError as error:
        return [CheckResult("layout", str(error), False), CheckResult("source", known.source, False)]
    results = [_count(dataset, split, known.splits.get(split)), *_files(dataset), *_tags(dataset)]
    if not dataset.labelled:
        results.append(CheckResult("labels", "not published: a server scores this split", True))
    if read:
        results += [_decoded("images, decoded", dataset, lambda sample: sample.read_image)]
        if dataset.classes and dataset.labelled:
            results += [_decoded("masks, decoded", dataset, lambda sample: sample.read_mask)]
    if not all(result.ok for result in results):
        results.append(CheckResult("source", known.source, False))
    return results


def _count(dataset: Dataset, split: str, published: int | None) -> CheckResult:
    count = len(dataset.samples)
    if published is None or count == published:
        return CheckResult("list", f"{split}: {count} images", count > 0)
    return CheckResult("list", f"{split}: {count} of {published} published images", False)


def _files(dataset: Dataset) -> Iterator[CheckResult]:
    images = [sample.path for sample in dataset.samples if sample.path is not None]
    if images:
        yield _exist("images", images)
    if dataset.classes and dataset.labelled:
        masks = [sample.mask_path for sample in dataset.samples if sample.mask_path is not None]
        annotated = sum(
            sample.mask_path is None and sample.read_mask is not None for sample in dataset.samples
        )
        if masks:
            yield _exist("masks", masks)
        if annotated < len(dataset.samples) and not masks:
            yield CheckResult("masks", f"{annotated} of {len(dataset.samples)} images are annotated", False)


def _exist(what: str, paths: Sequence[Path]) -> CheckResult:
    absent = [path for path in paths if not path.is_file()]
    detail = f"{len(paths) - len(absent)} of {len(paths)} files exist"
    return CheckResult(what, f"{detail}; missing: {absent[0]}" if absent else detail, not absent)


def _tags(dataset: Dataset) -> Iterator[CheckResult]:
    if dataset.tag_classes:
        unknown = [sample.id for sample in dataset.samples if sample.tags is None]
        detail = f"{len(dataset.samples) - len(unknown)} of {len(dataset.samples)} images have known tags"
        yield CheckResult("tags", f"{detail}; unknown: {unknown[0]}" if unknown else detail, not unknown)


def _decoded(
    what: str, dataset: Dataset, reader: Callable[[Sample], Callable[[], object] | None]
) -> CheckResult:
    errors: list[str] = []
    for sample in dataset.samples:
        try:
            read = reader(sample)
            if read is not None:
                read()
        except TagmaskError as error:
            errors.append(str(error))
    detail = f"{len(dataset.samples) - len(errors)} of {len(dataset.samples)} are valid"
    return CheckResult(what, f"{detail}; first error: {errors[0]}" if errors else detail, not errors)
