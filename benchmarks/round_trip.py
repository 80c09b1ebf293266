"""The round trip of masks through each export format: written by tagmask, opened by other tools' libraries.

    python -m benchmarks.round_trip [PHOTOS] [--count N]

Photos are those of a folder, by default ../shared/data; without it, scenes of the miniature world are drawn.
The miniature model makes the masks. The libraries come from the environments of `make bridges`; formats that
none of them opens are read by the tests' own reader. Prints a table in Markdown.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image
from tests.bridges.openings import OPENINGS, Masks, large_ious
from tests.exporters.readers import READERS

from tagmask.exporters import EXPORTERS, Export, ExportOptions
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.regions import class_regions
from tagmask.runs.reader import Run


@dataclass(frozen=True)
class Truth:
    """What a run says of an image."""

    names: tuple[str, ...]
    """The name that it may have in a format: with folders or without, with its ending or without."""
    masks: Mapping[str, np.ndarray]


def main() -> None:
    """Make the run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        photos = chosen(options.photos, options.count) or drawn(here / "photos", options.count)
        words = [part for word in CLASS_NAMES for part in ("-w", word)]
        command = ["mask", *map(str, photos), *words, "--weights", "miniature", "--no-overlay", "-o"]
        subprocess.run(
            [sys.executable, "-m", "tagmask", *command, str(here / "run")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        truth = list(truths(here / "run"))
        regions = sum(len(image.masks) for image in truth)
        print(f"{len(truth)} photos, {regions} masks of a word in a photo\n")
        print("| format | files | MB | opened by | photos | masks equal | least IoU over 100 pixels |")
        print("|---|---|---|---|---|---|---|")
        for line in rows(here / "run", here / "exports", truth):
            print(line, flush=True)
        print("\n(*) draws a polygon's line too: one pixel more on the right and below. Give it run lengths.")


def chosen(folder: Path, count: int) -> list[Path]:
    """Return photos spread evenly over those of a folder."""
    found = sorted(folder.rglob("*.jpg"))
    return [found[i * len(found) // count] for i in range(min(count, len(found)))] if found else []


def drawn(folder: Path, count: int) -> list[Path]:
    """Write scenes of the miniature world, and return the files."""
    folder.mkdir()
    files = [folder / f"scene {seed:02}.png" for seed in range(count)]
    for seed, file in enumerate(files):
        PIL.Image.fromarray(unseen_scene(seed).image).save(file)
    return files


def truths(run_path: Path) -> Iterator[Truth]:
    """Yield the masks of a run, from its index PNGs."""
    with Run(run_path) as run:
        export = Export(run, ExportOptions())
        for image in export:
            names = (image.name, image.flat_name)
            stems = tuple(str(PurePosixPath(name).with_suffix("")) for name in names)
            found = class_regions(image.labels, export.first, len(export.words))
            yield Truth(
                (*names, *stems), {export.words[region.label]: region.full(image.size) for region in found}
            )


def rows(run_path: Path, out: Path, truth: list[Truth]) -> Iterator[str]:
    """Yield a row for each format and each library that opens it."""
    opened = {opening.format for opening in OPENINGS}
    for number, opening in enumerate(OPENINGS):
        target = opening.export(run_path, out / str(number))
        library, read = opening.open(target)
        given = "".join(f" --{name}" for name in opening.options)
        mark = " (*)" if opening.grows else ""
        yield row(f"{opening.format}{given}", target, f"{library}{mark}", read, truth)
    for name in EXPORTERS:
        if name not in opened and name in READERS:
            with Run(run_path) as run:
                target = run.export(name, out / name)
            yield row(name, target, "the tests' reader", READERS[name](target), truth)


def row(name: str, target: Path, library: str, read: Masks, truth: list[Truth]) -> str:
    """Return one row: what was written, and how it came back."""
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    equal = total = 0
    ious = [1.0]
    for image in truth:
        words = next((read[known] for known in image.names if known in read), {})
        total += len(image.masks)
        for word, mask in image.masks.items():
            found = words.get(word, np.zeros_like(mask))
            equal += bool((found == mask).all())
            ious += large_ious(found, mask)
    return (
        f"| {name} | {len(files):,} | {megabytes:.2f} | {library} | {len(read)} | {equal} of {total} | "
        f"{min(ious):.4f} |"
    )


if __name__ == "__main__":
    main()
