"""From image tags to a student in the miniature world: mIoU of seeds, pseudo-masks and the student.

    python -m benchmarks.weak FOLDER [--images N] [--test N] [--steps N] [--student-steps N]
        [--ablation N]

No mask is read but to score. The pictures are scenes that the bundled CLIP was never trained on; the student
is scored on scenes that nothing here was trained on. Every step goes on where it was stopped. With
--ablation, WeakCLIP is trained anew with some of its parts or losses, for so many steps, on half of the
pictures, and looks at them once, without a CRF.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image as PILImage

import tagmask
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.data.miniature import scene_mask, scene_tags
from tagmask.masks import read_index_png
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.runtime.folders import FoundImage
from tagmask.weak.config import TrainConfig
from tagmask.weak.config_files import load_config
from tagmask.weak.mask_folder import MaskSource, mask_file, write_masks
from tagmask.weak.seeds import from_segmenter
from tagmask.weak.steps import PseudoSettings, pseudo_source, train_student, train_weakclip
from tagmask.weak.students.student import Student

FIRST = 2000
"""Seed of the first picture; those of the test begin at 0."""

Tags = dict[str, tuple[int, ...]]

ABLATION = {
    "seed loss": ("loss.crf=0", "loss.contrast=0"),
    "seed + CRF": ("loss.contrast=0",),
    "seed + CRF + contrast": (),
    "co-attention alone, no prompts": ("model.contexts=0", 'model.decoder="none"'),
    "+ learnable prompts": ('model.decoder="none"',),
    "+ pyramid, plain decoder": ('model.decoder="plain"',),
}
"""What is set, row by row. The last rows add parts; the whole is the third row."""


def drawn(folder: Path, count: int) -> list[FoundImage]:
    """Pictures of unseen scenes, written once."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(FIRST, FIRST + count):
        path = folder / f"{seed}.png"
        if not path.exists():
            PILImage.fromarray(unseen_scene(seed).image).save(path)
        found.append(FoundImage(path, PurePosixPath(path.name)))
    return found


def written(images: Sequence[FoundImage], source: MaskSource, folder: Path) -> None:
    """All masks; a picture that fails stops the run."""
    for outcome in write_masks(images, source, folder):
        if outcome.error:
            raise SystemExit(f"{outcome.image.path}: {outcome.error}")


def miou_of(images: Sequence[FoundImage], folder: Path) -> str:
    """Of a folder of masks."""
    return scored(
        (read_index_png(mask_file(folder, image.path.stem)), scene_mask(int(image.path.stem)))
        for image in images
    )


def scored(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> str:
    """Mean IoU and share of right pixels."""
    matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
    for labels, truth in pairs:
        matrix.update(labels, truth)
    return f"{100 * matrix.miou():.1f} | {100 * matrix.pixel_accuracy():.1f} %"


def settings(name: str, changes: Sequence[str], images: Path, seeds: Path, steps: int) -> TrainConfig:
    """A shipped configuration, for these folders."""
    config = load_config(name, list(changes))
    data = replace(config.data, images=str(images), seeds=str(seeds))
    return replace(config, data=data, schedule=replace(config.schedule, steps=steps))


def main() -> None:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--student-steps", type=int, default=1000)
    parser.add_argument("--ablation", type=int, default=0, metavar="STEPS", help="of each of its rows")
    asked = parser.parse_args()
    here: Path = asked.folder
    images = drawn(here / "images", asked.images)
    tags: Tags = {image.path.stem: scene_tags(int(image.path.stem)) for image in images}
    clip = tagmask.load("miniature")
    segmenter = tagmask.Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, method="cls-seg")
    began = time.monotonic()

    def say(what: str, figures: str) -> None:
        print(f"| {what} | {figures} | {(time.monotonic() - began) / 60:.1f} |", flush=True)

    print("| | mIoU | pixels right | minutes |\n|---|---|---|---|")
    written(images, from_segmenter(segmenter, tags), here / "seeds")
    say(f"seeds: CLIP-ES, true tags, {len(images)} pictures", miou_of(images, here / "seeds"))
    config = settings("weakclip/miniature", (), here / "images", here / "seeds", asked.steps)
    train_weakclip(config, here / "weakclip")
    say(f"WeakCLIP, {asked.steps} steps", " | ")
    views = PseudoSettings(scales=(0.75, 1.0, 1.25))
    written(images, pseudo_source(here / "weakclip", views), here / "pseudo")
    say("its pseudo-masks, 3 sizes, mirrored, CRF", miou_of(images, here / "pseudo"))
    short = clip.precision if clip.precision == "bfloat16" else "float32"  # where it is fast here
    changes = [f'run.precision="{short}"']
    config = settings("student/miniature", changes, here / "images", here / "pseudo", asked.student_steps)
    train_student(config, here / "student")
    student = Student.load(here / "student" / "model.safetensors")
    say(
        f"student, {asked.student_steps} steps, {asked.test} unseen scenes",
        scored((student(unseen_scene(seed).image).labels, scene_mask(seed)) for seed in range(asked.test)),
    )
    say(
        "the seeds' way on the same scenes",
        scored(
            (segmenter(unseen_scene(seed).image, tags=list(scene_tags(seed))).labels, scene_mask(seed))
            for seed in range(asked.test)
        ),
    )
    if asked.ablation:
        half = images[: len(images) // 2]
        folder = here / "half"
        drawn(folder, len(half))
        written(half, from_segmenter(segmenter, tags), here / "half-seeds")
        say(f"ablation: seeds of {len(half)} pictures", miou_of(half, here / "half-seeds"))
        for i, (row, changes) in enumerate(ABLATION.items()):
            run = here / f"ablation-{i}"
            train_weakclip(
                settings("weakclip/miniature", changes, folder, here / "half-seeds", asked.ablation), run
            )
            once = PseudoSettings(scales=(1.0,), flip=False, crf=None)
            written(half, pseudo_source(run, once), here / f"ablation-{i}-masks")
            say(row, miou_of(half, here / f"ablation-{i}-masks"))


if __name__ == "__main__":
    main()
