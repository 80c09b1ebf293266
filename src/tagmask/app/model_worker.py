"""The frozen CLIP of a server: loaded and used in one thread, while other threads answer requests."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from tagmask.api import Segmenter, Tagger
from tagmask.clip.load import Clip
from tagmask.results import Segmentation, Tags
from tagmask.types import Image

__all__ = ["ModelWorker"]

_KEPT: Final = 16
"""Lists of words whose text features are kept."""

Given = ParamSpec("Given")
Result = TypeVar("Result")

Segment = Callable[[Image], Segmentation]
Tag = Callable[[Image], Tags]


def _segmenter(clip: Clip, words: tuple[str, ...]) -> Segment:
    return partial(Segmenter(clip, words), confidence=True)


class ModelWorker:
    """Loads a model once and runs everything that uses it, one job after the other.

    Args:
        load: returns the model.
        make_segmenter: returns what masks an image, with confidences, given a model and words.
        make_tagger: returns what tags an image, given a model and words.
    """

    def __init__(
        self,
        load: Callable[[], Clip],
        make_segmenter: Callable[[Clip, tuple[str, ...]], Segment] = _segmenter,
        make_tagger: Callable[[Clip, tuple[str, ...]], Tag] = Tagger,
    ) -> None:
        self._load, self._make_segmenter, self._make_tagger = load, make_segmenter, make_tagger
        self._thread = ThreadPoolExecutor(1, "model")
        self._clip: Future[Clip] | None = None
        self._segmenters: OrderedDict[tuple[str, ...], Segment] = OrderedDict()
        self._taggers: OrderedDict[tuple[str, ...], Tag] = OrderedDict()

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        """Begin to load the model, and return at once.

        Args:
            on_failure: called with the error if it cannot be loaded.
        """

        def report(loaded: Future[Clip]) -> None:
            error = None if loaded.cancelled() else loaded.exception()
            if error is not None:
                on_failure(error)

        self._clip = self._thread.submit(self._load)
        self._clip.add_done_callback(report)

    def stop(self) -> None:
        """Drop the jobs that have not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def submit(
        self, job: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Result]:
        """Run a job in the model's thread, after the model is loaded and all earlier jobs are done."""
        return self._thread.submit(job, *args, **kwargs)

    def segmenter(self, prompts: tuple[str, ...]) -> Segment:
        """Return what masks images with these words, with confidences. To be called in a job.

        Raises:
            InputError: unusable words.
            WeightsError: the model cannot be loaded.
        """
        return _kept(self._segmenters, prompts, lambda: self._make_segmenter(self._model(), prompts))

    def tagger(self, prompts: tuple[str, ...]) -> Tag:
        """Return what tags images with these words. To be called in a job.

        Raises:
            InputError: unusable words.
            WeightsError: the model cannot be loaded.
        """
        return _kept(self._taggers, prompts, lambda: self._make_tagger(self._model(), prompts))

    def _model(self) -> Clip:
        assert self._clip is not None  # jobs come after start
        return self._clip.result()


def _kept(
    cache: OrderedDict[tuple[str, ...], Result], key: tuple[str, ...], make: Callable[[], Result]
) -> Result:
    """Return the value of a key, made if it is not kept; the one that was used longest ago is dropped."""
    value = cache.pop(key) if key in cache else make()
    cache[key] = value
    if len(cache) > _KEPT:
        cache.popitem(last=False)
    return value
