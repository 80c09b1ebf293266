"""`tagmask mask`: mask images, write and print the results."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import typer

from tagmask import __version__
from tagmask.api import Segmenter
from tagmask.cli.console import bold, print_summary, report_failure, report_if_stopped, with_progress
from tagmask.cli.options import Refine
from tagmask.errors import InputError
from tagmask.files import ensure_folder, write_bytes
from tagmask.images import read_image
from tagmask.interop.coco import CocoFile, needs_pycocotools
from tagmask.results import Segmentation, ignore_index_for
from tagmask.runs.ordered_map import ordered_map, shared_threads
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.runtime.tag_files import check_tags, tags_of
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe

__all__ = ["mask_formats", "mask_images", "mask_settings", "require_tags_file"]

_OVERLAY_QUALITY = 92


def mask_images(
    images: list[FoundImage],
    make_segmenter: Callable[[], Segmenter],
    *,
    out: Path,
    overlays: bool,
    coco: bool,
    tags: Mapping[str, tuple[int, ...]] | None,
    workers: int = 1,
) -> int:
    """Mask every image, print each result as it is ready, and return the number of failures.

    Writes `classes.json` first, then `masks/NAME.png` and `overlays/NAME.jpg` for each image, and finally
    `annotations.json` if `coco` is set. `tags`, as `read_tags` returns them, are the classes to mask.

    Raises:
        InputError: all images are outputs of an earlier run.
        OutputError: a file cannot be written.
    """
    images = _without_outputs(images, out)
    if tags is not None:
        check_tags(images, tags)
    if coco:
        needs_pycocotools()
    ensure_folder(out)
    segmenter = make_segmenter()
    write_bytes(out / "classes.json", _classes_json(segmenter).encode())
    names = dict(zip(images, output_names(images), strict=True))
    annotations = CocoFile(segmenter.words, bool(segmenter.background))

    def work(image: FoundImage) -> tuple[Path, Segmentation]:
        pixels = read_image(image.path)
        segmentation = segmenter(pixels, tags=None if tags is None else tags_of(image, tags), scores=coco)
        if overlays:
            buffer = io.BytesIO()
            segmentation.overlay(pixels).save(buffer, "JPEG", quality=_OVERLAY_QUALITY)
            write_bytes(out / "overlays" / f"{names[image]}.jpg", buffer.getvalue())
        mask = out / "masks" / f"{names[image]}.png"
        segmentation.save(mask)  # last: an image that has a mask is complete
        return mask, segmentation

    failed = 0
    with report_if_stopped(out):
        workers = min(workers, len(images))
        outcomes = ordered_map(images, work, workers=workers, threads=shared_threads(workers))
        for outcome in with_progress(outcomes, len(images)):
            if outcome.result is None:
                failed += 1
                report_failure(outcome.item.path, outcome.reason)
                continue
            mask, segmentation = outcome.result
            if coco:
                annotations.add(outcome.item.name.as_posix(), segmentation)
            shares = ", ".join(f"{word} {share:.1%}" for word, share in segmentation.shares().items())
            typer.echo(f"{bold(str(outcome.item.path))}: {shares or 'nothing'} -> {mask}")
    if coco:
        write_bytes(out / "annotations.json", annotations.encode())
    print_summary(len(images), failed, out)
    return failed


def mask_settings(
    method: str | None, threshold: float | None, only_tags: bool, refine: Refine | None
) -> dict[str, object]:
    """Return the recipe fields that the options set.

    Raises:
        InputError: options exclude each other.
    """
    settings: dict[str, object] = {}
    if method is not None:
        settings["method"] = method
    if only_tags and method == "cls-seg":
        raise InputError("--only-tags has no effect with cls-seg, which always masks tags. Leave it out.")
    if only_tags:
        settings["among"] = "tags"
    if threshold is not None:
        settings["prob_thd"] = threshold
    if refine is not None:
        settings["pamr_steps"] = 10 if refine is Refine.pamr else 0
        settings["crf"] = "cls-seg" if refine is Refine.crf else None
    return settings


def require_tags_file(recipe: MaskRecipe | TagFirstRecipe, tags_file: Path | None) -> None:
    """Check that a tags file is given if the recipe needs ground-truth tags.

    Raises:
        InputError: the recipe needs tags and there is no file.
    """
    if recipe.needs_tags and tags_file is None:
        raise InputError(
            f"The recipe {recipe.name} needs the tags of each image. Give --tags-file FILE, "
            "or use a cls-seg/ recipe, which finds them."
        )


def mask_formats(text: str) -> frozenset[str]:
    """Parse --format: the file formats of the masks.

    Raises:
        InputError: a format is unknown, or png is missing.
    """
    formats = frozenset(part.strip() for part in text.split(","))
    if not formats <= {"png", "coco"} or "png" not in formats:
        raise InputError(f"Invalid --format {text!r}. Give png or png,coco.")
    return formats


def _without_outputs(images: list[FoundImage], out: Path) -> list[FoundImage]:
    """Exclude the masks and overlays of an earlier run, if --out is inside the image folder."""
    outputs = [(out / folder).resolve() for folder in ("masks", "overlays")]
    remaining = [
        image for image in images if not any(folder in image.path.resolve().parents for folder in outputs)
    ]
    if not remaining:
        raise InputError(
            f"All images found are masks and overlays in {out}. Give the input images, or another --out."
        )
    return remaining


def _classes_json(segmenter: Segmenter) -> str:
    """Return the text of classes.json: the classes of the indices, and all settings."""
    recipe, clip = segmenter.recipe, segmenter.clip
    texts = [line.split(", ") for line in recipe.words]
    if recipe.background_names is not None:
        texts.insert(0, list(recipe.background_names))
    classes = [
        {"index": index, "name": name, "texts": names}
        for index, (name, names) in enumerate(zip(segmenter.words, texts, strict=True))
    ]
    settings = {key: value for key, value in recipe.flat().items() if key not in ("words", "background")}
    content = {
        "tagmask": __version__,
        "weights": clip.name,
        "activation": clip.activation,
        "precision": clip.precision,
        "ignore_index": ignore_index_for(len(classes)),
        "classes": classes,
        "settings": settings,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
