"""Predictions for Label Studio's tasks: images are fetched in several threads, and used in one."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from tagmask.app.image_access import ImageAccess
from tagmask.app.label_config import LabelConfig
from tagmask.app.model_worker import ModelWorker
from tagmask.app.predictions import Prediction, RegionOptions, brush_results, choice_results
from tagmask.app.request_queue import RequestQueue
from tagmask.errors import ImageError
from tagmask.images import read_image
from tagmask.printable import shortened

__all__ = ["LabelStudioBackend"]

_LOG = logging.getLogger(__name__)
_FETCHERS: Final = 4
"""Images fetched at once, and held in memory before they are used."""
_WAITING: Final = 8
"""Requests that may wait for predictions."""

Predict = Callable[[bytes], Prediction]


class LabelStudioBackend:
    """Answers Label Studio's requests for predictions.

    Args:
        model: the model to use.
        images: where images may come from.
        version: the name of the model, with which Label Studio stores its predictions.
        time_limit: seconds until a request is answered with the predictions that are ready.
        regions: how masks become regions.
    """

    def __init__(
        self,
        model: ModelWorker,
        images: ImageAccess,
        *,
        version: str,
        time_limit: float,
        regions: RegionOptions | None = None,
    ) -> None:
        self.version = version
        self._model, self._images, self._time_limit = model, images, time_limit
        self._regions = regions or RegionOptions()
        self._fetchers = ThreadPoolExecutor(_FETCHERS, "fetch")
        self._queue = RequestQueue(_WAITING)

    def stop(self) -> None:
        """Drop the images that are still to be fetched."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)

    def predict(self, tasks: Sequence[Mapping[str, Any]], config: LabelConfig) -> list[dict[str, Any]]:
        """Return one prediction for each task; an empty one where there is no image or no time.

        An empty prediction of a failure has another model version, so that Label Studio asks again for that
        task when predictions are retrieved the next time.

        Raises:
            InputError: the configuration's words cannot be used.
            BusyError: too many requests are waiting.
            TagmaskError: the model cannot be used.
        """
        with self._queue.place():
            return self._predict(tasks, config, time.monotonic() + self._time_limit)

    def _predict(
        self, tasks: Sequence[Mapping[str, Any]], config: LabelConfig, deadline: float
    ) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        with self._fetched(tasks, config) as fetched:
            try:
                predict = self._model.submit(self._predictor, config).result(_left(deadline))
                for task, image in zip(tasks, fetched, strict=True):
                    answers.append(self._answer(task, predict, image, deadline))
            except TimeoutError:
                _LOG.warning(
                    "%d of %d tasks have no prediction after %g s. Retrieve predictions once more.",
                    len(tasks) - len(answers),
                    len(tasks),
                    self._time_limit,
                )
        return answers + [self._failed() for _ in range(len(tasks) - len(answers))]

    def _answer(
        self, task: Mapping[str, Any], predict: Predict, image: Future[bytes], deadline: float
    ) -> dict[str, Any]:
        """Return the prediction of one task.

        Raises:
            TimeoutError: it is not ready in time.
        """
        job: Future[Prediction] | None = None
        try:
            data = image.result(_left(deadline))
            job = self._model.submit(predict, data)
            prediction = job.result(_left(deadline))
        except TimeoutError:
            if job is not None:
                job.cancel()
            raise
        except ImageError as error:
            _LOG.warning("task %s: no prediction: %s", shortened(task.get("id")), error)
            return self._failed()
        except Exception as error:  # whatever an image causes must not cost the others' predictions
            _LOG.error("task %s: no prediction", shortened(task.get("id")), exc_info=error)
            return self._failed()
        return {
            "result": prediction.result,
            "score": prediction.score,
            "model_version": self.version,
        }

    def _failed(self) -> dict[str, Any]:
        return {"result": [], "score": 0.0, "model_version": f"{self.version}, failed"}

    @contextmanager
    def _fetched(
        self, tasks: Sequence[Mapping[str, Any]], config: LabelConfig
    ) -> Iterator[Iterator[Future[bytes]]]:
        """Yield the image of each task, of which a few are fetched before they are asked for."""
        ahead: deque[Future[bytes]] = deque()

        def images() -> Iterator[Future[bytes]]:
            for task in tasks:
                ahead.append(self._fetchers.submit(self._fetch, task, config))
                if len(ahead) >= _FETCHERS:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()

        try:
            yield images()
        finally:
            for each in ahead:
                each.cancel()

    def _fetch(self, task: Mapping[str, Any], config: LabelConfig) -> bytes:
        data = task.get("data")
        key = config.controls[0].image_key
        location = data.get(key) if isinstance(data, Mapping) else None
        if not isinstance(location, str):
            raise ImageError(f"its data has no address of an image under {shortened(key)!r}.")
        return self._images.read(location)

    def _predictor(self, config: LabelConfig) -> Predict:
        """Return what predicts an image. Runs in the model's thread, as does what it returns."""
        image_key = config.controls[0].image_key
        controls = [control for control in config.controls if control.image_key == image_key]
        brushes = [(c, self._model.segmenter(c.prompts)) for c in controls if c.kind == "brushlabels"]
        choices = [(c, self._model.tagger(c.prompts)) for c in controls if c.kind == "choices"]

        def predict(data: bytes) -> Prediction:
            image = read_image(data)
            result: list[dict[str, Any]] = []
            for control, segment in brushes:
                result += brush_results(control, segment(image), self._regions)
            for control, tag in choices:
                result += choice_results(control, tag(image), (image.shape[0], image.shape[1]))
            return Prediction(result, min((each["score"] for each in result), default=0.0))

        return predict


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
