"""Learning before `tagmask tag`: adaptation to all images (--adapt), thresholds from labels (--calibrate)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from tagmask.api import Tagger
from tagmask.bench.tag_metrics import f1_of_decisions
from tagmask.catalogue import method_of
from tagmask.cli.console import message, with_progress
from tagmask.errors import InputError, TagmaskError
from tagmask.images import read_image
from tagmask.pipelines.adaptation import write_adaptation
from tagmask.runtime.folders import FoundImage, find_images
from tagmask.runtime.tag_files import check_names, read_tags, tagged
from tagmask.settings.files import write_recipe
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Image

__all__ = ["TagAdaptation"]


@dataclass(frozen=True)
class TagAdaptation:
    """The options of `tagmask tag` that learn from images."""

    images: Sequence[FoundImage]
    adapt: bool
    adapter: Path | None
    calibrate: Path | None
    labels: Path | None
    save_recipe: Path | None

    @property
    def adapter_to_load(self) -> Path | None:
        """The adaptation file of an earlier run; None if this run adapts."""
        return None if self.adapt else self.adapter

    def check(self, recipe: TagRecipe) -> None:
        """Check that the options fit together, before any weights are loaded.

        Raises:
            InputError: the options do not fit together.
        """
        adapts = method_of(recipe).adapts
        if not self.images and (self.adapt or not (self.calibrate and self.save_recipe)):
            raise InputError(
                "No images are given. Give files or folders, or --calibrate DIR with --save-recipe FILE."
            )
        if adapts and not self.adapt and self.adapter is None:
            raise InputError(
                f"{recipe.name} must be adapted to a set of images first. Give --adapt to adapt to these "
                "images, or --adapter FILE to use an earlier adaptation."
            )
        if not adapts and (self.adapt or self.adapter is not None):
            raise InputError(
                f"{recipe.name} does not adapt to a set of images. Give --method piaa or sparc, or leave out "
                "--adapt and --adapter."
            )
        if self.labels is not None and self.calibrate is None:
            raise InputError("--labels needs --calibrate. Give --calibrate DIR.")

    def apply(self, tagger: Tagger) -> Tagger:
        """Return the tagger after adaptation and calibration, and write the requested files.

        Raises:
            InputError: there are too few images, or the labels do not fit them.
            OutputError: a file cannot be written.
        """
        if self.adapt:
            tagger = tagger.adapt(self._readable_images())
            if self.adapter is not None and tagger.adaptation is not None:
                write_adaptation(tagger.adaptation, self.adapter)
                message(f"adaptation written to {self.adapter}")
        if self.calibrate is not None:
            tagger = self._calibrate(tagger, self.calibrate)
        if self.save_recipe is not None:
            write_recipe(tagger.recipe, self.save_recipe)
            message(f"recipe written to {self.save_recipe}")
        return tagger

    def _readable_images(self) -> Iterator[Image]:
        """Yield the readable images; the others are reported when they are tagged."""
        count = 0
        message("adapting to all images")
        for image in with_progress(self.images, len(self.images)):
            try:
                pixels = read_image(image.path)
            except TagmaskError:
                continue
            count += 1
            yield pixels
        message(f"adapted to {count} images")

    def _calibrate(self, tagger: Tagger, folder: Path) -> Tagger:
        labels = self._read_labels(folder, len(tagger.words))
        paths = [path for path, _ in labels]
        predictions = [tagger(path) for path in with_progress(paths, len(paths))]
        tagger = tagger.calibrate(paths, [tags for _, tags in labels], tagged=predictions)
        truth = np.zeros((len(labels), len(tagger.words)), dtype=bool)
        for row, (_, tags) in enumerate(labels):
            truth[row, list(tags)] = True
        _print_thresholds(tagger, np.stack([tags.scores for tags in predictions]), truth)
        return tagger

    def _read_labels(self, folder: Path, classes: int) -> list[tuple[Path, tuple[int, ...]]]:
        file = self.labels or folder / "tags.txt"
        tags = read_tags(file, classes)
        images = tagged(find_images([folder]), tags)
        if not images:
            raise InputError(f"{file} names no image in {folder}. Give lines such as '2007_000032 0 14'.")
        check_names([line for _, line, _ in images])
        missing = sorted(set(tags) - {line for _, line, _ in images})
        if missing:
            message(f"note: {len(missing)} images of {file} are not in {folder}, such as {missing[0]}")
        return [(image.path, tuple(of_image)) for image, _, of_image in images]


def _print_thresholds(
    tagger: Tagger, scores: Float[np.ndarray, "n c"], truth: Bool[np.ndarray, "n c"]
) -> None:
    thresholds = tagger.recipe.thresholds
    message(f"thresholds from {len(truth)} labelled images (F1 is measured on the same images):")
    for c, word in enumerate(tagger.words):
        threshold = thresholds[c]
        if threshold is None:
            continue
        score = f1_of_decisions(scores[:, c : c + 1] > threshold, truth[:, c : c + 1]).overall
        message(f"  {threshold:9.4f}  {word}  (F1 {score.f1:.2f}, in {int(truth[:, c].sum())} images)")
    uncalibrated = [
        word for word, threshold in zip(tagger.words, thresholds, strict=True) if threshold is None
    ]
    if uncalibrated:
        message(
            f"  no threshold for {', '.join(uncalibrated)} (in none or all of these images): "
            "the default threshold is used"
        )
