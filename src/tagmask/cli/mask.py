"""What `tagmask mask` does, writes and prints."""

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
from tagmask.runtime.tag_files import tags_of
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe

__all__ = ["check_tags_known", "mask_formats", "mask_images", "mask_settings"]

_OVERLAY_QUALITY = 92


def mask_images(
    images: list[FoundImage],
    make: Callable[[], Segmenter],
    *,
    out: Path,
    overlays: bool,
    coco: bool,
    tags: Mapping[str, tuple[int, ...]] | None,
    workers: int = 1,
) -> int:
    """Mask every image, print as they come, and return how many failed.

    Writes `classes.json` first, then for each image `masks/NAME.png` and `overlays/NAME.jpg`, and at the end
    `annotations.json`, if asked for. `tags` hold the classes to look for, by image name without ending.
    """
    images = _not_ours(images, out)
    if coco:
        needs_pycocotools()
    ensure_folder(out)
    segmenter = make()
    write_bytes(out / "classes.json", _classes(segmenter).encode())
    names = dict(zip(images, output_names(images), strict=True))
    annotations = CocoFile(segmenter.words, bool(segmenter.background))

    def work(image: FoundImage) -> tuple[Path, Segmentation]:
        pixels = read_image(image.path)
        found = segmenter(pixels, tags=None if tags is None else tags_of(image, tags), scores=coco)
        if overlays:
            buffer = io.BytesIO()
            found.overlay(pixels).save(buffer, "JPEG", quality=_OVERLAY_QUALITY)
            write_bytes(out / "overlays" / f"{names[image]}.jpg", buffer.getvalue())
        mask = out / "masks" / f"{names[image]}.png"
        found.save(mask)  # last, so that an image with a mask is an image that is done
        return mask, found

    failed = 0
    with report_if_stopped(out):
        workers = min(workers, len(images))
        outcomes = ordered_map(images, work, workers=workers, threads=shared_threads(workers))
        for outcome in with_progress(outcomes, len(images)):
            if outcome.result is None:
                failed += 1
                report_failure(outcome.item.path, outcome.reason)
                continue
            mask, found = outcome.result
            if coco:
                annotations.add(outcome.item.name.as_posix(), found)
            shares = ", ".join(f"{word} {share:.1%}" for word, share in found.shares().items())
            typer.echo(f"{bold(str(outcome.item.path))}: {shares or 'nothing'} -> {mask}")
    if coco:
        write_bytes(out / "annotations.json", annotations.encode())
    print_summary(len(images), failed, out)
    return failed


def mask_settings(
    method: str | None, threshold: float | None, only_tags: bool, refine: Refine | None
) -> dict[str, object]:
    """Options as settings of a recipe; what was not asked for is left to the recipe.

    Raises:
        InputError: options that exclude each other.
    """
    asked: dict[str, object] = {}
    if method is not None:
        asked["method"] = method
    if only_tags and method == "cls-seg":
        raise InputError("cls-seg looks for tags only; leave out --only-tags, or choose another --method")
    if only_tags:
        asked["among"] = "tags"
    if threshold is not None:
        asked["prob_thd"] = threshold
    if refine is not None:
        asked["pamr_steps"] = 10 if refine is Refine.pamr else 0
        asked["crf"] = "cls-seg" if refine is Refine.crf else None
    return asked


def check_tags_known(recipe: MaskRecipe | TagFirstRecipe, tags_file: Path | None) -> None:
    """Refuse a recipe that must be told an image's tags where nothing tells them.

    Raises:
        InputError: naming what to give.
    """
    if recipe.needs_tags and tags_file is None:
        raise InputError(
            f"{recipe.name} is told each image's tags; give --tags-file FILE, or take a cls-seg/ recipe"
        )


def mask_formats(given: str) -> frozenset[str]:
    """What to write beside overlays.

    Raises:
        InputError: an unknown form, or no PNG.
    """
    formats = frozenset(part.strip() for part in given.split(","))
    if not formats <= {"png", "coco"} or "png" not in formats:
        raise InputError(f"--format is {given!r}; give png, or png,coco")
    return formats


def _not_ours(images: list[FoundImage], out: Path) -> list[FoundImage]:
    """Leave out what an earlier run wrote, where --out lies in a folder that is looked through."""
    written = [(out / folder).resolve() for folder in ("masks", "overlays")]
    kept = [
        image for image in images if not any(folder in image.path.resolve().parents for folder in written)
    ]
    if not kept:
        raise InputError(
            f"all images found are masks and overlays below {out}; give the photos, or another --out"
        )
    return kept


def _classes(segmenter: Segmenter) -> str:
    """What the indices mean, and all that it takes to make the masks again."""
    recipe, clip = segmenter.recipe, segmenter.clip
    texts = [line.split(", ") for line in recipe.words]
    if recipe.background_names is not None:
        texts.insert(0, list(recipe.background_names))
    classes = [
        {"index": index, "name": name, "texts": own}
        for index, (name, own) in enumerate(zip(segmenter.words, texts, strict=True))
    ]
    settings = {key: value for key, value in recipe.flat().items() if key not in ("words", "background")}
    described = {
        "tagmask": __version__,
        "weights": clip.name,
        "activation": clip.activation,
        "precision": clip.precision,
        "ignore_index": ignore_index_for(len(classes)),
        "classes": classes,
        "settings": settings,
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"
