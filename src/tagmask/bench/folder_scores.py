"""Score a folder of masks against a data set, whoever wrote the masks.

A run folder of tagmask says itself which mask is whose; elsewhere `2007_000033.png` is the mask of the image
`2007_000033`. Masks of the wrong size or with labels that the data set does not have are refused: no score is
computed from them, and nothing is resized.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmask.bench.metrics import Cell, ConfusionMatrix
from tagmask.bench.protocol import Scoring
from tagmask.bench.submission import Mask
from tagmask.bench.summary import Failure, Summary, mask_scores, partial_reasons
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, TagmaskError
from tagmask.images import image_size
from tagmask.masks import IndexMap, read_index_png
from tagmask.runs.classes import read_classes
from tagmask.runs.ordered_map import Outcome, ordered_map
from tagmask.runs.ownership import is_run_folder
from tagmask.runs.reader import Run

__all__ = ["MaskFiles", "find_masks", "score_masks", "submitted"]

Watch = Callable[[Iterable[Outcome[Sample, list[Cell]]]], Iterable[Outcome[Sample, list[Cell]]]]
"""Passes on the outcomes, for example to show progress."""

_LISTED = 5
"""Refused masks that a message names."""


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a data set's images in a folder."""

    folder: Path
    files: Mapping[str, Path]
    """Mask by id, for the images that have one."""
    missing: Mapping[str, str]
    """Why there is no mask, by id."""
    surplus: tuple[str, ...]
    """Names of masks that belong to no image of the data set."""


def find_masks(folder: Path, dataset: Dataset) -> MaskFiles:
    """Find the mask of every image by name.

    The whole id comes first, `a/1.png` for `a/1`; where there is no such mask, one whose last part is the
    id's last part, if no other mask and no other image has it.

    Args:
        folder: a run folder with masks, or a folder of index PNGs, searched with its subfolders.
        dataset: its ids name the masks.

    Raises:
        InputError: no such folder, a run without masks, classes that differ from the data set's, a mask that
            could be of several images, or an image that could have several masks.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Give a folder of index PNGs, or of a run.")
    named, reasons = _of_run(folder) if is_run_folder(folder) else (_of_folder(folder), {})
    _check_classes(folder, dataset)
    by_end: dict[str, list[str]] = {}
    for name in (*named, *reasons):
        by_end.setdefault(_end(name), []).append(name)
    namesakes = Counter(_end(sample.id) for sample in dataset.samples)
    files, missing, used = {}, {}, set()
    for sample in dataset.samples:
        name = sample.id
        if name not in named and name not in reasons:
            candidates = by_end.get(_end(name), [])
            if len(candidates) > 1 or (candidates and namesakes[_end(name)] > 1):
                raise InputError(
                    f"It is not clear which mask in {folder} is that of {name}: {', '.join(candidates)}. "
                    f"Name it {name}.png."
                )
            name = candidates[0] if candidates else name
        used.add(name)
        if name in named:
            files[sample.id] = named[name]
        else:
            missing[sample.id] = reasons.get(name, "there is no mask")
    return MaskFiles(folder, files, missing, tuple(name for name in named if name not in used))


def _of_run(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Masks of a run by name, and why the others are not there."""
    if not (folder / "classes.json").exists():
        raise InputError(f"{folder} is a run without masks. Give the folder of a run that makes masks.")
    named, reasons = {}, {}
    with Run(folder) as run:
        for row in run:
            if row.status == "done":
                named[row.name] = run.mask_path(row)
            else:
                reasons[row.name] = row.error or "the run has not done it yet"
    return named, reasons


def _of_folder(folder: Path) -> dict[str, Path]:
    masks = folder / "masks"
    root = masks if masks.is_dir() else folder
    files = sorted(file for file in root.rglob("*.png") if not file.name.startswith("."))
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files}


def _end(name: str) -> str:
    return name.rpartition("/")[2]


def _check_classes(folder: Path, dataset: Dataset) -> None:
    """Compare the classes that the folder records, if it records any."""
    path = folder / "classes.json"
    if not path.exists():
        return
    names = read_classes(path).names
    if len(names) != len(dataset.classes):
        raise InputError(
            f"The masks in {folder} have {len(names)} classes, {dataset.name} has {len(dataset.classes)}. "
            "Give the data set that they were made for."
        )
    if set(names) == set(dataset.classes) and names != dataset.classes:
        place = next(i for i, name in enumerate(names) if name != dataset.classes[i])
        raise InputError(
            f"The masks in {folder} number the classes of {dataset.name} in another order: label {place} is "
            f"{names[place]!r}, not {dataset.classes[place]!r}. Make them with the words in that order."
        )


def _read_labels(sample: Sample, file: Path, classes: int, ignore: int) -> IndexMap:
    """Read the mask of an image, and check its labels and its size.

    Args:
        sample: the image.
        file: its mask.
        classes: number of classes.
        ignore: the value of pixels without a class.

    Raises:
        InputError: a mask that is refused.
    """
    try:
        labels = read_index_png(file)
    except TagmaskError as error:
        raise InputError(str(error)) from error
    highest = int(labels.max(where=labels != ignore, initial=0))
    if highest >= classes:
        raise InputError(f"{file} has the label {highest}, with {classes} classes.")
    if sample.path is not None and sample.path.exists() and image_size(sample.path) != labels.shape:
        raise InputError(_wrong_size(file, labels.shape, image_size(sample.path)))
    return labels


def _wrong_size(file: Path, size: Sequence[int], wanted: Sequence[int]) -> str:
    return f"{file} is {size[0]} x {size[1]} pixels, its image {wanted[0]} x {wanted[1]} (height x width)."


def score_masks(
    found: MaskFiles,
    dataset: Dataset,
    scoring: Scoring,
    *,
    images: int | None = None,
    workers: int = 1,
    watch: Watch | None = None,
) -> Summary:
    """Score the masks of a folder.

    Args:
        found: the masks.
        dataset: the ground truth; images without a mask are failures, and the score is partial.
        scoring: how to average, and the groups of classes.
        images: number of images in the papers' list, if known.
        workers: images scored at once.
        watch: gets the outcomes.

    Raises:
        InputError: masks of the wrong size or with labels that the data set does not have; the message
            lists the first few. Or the data set's labels are not published, or no image has a mask.
    """
    if not dataset.labelled:
        raise InputError(
            f"The labels of this split of {dataset.name} are not published. Give --submission FILE.tar and "
            "send the file to its server."
        )
    if not found.files:
        raise InputError(
            f"{found.folder} has no mask of an image of {dataset.name}. Masks are named after the images: "
            f"{dataset.samples[0].id}.png."
        )
    classes = len(dataset.classes)
    failures = {id_: Failure(id_, "prediction", reason) for id_, reason in found.missing.items()}
    refused: list[str] = []
    matrix = ConfusionMatrix(classes, dataset.ignore)

    def count(sample: Sample) -> list[Cell]:
        labels = _read_labels(sample, found.files[sample.id], classes, dataset.ignore)
        if sample.read_mask is None:
            raise _TruthError("it has no ground truth")
        try:
            truth = sample.read_mask()
        except (TagmaskError, OSError) as error:
            raise _TruthError(str(error) or type(error).__name__) from error
        if truth.shape != labels.shape:
            raise InputError(_wrong_size(found.files[sample.id], labels.shape, truth.shape))
        own = ConfusionMatrix(classes, dataset.ignore)
        own.update(labels, truth)
        return own.cells()

    with_masks = [sample for sample in dataset.samples if sample.id in found.files]
    outcomes: Iterable[Outcome[Sample, list[Cell]]] = ordered_map(with_masks, count, workers=workers)
    scored = 0
    for outcome in watch(outcomes) if watch else outcomes:
        if outcome.result is not None:
            matrix.add(outcome.result)
            scored += 1
        elif isinstance(outcome.error, _TruthError):
            failures[outcome.item.id] = Failure(outcome.item.id, "mask", str(outcome.error))
        else:
            refused.append(outcome.reason or "")
    _raise_if_any(refused)
    scores, by_class = mask_scores(matrix, dataset.classes, scoring)
    count_of = len(dataset.samples)
    return Summary(
        scores=scores,
        classes=by_class,
        scored=scored,
        requested=count_of,
        failures=tuple(failures[sample.id] for sample in dataset.samples if sample.id in failures),
        partial=partial_reasons(scored, count_of, count_of, images, failures.values()),
    )


class _TruthError(TagmaskError):
    """The ground truth of an image cannot be read."""


def _raise_if_any(refused: Sequence[str]) -> None:
    if refused:
        more = f" (and {len(refused) - _LISTED} more)" if len(refused) > _LISTED else ""
        raise InputError(
            f"{len(refused)} masks are refused: {' '.join(refused[:_LISTED])}{more} Masks have the images' "
            "size and the data set's labels; make them again, do not resize them."
        )


def submitted(found: MaskFiles, dataset: Dataset) -> Iterator[tuple[str, Mask]]:
    """Yield the id and the labels of every image, for `Submission.write`.

    Raises:
        InputError: an image has no mask, or a mask is refused.
    """
    if found.missing:
        id_, reason = next(iter(found.missing.items()))
        raise InputError(
            f"{len(found.missing)} of {len(dataset.samples)} images have no mask, such as {id_} ({reason}). "
            "A submission holds the masks of all images of its split."
        )
    for sample in dataset.samples:
        yield (
            sample.id,
            _read_labels(sample, found.files[sample.id], len(dataset.classes), dataset.ignore),
        )
