"""Write masks as a data set of Hugging Face: an image folder with metadata, or Parquet shards."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from tagmask.checks import check_installed
from tagmask.errors import InputError
from tagmask.exporters.export import Export, ExportedImage
from tagmask.exporters.label_images import label_png
from tagmask.exporters.options import ExportOptions
from tagmask.exporters.targets import new_folder
from tagmask.strict_json import json_bytes, json_text

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

__all__ = ["needs_pyarrow", "write_hf"]

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".ppm"))
"""Endings under which `datasets` finds images."""

_SHARD = 400 << 20
"""Bytes of images in a Parquet shard, about."""
_ROW_GROUP = 32 << 20
"""Bytes of images that are held before they are written."""


def needs_pyarrow(options: ExportOptions) -> None:
    """Check that pyarrow is installed if the options need it, before any work is done.

    Raises:
        InputError: it is not; the message gives the command that installs it.
    """
    if options.parquet:
        check_installed("Writing Parquet shards", "parquet")


def write_hf(export: Export, target: Path) -> None:
    """Write what `datasets.load_dataset(DIR)` reads: columns image, mask, name and tags.

    Per split `SPLIT/metadata.jsonl` with `file_name`, `mask_file_name`, `name` and `tags`, and `images` and
    `masks`; with the option `parquet`, `data/SPLIT-00000-of-00001.parquet` with everything in it. Files have
    no folders in their names, since some folders mean a split there; `name` has them. `id2label.json` names
    the values of masks, and `README.md` the files of each split.

    Masks are index PNGs: everything in them is kept but the scores. Ignored pixels are 255, or above 255
    classes 65535. Photos keep their format, except that endings unknown to `datasets` become .jpg or .png.
    Without photos, Parquet has no column image, and metadata name photos that you put there.

    Args:
        export: what to export.
        target: the folder to write.

    Raises:
        InputError: the run has no masks, Parquet without pyarrow or with links, a split of images without
            tags, a photo is gone or has changed, or something is in the way.
        OutputError: a file cannot be written.
    """
    parquet = export.options.parquet
    needs_pyarrow(export.options)
    if parquet and export.photo_choice == "link":
        raise InputError("Parquet shards cannot hold links. Give --copy-images or --no-images.")
    id2label = {str(label): word for label, word in enumerate(export.words)}
    with new_folder(target) as folder:
        if parquet:
            _write_shards(export, folder)
            card = _card(export.splits, "data/{}-*.parquet")
        else:
            card = _card(_write_files(export, folder), "{}/**")
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / "id2label.json").write_text(json_text(id2label, indent=2) + "\n", encoding="utf-8")


def _card(splits: Iterable[str], files: str) -> str:
    """Return the data set's card, which names the files of each split."""
    lines = "".join(f"  - split: {name}\n    path: {files.format(name)}\n" for name in splits)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{lines}---\n\nMasks of tagmask.\n"


def _tags(image: ExportedImage, words: Sequence[str]) -> list[str]:
    """Return the tags of the run; of a corrected mask, or if there are none, the classes in the mask."""
    if image.row.tags is not None and not image.corrected:
        return list(image.row.tags)
    return [words[region.label] for region in image.regions("class")]


def _row(image: ExportedImage, words: Sequence[str]) -> dict[str, object]:
    return {"name": f"{image.stem}{image.suffix}", "tags": _tags(image, words)}


def _file_name(image: ExportedImage) -> str:
    return f"{image.flat_stem}{image.suffix_among(_SUFFIXES)}"


def _write_files(export: Export, folder: Path) -> Collection[str]:
    """Write the image folder; return the splits that have images, since `datasets` reads no empty ones."""
    metadata: dict[str, BinaryIO] = {}
    tagged: set[str] = set()
    with ExitStack() as opened:
        for image in export:
            if image.split not in metadata:
                for name in ("images", "masks"):
                    (folder / image.split / name).mkdir(parents=True)
                file = (folder / image.split / "metadata.jsonl").open("wb")
                metadata[image.split] = opened.enter_context(file)
            photo, mask = f"images/{_file_name(image)}", f"masks/{image.flat_stem}.png"
            image.write_photo(folder / image.split / photo)
            png = label_png(image, len(export.words), export.ignore_index)
            (folder / image.split / mask).write_bytes(png)
            line = {"file_name": photo, "mask_file_name": mask, **_row(image, export.words)}
            metadata[image.split].write(json_bytes(line) + b"\n")
            if line["tags"]:
                tagged.add(image.split)
    untagged = sorted(metadata.keys() - tagged)
    if tagged and untagged:
        raise InputError(
            f"No image of the split {untagged[0]!r} has a tag, and `datasets` cannot read such a split next "
            "to others. Give --parquet, or another --seed."
        )
    return metadata.keys()


def _write_shards(export: Export, folder: Path) -> None:
    (folder / "data").mkdir()
    with ExitStack() as opened:
        shards = {split: _Shards(folder / "data", split, export, opened) for split in export.splits}
        for image in export:
            shards[image.split].add(image)
        for split in shards.values():
            split.finish()


class _Shards:
    """The Parquet files of one split. Rows are written in groups, so that few images are held at a time."""

    def __init__(self, folder: Path, split: str, export: Export, opened: ExitStack) -> None:
        import pyarrow

        self._folder, self._split, self._export, self._opened = folder, split, export, opened
        picture = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        pictures = ("image", "mask") if export.photo_choice == "copy" else ("mask",)
        fields = dict.fromkeys(pictures, picture)
        fields |= {"name": pyarrow.string(), "tags": pyarrow.list_(pyarrow.string())}
        features = {name: {"_type": "Image"} for name in pictures}
        self._schema = pyarrow.schema(fields).with_metadata(
            {"huggingface": json_text({"info": {"features": features}})}
        )
        self._rows: list[dict[str, object]] = []
        self._held = self._written = 0
        self._files: list[Path] = []
        self._writer: ParquetWriter | None = None

    def add(self, image: ExportedImage) -> None:
        """Add one image's row."""
        export = self._export
        mask = label_png(image, len(export.words), export.ignore_index)
        row: dict[str, object] = {"mask": {"bytes": mask, "path": f"{image.flat_stem}.png"}}
        row |= _row(image, export.words)
        self._held += len(mask)
        if export.photo_choice == "copy":
            name = _file_name(image)
            photo = image.photo_bytes(PurePosixPath(name).suffix)
            row["image"] = {"bytes": photo, "path": name}
            self._held += len(photo)
        self._rows.append(row)
        if self._held >= _ROW_GROUP:
            self._flush()

    def finish(self) -> None:
        """Write what is held, and name the files by their number."""
        if self._rows or not self._files:
            self._flush()
        self._close()
        for number, file in enumerate(self._files):
            file.rename(file.with_name(f"{self._split}-{number:05d}-of-{len(self._files):05d}.parquet"))

    def _flush(self) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        if self._writer is None:
            self._files.append(self._folder / f"{self._split}-{len(self._files)}.part")
            self._writer = self._opened.enter_context(ParquetWriter(self._files[-1], self._schema))
        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._written += self._held
        self._rows, self._held = [], 0
        if self._written >= _SHARD:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._written = None, 0
