"""WeakCLIP and students as tasks of the training loop: parameters, losses, sample pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from tagmask.masks import overlay
from tagmask.types import Image
from tagmask.weak import losses, model_file
from tagmask.weak.config import AugmentSettings, TrainConfig
from tagmask.weak.feature_cache import FeatureCache
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.mask_folder import Mask
from tagmask.weak.model import WeakClip, WeakClipOutput
from tagmask.weak.multiscale import views_of
from tagmask.weak.pseudo import pseudo_mask
from tagmask.weak.samples import Batch
from tagmask.weak.students.catalogue import parameter_groups
from tagmask.weak.students.evaluate import EVALUATIONS, predict
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.students.student_file import TrainedStudent, save_student
from tagmask.weak.trunk import Trunk

__all__ = ["StudentTask", "WeakClipTask", "side_by_side", "to_rgb"]

_SHOWN = 3
"""Number of crops in a sample picture."""


class WeakClipTask:
    """Training of WeakCLIP on seeds.

    Args:
        model: on its device; its parameter groups are set for `config.model.freeze`.
        config: losses, and the normalisation of pixels.
        cache: caches the frozen CLIP's features of repeated crops; ignored if CLIP is trained.
    """

    def __init__(self, model: WeakClip, config: TrainConfig, cache: FeatureCache | None = None) -> None:
        self.model = model
        self._groups = model.parameter_groups(config.model.freeze)
        self._settings = config.loss
        self._augment = config.augment
        self._cache = cache if model.clip_frozen else None
        sizes = config.augment
        self._views = views_of(sizes.crop, sizes.base_short, sizes.base_long, (1.0,), flip=False)

    def groups(self) -> list[ParameterGroup]:
        """The model's parameter groups."""
        return self._groups

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Seed, CRF and contrast terms and their weighted sum, in float32 also under autocast."""
        output = self.model.head(self._features(batch))
        with torch.autocast(batch.pixels.device.type, enabled=False):
            output = WeakClipOutput(output.logits.float(), output.scores.float())
            return dict(losses.total(output, batch.labels, to_rgb(batch, self._augment), self._settings))

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Draw crops, their seeds and the model's predictions."""
        self.model.eval()
        with torch.no_grad():
            logits = self.model(batch.pixels[:_SHOWN]).logits
        self.model.train()
        return side_by_side(batch, logits, self.model.words, self._augment)

    def segment(self, image: Image) -> Mask:
        """Label every pixel, at one scale and without a CRF."""
        labels: Mask = pseudo_mask(self.model, image, None, self._views)
        return labels

    def save(self, path: Path) -> None:
        """Save in this package's format, without a frozen CLIP's weights."""
        model_file.save(self.model, path)

    def _features(self, batch: Batch) -> Trunk:
        if self._cache is None:
            return self.model.features(batch.pixels)
        keys = [self._cache.key(pixels) for pixels in batch.pixels]
        entries = [self._cache.get(key) for key in keys]
        missing = [index for index, entry in enumerate(entries) if entry is None]
        if missing:
            computed = self.model.features(batch.pixels[missing]).tensors()
            for row, index in enumerate(missing):
                entry = {name: tensor[row : row + 1] for name, tensor in computed.items()}
                self._cache.put(keys[index], entry)
                entries[index] = entry
        complete = [entry for entry in entries if entry is not None]
        device = batch.pixels.device
        return Trunk.of(
            {name: torch.cat([entry[name].to(device) for entry in complete]) for name in complete[0]}
        )


class StudentTask:
    """Training of a student on masks, which serve as ground truth.

    Args:
        student: on its device, in training mode.
        config: the normalisation of pixels.
    """

    def __init__(self, student: TrainedStudent, config: TrainConfig) -> None:
        self._student = student
        self._augment = config.augment

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self._student.net

    def groups(self) -> list[ParameterGroup]:
        """The student's parameter groups."""
        return list(parameter_groups(self._student.card.student, self._student.net))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy at the labels' size: mean over labelled pixels, 0 if there are none."""
        logits = self._resized(self.model(batch.pixels), batch.labels)
        summed = functional.cross_entropy(logits, batch.labels, ignore_index=IGNORE_INDEX, reduction="sum")
        return {"total": summed / (batch.labels != IGNORE_INDEX).sum().clamp(min=1)}

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Draw crops, their masks and the student's predictions."""
        self.model.eval()
        with torch.no_grad():
            logits = self.model(batch.pixels[:_SHOWN])
        self.model.train()
        return side_by_side(batch, logits, self._student.card.words, self._augment)

    def segment(self, image: Image) -> Mask:
        """Label every pixel, in one forward pass."""
        labels: Mask = predict(self._student, image, EVALUATIONS["plain"]).labels
        return labels

    def save(self, path: Path) -> None:
        """Save as one self-contained file."""
        save_student(path, self._student)

    def _resized(
        self, logits: Float[Tensor, "b k _ _"], labels: Int[Tensor, "b h w"]
    ) -> Float[Tensor, "b k h w"]:
        size = (labels.shape[1], labels.shape[2])
        return functional.interpolate(
            logits.float(), size=size, mode="bilinear", align_corners=self._student.card.kind.aligned
        )


def to_rgb(batch: Batch, settings: AugmentSettings) -> UInt8[Tensor, "b 3 h w"]:
    """Undo the normalisation of the crops; padding gets the mean colour."""
    mean, std = (batch.pixels.new_tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    return (batch.pixels * std + mean).round_().clamp_(0, 255).to(torch.uint8)


def side_by_side(
    batch: Batch, logits: Float[Tensor, "b k _ _"], words: Sequence[str], settings: AugmentSettings
) -> PIL.Image.Image:
    """Draw one row per crop: the image, its training labels and the prediction.

    Args:
        batch: at least as many crops as there are logits.
        logits: of the first crops, of any size.
        words: class names, background first.
        settings: the normalisation of pixels.
    """
    count = len(logits)
    size = (batch.labels.shape[1], batch.labels.shape[2])
    predicted = functional.interpolate(logits.float(), size=size, mode="bilinear").argmax(dim=1)
    images = to_rgb(batch, settings)[:count].permute(0, 2, 3, 1).cpu().numpy()
    rows = []
    for image, *labels in zip(images, batch.labels.cpu().numpy(), predicted.cpu().numpy(), strict=False):
        masks = (overlay(image, each.astype(np.uint8), words, skip={0}) for each in labels)
        rows.append(np.concatenate([image, *(np.asarray(mask) for mask in masks)], axis=1))
    return PIL.Image.fromarray(np.concatenate(rows))
