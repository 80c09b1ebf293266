"""Many images, one after another: one bad image never stops the rest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tagmask.errors import TagmaskError
from tagmask.runtime.folders import FoundImage

__all__ = ["Outcome", "run"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one image: a result, or the reason why there is none."""

    image: FoundImage
    result: Result | None
    error: str | None


def run(images: Iterable[FoundImage], work: Callable[[FoundImage], Result]) -> Iterator[Outcome[Result]]:
    """Do `work` for each image, in order, as the iterator is read.

    Errors of one image (unreadable, too large for the memory at hand) become its outcome; errors in the
    program itself are raised.
    """
    for image in images:
        try:
            yield Outcome(image, work(image), None)
        except TagmaskError as error:
            yield Outcome(image, None, str(error))
        except (MemoryError, RuntimeError) as error:  # torch reports a full device as RuntimeError
            yield Outcome(image, None, f"{type(error).__name__}: {error}")
