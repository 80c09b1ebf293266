"""Many images, one after another: one bad image never stops the rest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tagmask.errors import TagmaskError
from tagmask.runtime.folders import FoundImage

__all__ = ["Outcome", "out_of_memory", "run"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one image: a result, or the reason why there is none."""

    image: FoundImage
    result: Result | None
    error: str | None


def run(images: Iterable[FoundImage], work: Callable[[FoundImage], Result]) -> Iterator[Outcome[Result]]:
    """Do `work` for each image, in order, as the iterator is read.

    Errors of one image (unreadable, unwritable, too large for the memory at hand) become its outcome; faults
    of the program itself are raised.
    """
    for image in images:
        try:
            yield Outcome(image, work(image), None)
        except TagmaskError as error:
            yield Outcome(image, None, str(error))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            yield Outcome(image, None, "not enough memory for this image; reduce it, or use another device")


def out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether an error says that the memory, of whatever device, is full."""
    # torch has a type of its own for a full GPU, but reports a full main memory as a plain RuntimeError.
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said
