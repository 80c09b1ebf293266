"""Read the region proposals that users give with images in Python."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tagmask.checks import shown
from tagmask.errors import InputError, ShapeError
from tagmask.proposals.annotations import read_annotations
from tagmask.proposals.arrays import of_array
from tagmask.proposals.files import read_proposals
from tagmask.regions.proposals import Proposals
from tagmask.types import Image

__all__ = ["ProposalsLike", "proposals_of_each", "read_given"]

ProposalsLike: TypeAlias = Proposals | np.ndarray | Sequence[Mapping[str, object]] | str | os.PathLike[str]
"""Regions of one image: as they are, an array, annotations, or a file."""


def proposals_of_each(proposals: object, images: int) -> Sequence[object]:
    """Return what is given for each of several images.

    Raises:
        InputError: it is no list with one entry per image.
    """
    if proposals is None:
        return [None] * images
    if isinstance(proposals, str) or not isinstance(proposals, Sequence) or len(proposals) != images:
        raise InputError(
            f"Invalid proposals for {images} images: {shown(type(proposals).__name__)}. Give a list with the "
            "regions of each image, or None."
        )
    return proposals


def read_given(proposals: object, image: Image) -> Proposals | None:
    """Return the regions given for one image; None if none are.

    Raises:
        InputError: they are of another kind, or do not fit the image.
    """
    size = (image.shape[0], image.shape[1])
    if proposals is None:
        return None
    if isinstance(proposals, Proposals):
        if proposals.size != size:
            raise ShapeError(f"The proposals are for {proposals.size}, but the image is {size} (h, w).")
        return proposals
    if isinstance(proposals, str | os.PathLike):
        return read_proposals(Path(proposals), size)
    try:
        if isinstance(proposals, np.ndarray):
            return of_array(proposals, size)
        if isinstance(proposals, Sequence):
            return read_annotations(proposals, size)
    except InputError as error:
        raise InputError(f"The proposals cannot be used: {error}") from error
    raise InputError(
        f"Invalid proposals: {shown(type(proposals).__name__)}. Give a file, an array or annotations."
    )
