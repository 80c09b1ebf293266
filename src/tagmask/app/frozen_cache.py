"""Frozen features of the images that were shown last, within a limit of memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from tagmask.pipelines.frozen import Frozen

__all__ = ["FrozenCache"]


class FrozenCache:
    """Keeps frozen images; those used longest ago are dropped first. Use it in one thread.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._kept: OrderedDict[Hashable, Frozen] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return self._held

    def get(self, key: Hashable, make: Callable[[], Frozen]) -> Frozen:
        """Return the frozen image of a key, made if it is not kept; one above the limit is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        frozen = make()
        if frozen.nbytes <= self._limit:
            self._kept[key] = frozen
            self._held += frozen.nbytes
            while self._held > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._held -= dropped.nbytes
        return frozen
