"""From image tags to a student model in the miniature world: mIoU of seeds, pseudo-masks and student.

    python -m benchmarks.weak FOLDER [--images N] [--test N] [--steps N] [--student-steps N]

It prints a table, and writes FOLDER/training.jpg: some training images with their masks at each step.
Ground-truth masks are used only for scoring. The training images are scenes that the bundled CLIP was not
trained on; the student is scored on scenes that no model here was trained on. Every step resumes where it
stopped. `benchmarks.weak_ablation` trains WeakCLIP without some of its parts or losses.
"""

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image as PILImage

import tagmask
from benchmarks.figures.stamps import weights_hash
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.data.miniature import scene_mask, scene_tags
from tagmask.files import write_bytes
from tagmask.masks import read_index_png
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.report.contact_sheet import Heading, Row, contact_sheet, resize_longest
from tagmask.results import Segmentation
from tagmask.runtime.folders import FoundImage
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config
from tagmask.weak.mask_folder import MaskSource, write_masks
from tagmask.weak.seeds import from_segmenter
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.student import Student

SHOWN, LONGEST = 3, 240
"""Images in the picture, and the longest side of a cell in pixels."""
FIRST = 2000
"""Seed of the first training scene; test scenes start at 0."""

Tags = dict[str, tuple[int, ...]]


def write_images(folder: Path, count: int) -> list[FoundImage]:
    """Write images of unseen scenes, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for seed in range(FIRST, FIRST + count):
        path = folder / f"{seed}.png"
        if not path.exists():
            PILImage.fromarray(unseen_scene(seed).image).save(path)
        images.append(FoundImage(path, PurePosixPath(path.name)))
    return images


def write_all_masks(images: Sequence[FoundImage], source: MaskSource, folder: Path) -> None:
    """Write all masks; stop at the first image that fails."""
    for outcome in write_masks(images, source, folder):
        if outcome.error:
            raise SystemExit(f"{outcome.task.found.path}: {outcome.error}")


def count_folder(images: Sequence[FoundImage], folder: Path) -> ConfusionMatrix:
    """Count the pixels of a folder of masks by true and predicted class."""
    return count(
        (read_index_png(folder / "masks" / f"{image.path.stem}.png"), scene_mask(int(image.path.stem)))
        for image in images
    )


def count(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> ConfusionMatrix:
    """Count pixels by true and predicted class."""
    matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
    for labels, truth in pairs:
        matrix.update(labels, truth)
    return matrix


def score(matrix: ConfusionMatrix) -> str:
    """Return mean IoU and pixel accuracy as table cells."""
    return f"{100 * matrix.miou():.1f} | {100 * matrix.pixel_accuracy():.1f} %"


def settings(name: str, changes: Sequence[str], images: Path, seeds: Path, steps: int) -> TrainConfig:
    """Return a shipped configuration for these folders."""
    config = load_config(name, list(changes))
    data = replace(config.data, images=str(images), seeds=str(seeds))
    return replace(config, data=data, schedule=replace(config.schedule, steps=steps))


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--student-steps", type=int, default=1000)
    options = parser.parse_args()
    here: Path = options.folder
    images = write_images(here / "images", options.images)
    tags: Tags = {image.path.stem: scene_tags(int(image.path.stem)) for image in images}
    clip = tagmask.load("miniature")
    segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, method="cls-seg")
    start = time.monotonic()

    def print_row(name: str, figures: str) -> None:
        print(f"| {name} | {figures} | {(time.monotonic() - start) / 60:.1f} |", flush=True)

    print(f"With the bundled model `{weights_hash()}`:\n")
    print("| | mIoU | pixels right | minutes |\n|---|---|---|---|")
    write_all_masks(images, from_segmenter(segmenter, tags), here / "seeds")
    print_row(
        f"seeds: CLIP-ES, ground-truth tags, {len(images)} images",
        score(count_folder(images, here / "seeds")),
    )
    config = settings("weakclip/miniature", (), here / "images", here / "seeds", options.steps)
    train_weakclip(config, here / "weakclip")
    print_row(f"WeakCLIP, {options.steps} steps", " | ")
    views = PseudoSettings(scales=(0.75, 1.0, 1.25))
    write_all_masks(images, pseudo_source(here / "weakclip", views), here / "pseudo")
    print_row("its pseudo-masks, 3 scales, flip, CRF", score(count_folder(images, here / "pseudo")))
    precision = (
        clip.precision if clip.precision == "bfloat16" else "float32"
    )  # bfloat16 only where it is fast
    changes = [f'run.precision="{precision}"']
    config = settings("student/miniature", changes, here / "images", here / "pseudo", options.student_steps)
    train_student(config, here / "student")
    student = Student(here / "student" / "model.safetensors")
    unseen = [(unseen_scene(seed).image, seed) for seed in range(options.test)]
    print_row(
        f"student, {options.student_steps} steps, {options.test} unseen scenes",
        score(count((student(image).labels, scene_mask(seed)) for image, seed in unseen)),
    )
    print_row(
        "the seeds' method on the same scenes",
        score(
            count(
                (segmenter(image, tags=list(scene_tags(seed))).labels, scene_mask(seed))
                for image, seed in unseen
            )
        ),
    )
    file = io.BytesIO()
    training_sheet(here, images, student).save(file, "JPEG", quality=88, optimize=True)
    write_bytes(here / "training.jpg", file.getvalue())


def training_sheet(folder: Path, images: Sequence[FoundImage], student: Student) -> PILImage.Image:
    """Draw the first images in rows: image, seed, pseudo-mask, the student's mask."""
    rows = []
    for image in images[:SHOWN]:
        pixels = unseen_scene(int(image.path.stem)).image
        masks = [
            read_index_png(folder / step / "masks" / f"{image.path.stem}.png") for step in ("seeds", "pseudo")
        ]
        results = [Segmentation(("background", *CLASS_NAMES), mask, None, True, "float32") for mask in masks]
        overlays = [np.asarray(result.overlay(pixels)) for result in (*results, student(pixels))]
        rows.append(Row(tuple(resize_longest(cell, LONGEST) for cell in (pixels, *overlays))))
    return contact_sheet([Heading(name) for name in ("image", "seed", "pseudo-mask", "student")], rows)


if __name__ == "__main__":
    main()
