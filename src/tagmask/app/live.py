"""Masks redrawn with other words and settings, from frozen features where the method has some."""

import base64
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from jaxtyping import UInt8
from starlette.exceptions import HTTPException

from tagmask.api import Segmenter
from tagmask.app.described import described_classes, pixels_of
from tagmask.app.frozen_cache import FrozenCache
from tagmask.app.latest_jobs import LatestJobs, SupersededError, TooManyJobsError
from tagmask.app.mask_images import mask_png
from tagmask.app.photos import upright_photo
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.clip.load import Clip
from tagmask.errors import InputError, TagmaskError
from tagmask.masks import overlay_colours
from tagmask.pipelines.frozen import Frozen
from tagmask.pipelines.head import HEAD_FILE, read_head
from tagmask.results import Segmentation, ignore_index_for
from tagmask.runs.folder import write_correction
from tagmask.runs.ownership import FEATURES_FOLDER
from tagmask.runs.reader import Run
from tagmask.runs.recipe import any_run_recipe, run_segmenter
from tagmask.runs.rows import ImageRow
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe

__all__ = ["Live", "RedrawOptions"]

_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")

_TIMED: Final = 9
"""Redraws of which the median time is shown."""
_RETRY_SECONDS: Final = 2


@dataclass(frozen=True, kw_only=True)
class RedrawOptions:
    """What a person asks for; None: as in the run."""

    words: tuple[str, ...] | None = None
    background: tuple[str, ...] | None = None
    threshold: float | None = None
    refine: str | None = None


class Live:
    """The model of a run, loaded in the background, and the features of the images shown last.

    Args:
        run: the run.
        load: loads the run's weights.
        memory: bytes of features that are kept in memory.
        keep_features: write features to the run too.
    """

    def __init__(
        self, run: ReviewedRun, load: Callable[[Run], Clip], memory: int, *, keep_features: bool = False
    ) -> None:
        self._run, self._load = run, load
        self._keeps_files = keep_features and not run.read_only
        self._jobs = LatestJobs()
        self._cache = FrozenCache(memory)
        self._took: deque[float] = deque(maxlen=_TIMED)
        self.recipe: MaskRecipe | TagFirstRecipe | None = None
        self.impossible = ""
        """Why nothing can be redrawn; empty if it can."""
        try:
            self.recipe = any_run_recipe(run.run)
            _check_repeatable(run.run, self.recipe)
        except InputError as error:
            self.impossible = str(error)
        self._segmenter: Segmenter | None = None

    @property
    def keeps_features(self) -> bool:
        """Whether redraws compare kept features, instead of masking the image again."""
        return isinstance(self.recipe, MaskRecipe) and not self.recipe.purifies

    @property
    def threshold(self) -> float | None:
        """Of the run's recipe; None if the method has none."""
        recipe = self.recipe
        return recipe.prob_thd if isinstance(recipe, MaskRecipe) and not recipe.purifies else None

    @property
    def reason(self) -> str:
        """Why nothing can be redrawn, or why it takes its time; else empty."""
        if self.impossible or self.keeps_features or self.recipe is None:
            return self.impossible
        what = self.recipe.method if isinstance(self.recipe, TagFirstRecipe) else "purification"
        return f"With {what} the whole image is masked again each time."

    @property
    def seconds(self) -> float | None:
        """What a redraw takes; None if that is not known yet."""
        if self._took:
            return round(float(np.median(self._took)), 3)
        return None if self.keeps_features or self.impossible else self._run.seconds()

    def start(self) -> None:
        """Begin to load the model, and return at once."""
        if not self.impossible:
            self._jobs.submit("", self._model)

    def stop(self) -> None:
        """Drop the redraws that have not begun."""
        self._jobs.stop()

    def redraw(self, row: ImageRow, options: RedrawOptions) -> dict[str, object]:
        """Mask an image with other words or settings.

        Raises:
            HTTPException: the run cannot be redrawn, the photo is gone, or a newer request replaced this one.
            InputError: unusable words or settings.
        """
        return self._wait(row.key, lambda: self._redraw(row, options))

    def doubt(self, row: ImageRow) -> UInt8[np.ndarray, "h w"]:
        """Return where the two best classes are close: 255 where they are equal, 0 where one is certain.

        Raises:
            HTTPException: as for `redraw`; or the method has no such scores.
        """
        if not self.impossible and not self.keeps_features:
            raise HTTPException(409, "This method has no score of every class at every pixel.")
        # Under a name of its own: it must not replace a redraw.
        margins = self._wait(f"{row.key} doubt", lambda: self._frozen(row).margins())
        doubt: UInt8[np.ndarray, "h w"] = np.rint(255 * (1 - margins.clip(0, 1))).astype(np.uint8)
        return doubt

    def _wait(self, name: str, job: Callable[[], Result]) -> Result:
        if self.impossible:
            raise HTTPException(409, self.impossible)
        try:
            return self._jobs.submit(name, job).result()
        except SupersededError as error:
            raise HTTPException(409, "A newer request for this image replaced this one.") from error
        except TooManyJobsError as error:
            headers = {"Retry-After": str(_RETRY_SECONDS)}
            raise HTTPException(503, "Too many images are waiting.", headers) from error

    # -- In the thread that computes -------------------------------------------------------------------------

    def _model(self) -> Segmenter:
        """Return the run's segmenter, made by the first job.

        Raises:
            HTTPException: it cannot be made.
        """
        if self.impossible:
            raise HTTPException(409, self.impossible)
        if self._segmenter is None:
            try:
                self._segmenter = self._make_segmenter()
            except Exception as error:
                if not isinstance(error, TagmaskError):
                    _LOG.error("the model cannot be loaded", exc_info=error)
                self.impossible = str(error) or type(error).__name__
                raise HTTPException(409, self.impossible) from error
        return self._segmenter

    def _make_segmenter(self) -> Segmenter:
        assert self.recipe is not None  # it can be redrawn
        run = self._run.run
        segmenter = run_segmenter(run, self.recipe, lambda: self._load(run))
        fitted = run.identity.fields.get("head")
        if fitted is None:
            return segmenter
        head = read_head(run.path / HEAD_FILE)
        if head.fingerprint != fitted:
            raise InputError(f"{run.path} has another head than it was made with.")
        return Segmenter(segmenter.clip, recipe=self.recipe, head=head)

    def _frozen(self, row: ImageRow) -> Frozen:
        segmenter = self._model()
        return self._cache.get(_source(row), lambda: self._freeze(segmenter, row))

    def _freeze(self, segmenter: Segmenter, row: ImageRow) -> Frozen:
        file = self._run.run.output_path(row, FEATURES_FOLDER)
        frozen = segmenter.freeze(upright_photo(row), file=file)
        if self._keeps_files and not frozen.is_stored:
            try:
                write_correction(file, frozen.encode())
            except TagmaskError as error:  # a full disk, or numbers that float16 cannot hold
                _LOG.warning("%s", error)
        return frozen

    def _redraw(self, row: ImageRow, options: RedrawOptions) -> dict[str, object]:
        segmenter = self._model()
        words, background, settings = self._asked(options)
        changed = words is not None or background is not None
        frozen = self._frozen(row) if self.keeps_features else None
        pixels = None if frozen is not None else upright_photo(row)
        began = time.monotonic()
        if frozen is not None:
            frozen = frozen.without_head() if changed else frozen
            segmentation = frozen(words, background=background, confidence=True, **settings)
        else:
            if changed or settings:
                segmenter = Segmenter(
                    segmenter.clip, words, recipe=self.recipe, background=background, **settings
                )
            assert pixels is not None
            segmentation = segmenter(pixels, confidence=True)
        took = time.monotonic() - began
        self._took.append(took)
        return _described(segmentation, took)

    def _asked(
        self, options: RedrawOptions
    ) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None, dict[str, Any]]:
        """Words, background and settings that differ from the run's.

        A word that is the first name of one of the run's classes stands for all names of that class.
        """
        recipe = self.recipe
        assert recipe is not None  # it can be redrawn
        lines = {line.split(", ")[0]: line for line in recipe.words}
        words = options.words and tuple(lines.get(word, word) for word in options.words)
        settings: dict[str, Any] = {}
        if options.threshold is not None and self.threshold is not None:
            settings["prob_thd"] = options.threshold
        if options.refine is not None:
            settings["refine"] = options.refine
        background = options.background
        same = (words in (None, recipe.words), background in (None, recipe.background))
        return (None, None, settings) if all(same) else (words, background, settings)


def _check_repeatable(run: Run, recipe: MaskRecipe | TagFirstRecipe) -> None:
    if recipe.needs_tags:
        raise InputError(f"{recipe.method} masks tags that are given for each image, which are not kept.")
    for name, what in (("proposals", "regions of another program"), ("descriptions", "descriptions")):
        if run.identity.fields.get(name) is not None:
            raise InputError(f"The run was made with {what}, which are not kept.")


def _source(row: ImageRow) -> tuple[str, int, int]:
    try:
        stat = row.source.stat()
    except OSError:
        return row.key, 0, 0
    return row.key, stat.st_size, stat.st_mtime_ns


def _described(segmentation: Segmentation, seconds: float) -> dict[str, object]:
    words, labels = segmentation.words, segmentation.labels
    return {
        "words": words,
        "colors": overlay_colours(len(words)).tolist(),
        "classes": described_classes(
            words, pixels_of(labels, words), labels.size, segmentation.class_confidence
        ),
        "mask": base64.b64encode(mask_png(labels, ignore_index_for(len(words)))).decode("ascii"),
        "seconds": round(seconds, 4),
    }
