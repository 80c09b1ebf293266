"""Where an image's region proposals come from, by the image's name or its pixels."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tagmask.regions.proposals import Proposals
from tagmask.types import Image

__all__ = ["ProposalSource"]


class ProposalSource:
    """Proposes regions for images; may be called from several threads."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What decides its regions, as JSON values: a run goes on only with the same."""
        raise NotImplementedError

    def missing(self, names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
        """Return the images that it has no regions for. Call it once, before any work.

        Args:
            names: the whole listing: each image's path below the folder that was given.

        Raises:
            InputError: regions that may be of either of two images.
        """
        raise NotImplementedError

    def of(self, name: PurePosixPath, image: Image) -> Proposals:
        """Return an image's regions.

        Args:
            name: the image's path below the folder that was given.
            image: upright RGB.

        Raises:
            InputError: there are none, or they cannot be read.
        """
        raise NotImplementedError
