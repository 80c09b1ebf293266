"""Tags and masks of the photos that requests bring, within limits."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from tagmask.app.limits import PhotoLimits
from tagmask.app.model_worker import ModelWorker
from tagmask.app.request_queue import BusyError, RequestQueue
from tagmask.errors import InputError
from tagmask.images import image_size, read_image
from tagmask.results import Segmentation, Tags

__all__ = ["PhotoService", "TooLargeError"]

_LONGEST_WORD: Final = 400
Result = TypeVar("Result")


class TooLargeError(InputError):
    """The image has too many pixels."""


class PhotoService:
    """Answers requests one after the other.

    Args:
        model: the model to use.
        limits: of requests.
    """

    def __init__(self, model: ModelWorker, limits: PhotoLimits) -> None:
        self.limits = limits
        self._model = model
        self.queue = RequestQueue(limits.waiting)

    def mask(self, data: bytes, words: Sequence[str]) -> Segmentation:
        """Mask an image, with confidences.

        Raises:
            InputError: the words cannot be used, or are too many.
            TooLargeError: the image has too many pixels.
            ImageError: the image cannot be read.
            BusyError: too many requests wait, or this one waited too long.
            TagmaskError: the model cannot be used.
        """
        prompts = self._checked(data, words)
        return self._run(lambda: self._model.segmenter(prompts)(read_image(data)))

    def tag(self, data: bytes, words: Sequence[str]) -> Tags:
        """Tag an image; raises as `mask`."""
        prompts = self._checked(data, words)
        return self._run(lambda: self._model.tagger(prompts)(read_image(data)))

    def _checked(self, data: bytes, words: Sequence[str]) -> tuple[str, ...]:
        prompts = tuple(word.strip() for word in words)
        if not prompts:
            raise InputError("No words are given. Give the field `words` once for each word.")
        if len(prompts) > self.limits.words:
            raise InputError(f"Got {len(prompts)} words. Give at most {self.limits.words}.")
        if any(len(word) > _LONGEST_WORD for word in prompts):
            raise InputError(f"A word has more than {_LONGEST_WORD} characters. Shorten it.")
        height, width = image_size(data)
        if height * width > self.limits.pixels:
            raise TooLargeError(
                f"The image has {height * width / 1e6:.1f} megapixels. "
                f"Give at most {self.limits.pixels / 1e6:g}."
            )
        return prompts

    def _run(self, job: Callable[[], Result]) -> Result:
        with self.queue.place():
            future: Future[Result] = self._model.submit(job)
            try:
                return future.result(self.limits.seconds)
            except TimeoutError:
                if future.cancel():
                    raise BusyError from None
                return future.result()  # it has begun: what is computed is also answered
