"""What `tagmask mask` does, writes and prints."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import typer

from tagmask import __version__
from tagmask.api import Segmenter
from tagmask.cli.talk import bold, said_if_stopped, say_failed, sum_up, watched
from tagmask.errors import InputError
from tagmask.files import ensure_folder, write_bytes
from tagmask.images import read_image
from tagmask.results import Segmentation, nothing_label
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.runtime.jobs import run

__all__ = ["mask_images"]

_OVERLAY_QUALITY = 92


def mask_images(
    images: list[FoundImage],
    make: Callable[[], Segmenter],
    *,
    out: Path,
    overlays: bool,
) -> int:
    """Mask every image, print as they come, and return how many failed.

    Writes `classes.json` first, then for each image `masks/NAME.png` and `overlays/NAME.jpg`.
    """
    images = _not_ours(images, out)
    ensure_folder(out)
    segmenter = make()
    write_bytes(out / "classes.json", _classes(segmenter).encode())
    names = dict(zip(images, output_names(images), strict=True))

    def work(image: FoundImage) -> tuple[Path, Segmentation]:
        pixels = read_image(image.path)
        found = segmenter(pixels)
        if overlays:
            buffer = io.BytesIO()
            found.overlay(pixels).save(buffer, "JPEG", quality=_OVERLAY_QUALITY)
            write_bytes(out / "overlays" / f"{names[image]}.jpg", buffer.getvalue())
        mask = out / "masks" / f"{names[image]}.png"
        found.save(mask)  # last, so that an image with a mask is an image that is done
        return mask, found

    failed = 0
    with said_if_stopped(out):
        for outcome in watched(run(images, work), len(images)):
            if outcome.result is None:
                failed += 1
                say_failed(outcome.image.path, outcome.error)
                continue
            mask, found = outcome.result
            shares = ", ".join(f"{word} {share:.1%}" for word, share in found.shares().items())
            typer.echo(f"{bold(str(outcome.image.path))}: {shares or 'nothing'} -> {mask}")
    sum_up(len(images), failed, out)
    return failed


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
    lines = [", ".join(recipe.background)] if recipe.background else []
    lines += recipe.words
    classes = [
        {"index": index, "name": name, "texts": line.split(", ")}
        for index, (name, line) in enumerate(zip(segmenter.words, lines, strict=True))
    ]
    settings = {key: value for key, value in asdict(recipe).items() if key not in ("words", "background")}
    described = {
        "tagmask": __version__,
        "weights": clip.name,
        "activation": clip.activation,
        "precision": clip.precision,
        "nothing": nothing_label(len(classes)),
        "classes": classes,
        "settings": settings,
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"
