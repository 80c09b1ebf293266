"""Seeds from tags alone in the miniature world: mIoU of MCTformer's, and of CLS-SEG's on the same images.

    python -m benchmarks.mctformer FOLDER [--images N] [--steps N] [--version V] [--random]

MCTformer starts from the bundled CLIP's image tower (or, with --random, from random weights) and is trained
on the images' tags. Ground-truth masks are used only for scoring and, in the row that says so, to choose the
threshold. Training resumes where it stopped; the minutes are those since the last start.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import tagmask
from benchmarks.figures.stamps import weights_hash
from benchmarks.weak import count_folder, score, write_all_masks, write_images
from tagmask.data.miniature import scene_mask, scene_tags
from tagmask.files import write_bytes
from tagmask.masks import index_png
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.papers.psa import BACKGROUND_SCORE
from tagmask.weak.config_files import load_config
from tagmask.weak.mctformer_steps import train_mctformer
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.seeds import from_segmenter, seed_source


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--version", default="v2", choices=("v1", "v2", "plus"))
    parser.add_argument("--random", action="store_true")
    options = parser.parse_args()
    here: Path = options.folder
    images = write_images(here / "images", options.images)
    tags = {image.path.stem: scene_tags(int(image.path.stem)) for image in images}
    lines = (" ".join([name, *map(str, each)]) for name, each in tags.items())
    write_bytes(here / "tags.txt", ("\n".join(lines) + "\n").encode())
    for image in images:
        truth = index_png(scene_mask(int(image.path.stem)))
        write_bytes(here / "truth" / f"{image.path.stem}.png", truth)
    changes = [
        f"steps={options.steps}",
        f"mctformer.version={options.version}",
        f"images={here / 'images'}",
        f"tags={here / 'tags.txt'}",
        f"model.words={list(CLASS_NAMES)}",
        *(["model.weights="] if options.random else []),
    ]
    name = f"{options.version}{'-random' if options.random else ''}"
    run = here / f"mctformer-{name}"
    start = time.monotonic()
    train_mctformer(load_config("mctformer/miniature", changes), run)
    minutes = (time.monotonic() - start) / 60
    what = f"MCTformer {options.version}, {options.steps} steps on {len(images)} images"
    print(f"{what}, with the bundled model `{weights_hash()}`: {minutes:.1f} minutes")
    print("| | mIoU | pixel accuracy |\n|---|---|---|")

    given = SeedOptions(None, tags_file=here / "tags.txt", mctformer=run, threshold=BACKGROUND_SCORE)
    best = replace(given, threshold=None, truth=here / "truth")
    for seeds, how in ((given, "given"), (best, "best on these masks")):
        folder = here / f"seeds-{name}-{how.split()[0]}"
        source = seed_source(images, seeds, lambda: tagmask.load("miniature"), folder)
        write_all_masks(images, source, folder)
        row = f"MCTformer, threshold {source.settings['threshold']} ({how})"
        print(f"| {row} | {score(count_folder(images, folder))} |", flush=True)
    clip = tagmask.load("miniature")
    segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, method="cls-seg")
    write_all_masks(images, from_segmenter(segmenter, tags), here / "seeds-cls-seg")
    print(f"| CLS-SEG, ground-truth tags | {score(count_folder(images, here / 'seeds-cls-seg'))} |")


if __name__ == "__main__":
    main()
