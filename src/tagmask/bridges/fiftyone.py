"""A FiftyOne model: tags and masks of your words, as fields of a dataset's samples.

    model = TagmaskModel(["cat", "dog"])
    dataset.apply_model(model, label_field="tagmask")       # tagmask_tags and tagmask_masks
    dataset.default_mask_targets = model.mask_targets

Source:
    fiftyone 1.22.1: core/models.py (`Model`, `apply_model`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tagmask.api import Segmenter, Tagger
from tagmask.checks import check_installed
from tagmask.clip.load import load
from tagmask.results import Segmentation, Tags
from tagmask.types import Image

check_installed("tagmask.bridges.fiftyone", "fiftyone")

import fiftyone as fo  # noqa: E402
import fiftyone.core.models as fom  # noqa: E402

__all__ = ["TagmaskModel"]


class TagmaskModel(fom.Model):  # type: ignore[misc]  # FiftyOne has no types
    """Tag and mask images with your words; this loads the weights.

    Args:
        words: as in `tagmask.Segmenter`.
        weights: as in `tagmask.load`.
        method: of the masks, from `tagmask.methods()`.
        background: as in `tagmask.Segmenter`.
        device: as in `tagmask.load`.
        precision: as in `tagmask.load`.
        **settings: of the masks, as in `tagmask.Segmenter`.

    Attributes:
        mask_targets: the word of each value in the masks. 0 is for pixels of no word.

    Raises:
        InputError: unusable words or settings.
        WeightsError: unusable weights.
    """

    def __init__(
        self,
        words: Sequence[str],
        weights: str | None = None,
        *,
        method: str | None = None,
        background: Sequence[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        **settings: Any,  # noqa: ANN401
    ) -> None:
        if method is not None:
            settings["method"] = method
        clip = load(weights, device=device, precision=precision)
        self._tagger = Tagger(clip, words, background=background)
        self._segmenter = Segmenter(clip, words, background=background, **settings)
        first = int(self._segmenter.background)
        self.mask_targets = dict(enumerate(self._segmenter.words[first:], 1))

    @property
    def media_type(self) -> str:
        """Kind of media."""
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """False: `predict_all` takes images of several sizes."""
        return False

    @property
    def transforms(self) -> None:
        """None: images are given as they are."""
        return

    @property
    def preprocess(self) -> bool:
        """False: there are no transforms."""
        return False

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        """FiftyOne sets it, without effect here."""

    def predict(self, arg: Image) -> "dict[str, fo.Label]":
        """Return the labels of an RGB image: "tags" (Classifications) and "masks" (Segmentation)."""
        return self.predict_all([arg])[0]

    def predict_all(self, args: Sequence[Image]) -> "list[dict[str, fo.Label]]":
        """Return the labels of each of several images, as `predict`."""
        images = list(args)
        results = zip(self._tagger(images), self._segmenter(images), strict=True)
        return [{"tags": _classifications(tags), "masks": _segmentation(seg)} for tags, seg in results]


def _classifications(tags: Tags) -> "fo.Classifications":
    return fo.Classifications(
        classifications=[
            fo.Classification(label=tags.words[c], confidence=float(tags.scores[c])) for c in tags.chosen
        ]
    )


def _segmentation(seg: Segmentation) -> "fo.Segmentation":
    """FiftyOne shows 0 as background, so words start at 1; pixels of no class become 0."""
    shifted = seg.labels + seg.labels.dtype.type(not seg.background)
    mask = np.where(seg.labels < len(seg.words), shifted, 0).astype(seg.labels.dtype)
    return fo.Segmentation(mask=mask)
