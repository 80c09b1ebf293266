"""The miniature data set: drawn test scenes, rendered on demand."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import overload

from tagmask.checks import check_choice
from tagmask.data.sample import Dataset, Labels, Sample
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES
from tagmask.types import Image

__all__ = ["open_miniature", "scene_image", "scene_mask", "scene_names", "scene_tags"]


def open_miniature(split: str = "test") -> Dataset:
    """Open test scenes, excluded from training: 24 classes, and one background for all textures.

    Args:
        split: "test" (300 scenes, used in the published tables) or "long" (5000 scenes).

    Raises:
        InputError: an unknown split.
    """
    return Dataset("miniature", ("background", *CLASS_NAMES), CLASS_NAMES, _Scenes(len(scene_names(split))))


def scene_names(split: str) -> list[str]:
    """Return the ids of a split's scenes; each is the scene's seed.

    Raises:
        InputError: an unknown split.
    """
    check_choice("split of miniature", split, ("test", "long"))
    return [_name(seed) for seed in range(300 if split == "test" else 5000)]


def scene_tags(seed: int) -> tuple[int, ...]:
    """Return the classes of the visible objects; this renders the scene."""
    return tuple(sorted({thing.kind for thing in unseen_scene(seed).content.things}))


def scene_image(seed: int) -> Image:
    """Render the image."""
    return unseen_scene(seed).image


def scene_mask(seed: int) -> Labels:
    """Render the mask: classes from 1 on, 0 for every background."""
    labels = unseen_scene(seed).labels
    shifted = labels + 1
    shifted[labels >= len(CLASS_NAMES)] = 0
    return shifted


class _Scenes(Sequence[Sample]):
    def __init__(self, count: int) -> None:
        self._seeds = range(count)

    def __len__(self) -> int:
        return len(self._seeds)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [_sample(seed) for seed in self._seeds[index]]
        return _sample(self._seeds[index])

    def __iter__(self) -> Iterator[Sample]:
        return map(_sample, self._seeds)


def _sample(seed: int) -> Sample:
    image, mask = partial(scene_image, seed), partial(scene_mask, seed)
    return Sample(_name(seed), image, scene_tags(seed), read_mask=mask)


def _name(seed: int) -> str:
    return f"{seed:06d}"
