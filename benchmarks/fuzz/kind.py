"""What the harness needs to know about one kind of file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.fuzz.mutate import MAX_SIZE, Mutator, mutate_bytes

__all__ = ["Believed", "Kind"]


class Believed(Exception):
    """A reader returned something that it should have refused, such as NaN."""


def _claims_nothing(_: Path) -> int:
    return 0


@dataclass(frozen=True)
class Kind:
    """Good files of a kind, how they are damaged, and the function that reads them."""

    samples: Sequence[bytes]
    """Good files, the same in each process."""
    read: Callable[[Path], int]
    """Read a file as tagmask's commands do; return the number of pixels of the result (0: no image).

    Raises `Believed` if the result is wrong."""
    mutators: Sequence[Mutator] = (mutate_bytes,)
    """Often-used ones are repeated."""
    place: str = "input"
    """Where the file lies in its folder."""
    beside: Mapping[str, bytes] = field(default_factory=dict)
    """Other files in the folder, which stay as they are."""
    claimed_pixels: Callable[[Path], int] = _claims_nothing
    """Pixels that the header of a refused file claims."""
    quiet: bool = False
    """Damage is no error here: a damaged cache entry is made again."""

    def input(self, seed: int, name: str, case: int) -> bytes:
        """Return an input, the same for the same arguments.

        Args:
            seed: of the whole run.
            name: of the kind.
            case: number of the input.
        """
        rng = Random(f"{seed} {name} {case}")
        data = rng.choice(self.samples)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = rng.choice(self.mutators)(data, self.samples, rng)
        return data[:MAX_SIZE]
