"""What `tagmask improve` does for the student that is trained on a run's masks, in the miniature world.

Run by `python -m benchmarks.review --only student`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

import tagmask
from benchmarks.review_server import improve_run, mask_run, run_tagmask
from benchmarks.weak import count, settings, write_images
from tagmask.data.miniature import scene_mask
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.runtime.folders import FoundImage
from tagmask.weak.steps import train_student
from tagmask.weak.students.student import Student

__all__ = ["student"]

IMAGES, TESTED, STEPS, CORRECTED = 120, 100, 300, 10
"""Training images, test scenes, steps of 8 crops, and masks that are corrected."""


def student(folder: Path, small: bool) -> Iterator[str]:
    """Yield a table: mIoU of a run's masks, and of a student trained on them, on scenes that nobody masked.

    SCLIP masks the training scenes for all 24 words. A student is trained on these masks; then on the same
    with the ten of lowest confidence replaced by the truth; then on the run that `tagmask improve` made from
    those ten. So the second row is what the ten masks are worth by themselves. All students start from the
    bundled model's image tower, see the same crops in the same order, and train for as many steps.
    """
    images, tested, steps, corrected = (8, 4, 4, 2) if small else (IMAGES, TESTED, STEPS, CORRECTED)
    photos = folder / "photos"
    found = write_images(photos, images)
    run = mask_run(photos, folder / "run", CLASS_NAMES, "--no-overlay")
    yield f"{images} training scenes, {steps} steps, {tested} test scenes, {corrected} masks corrected:"
    yield ""
    yield "| trained on | mIoU of these masks | mIoU of the student |"
    yield "|---|---|---|"
    yield _row("the run's masks", found, run, folder / "plain", steps, tested)
    run_tagmask("import", str(run), "--from", "folder", str(_truths(run, corrected, folder / "truths")))
    yield _row(f"the same, {corrected} corrected", found, run, folder / "corrected", steps, tested)
    better = folder / "better"
    if not improve_run(run, better):
        yield f"| improved by these {corrected} | nothing was learned that helps | |"
        return
    yield _row(f"improved by these {corrected}", found, better, folder / "improved", steps, tested)


def _truths(run: Path, corrected: int, folder: Path) -> Path:
    """Write the true masks of a run's least confident images, as a person would return them."""
    (folder / "masks").mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(("background", *CLASS_NAMES)) + "\n")
    with tagmask.Run(run) as opened:
        rows = sorted(opened, key=lambda row: (row.confidence or 0.0, row.key))[:corrected]
    for row in rows:
        mask = scene_mask(int(row.source.stem))
        PILImage.fromarray(mask.astype(np.uint8)).save(folder / "masks" / f"{row.name}.png")
    return folder


def _row(name: str, found: Sequence[FoundImage], run: Path, out: Path, steps: int, tested: int) -> str:
    with tagmask.Run(run) as opened:
        masks = count((opened.mask(row), scene_mask(int(row.source.stem))) for row in opened)
    config = settings("student/miniature", (), found[0].path.parent, run, steps)
    trained = Student(train_student(config, out))
    scenes = ((unseen_scene(seed).image, scene_mask(seed)) for seed in range(tested))
    scored = count((trained(image).labels, truth) for image, truth in scenes)
    return f"| {name} | {100 * masks.miou():.1f} | {100 * scored.miou():.1f} |"
