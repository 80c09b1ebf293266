"""What `tagmask tag` learns before it tags: from all images (--adapt), from labelled ones (--calibrate)."""

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
from tagmask.runtime.tag_files import check_names, read_tags
from tagmask.settings.files import write_recipe
from tagmask.settings.recipes import TagRecipe
from tagmask.types import Image

__all__ = ["TagAdaptation"]


@dataclass(frozen=True)
class TagAdaptation:
    """What was asked for."""

    images: Sequence[FoundImage]
    adapt: bool
    adapter: Path | None
    calibrate: Path | None
    labels: Path | None
    save_recipe: Path | None

    @property
    def kept(self) -> Path | None:
        """The file of an earlier run to go by."""
        return None if self.adapt else self.adapter

    def check(self, recipe: TagRecipe) -> None:
        """Refuse what cannot be done, before anything is loaded.

        Raises:
            InputError: options that do not go together.
        """
        learns = method_of(recipe).adapts
        if not self.images and (self.adapt or not (self.calibrate and self.save_recipe)):
            raise InputError(
                "no images; give files or folders (only --calibrate DIR with --save-recipe FILE needs none)"
            )
        if learns and not self.adapt and self.adapter is None:
            raise InputError(
                f"{recipe.name} looks at a set of images before it tags any; give --adapt to learn from the "
                "images given, or --adapter FILE to go by what was learned before"
            )
        if not learns and (self.adapt or self.adapter is not None):
            raise InputError(
                f"{recipe.name} takes each image alone and learns nothing from a set; "
                "give --method piaa or sparc"
            )
        if self.labels is not None and self.calibrate is None:
            raise InputError("--labels is for --calibrate; give --calibrate DIR")

    def done(self, tagger: Tagger) -> Tagger:
        """The tagger after it has learned what was asked for, with everything kept that was to be kept.

        Raises:
            InputError: too few images to learn from, or labels that do not fit them.
            OutputError: a file that cannot be written.
        """
        if self.adapt:
            tagger = tagger.adapt(self._readable())
            if self.adapter is not None and tagger.adaptation is not None:
                write_adaptation(tagger.adaptation, self.adapter)
                message(f"what was learned is in {self.adapter}")
        if self.calibrate is not None:
            tagger = self._calibrated(tagger, self.calibrate)
        if self.save_recipe is not None:
            write_recipe(tagger.recipe, self.save_recipe)
            message(f"recipe written to {self.save_recipe}")
        return tagger

    def _readable(self) -> Iterator[Image]:
        """Images that can be read; the others are named when their turn to be tagged comes."""
        seen = 0
        message("looking at all images first")
        for image in with_progress(self.images, len(self.images)):
            try:
                pixels = read_image(image.path)
            except TagmaskError:
                continue
            seen += 1
            yield pixels
        message(f"learned from {seen} images")

    def _calibrated(self, tagger: Tagger, folder: Path) -> Tagger:
        labelled = self._labelled(folder, len(tagger.words))
        paths = [path for path, _ in labelled]
        tagged = [tagger(path) for path in with_progress(paths, len(paths))]
        tagger = tagger.calibrate(paths, [tags for _, tags in labelled], tagged=tagged)
        truth = np.zeros((len(labelled), len(tagger.words)), dtype=bool)
        for row, (_, tags) in enumerate(labelled):
            truth[row, list(tags)] = True
        _report(tagger, np.stack([each.scores for each in tagged]), truth)
        return tagger

    def _labelled(self, folder: Path, classes: int) -> list[tuple[Path, tuple[int, ...]]]:
        file = self.labels or folder / "tags.txt"
        known = read_tags(file, classes)
        images = [image for image in find_images([folder]) if image.path.stem in known]
        if not images:
            raise InputError(
                f"no image in {folder} is named in {file}; give lines such as '2007_000032 0 14'"
            )
        check_names([image.path.stem for image in images])
        absent = sorted(set(known) - {image.path.stem for image in images})
        if absent:
            message(f"note: {len(absent)} of the images in {file} are not in {folder}, {absent[0]} for one")
        return [(image.path, known[image.path.stem]) for image in images]


def _report(tagger: Tagger, scores: Float[np.ndarray, "n c"], truth: Bool[np.ndarray, "n c"]) -> None:
    thresholds = tagger.recipe.thresholds
    message(f"thresholds from {len(truth)} labelled images (F1 is on these same images):")
    for c, word in enumerate(tagger.words):
        threshold = thresholds[c]
        if threshold is None:
            continue
        one = f1_of_decisions(scores[:, c : c + 1] > threshold, truth[:, c : c + 1]).overall
        message(f"  {threshold:9.4f}  {word}  (F1 {one.f1:.2f}, in {int(truth[:, c].sum())} images)")
    left = [word for word, threshold in zip(tagger.words, thresholds, strict=True) if threshold is None]
    if left:
        message(
            f"  no threshold for {', '.join(left)}: in none of these images, or in all; the usual cut decides"
        )
