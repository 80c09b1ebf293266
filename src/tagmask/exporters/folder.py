"""Write masks as a folder that tagmask itself reads: to train on, to score against, or to correct by hand."""

from pathlib import Path

from tagmask.data.pairs import IMAGE_SUFFIXES
from tagmask.errors import InputError
from tagmask.exporters.export import Export
from tagmask.exporters.label_images import label_png
from tagmask.exporters.targets import new_folder

__all__ = ["write_folder"]


def write_folder(export: Export, target: Path) -> None:
    """Write `images/`, `masks/` and `classes.txt`; or with splits, one such folder for each.

    `tagmask data check folder DIR` reads it; `--masks` and `--val` of `tagmask train` take it or its masks.
    Masks are index PNGs: everything in them is kept but the scores. Ignored pixels are 255, or above 255
    classes 65535. Photos keep their format, except that endings that are not read there become .jpg or .png.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: a name that `classes.txt` cannot hold, the run has no masks, a photo is gone or has
            changed, or something is in the way.
        OutputError: a file cannot be written.
    """
    words = export.words
    for word in words:
        if not word.strip() or len(word.splitlines()) != 1 or word != word.strip():
            raise InputError(
                f"The word {word!r} cannot stand in classes.txt, which has one word per line. Run `tagmask "
                "mask` with another word."
            )
    classes = "".join(f"{word}\n" for word in words).encode("utf-8", "backslashreplace")
    with new_folder(target) as folder:
        roots = {split: folder / split if export.options.splits else folder for split in export.splits}
        for root in roots.values():
            for name in ("images", "masks"):
                (root / name).mkdir(parents=True)
            (root / "classes.txt").write_bytes(classes)
        for image in export:
            root = roots[image.split]
            image.write_photo(root / "images" / f"{image.stem}{image.suffix_among(IMAGE_SUFFIXES)}")
            mask = root / "masks" / f"{image.stem}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            mask.write_bytes(label_png(image, len(words), export.ignore_index))
