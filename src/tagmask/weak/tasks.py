"""WeakCLIP and students as the loop wants them: what is trained, by which losses, and what to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from tagmask.masks import overlay
from tagmask.weak import losses, model_file
from tagmask.weak.config import AugmentSettings, TrainConfig
from tagmask.weak.feature_cache import FeatureCache
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.model import WeakClip, WeakClipOutput
from tagmask.weak.samples import Batch
from tagmask.weak.students.catalogue import parameter_groups
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.students.student_file import TrainedStudent, save_student
from tagmask.weak.trunk import Trunk

__all__ = ["StudentTask", "WeakClipTask", "shown", "side_by_side"]

_SHOWN = 3
"""Crops of a batch that a sample picture has."""


class WeakClipTask:
    """WeakCLIP, trained on seeds.

    Args:
        model: on its device; its groups are set for `config.model.freeze`.
        config: losses, and how pixels were normalised.
        cache: keeps the fixed CLIP's features of crops that come again; of no use where CLIP is trained.
    """

    def __init__(self, model: WeakClip, config: TrainConfig, cache: FeatureCache | None = None) -> None:
        self.model = model
        self._groups = model.parameter_groups(config.model.freeze)
        self._settings = config.loss
        self._augment = config.augment
        self._cache = cache if model.clip_fixed else None

    def groups(self) -> list[ParameterGroup]:
        """As the model groups them."""
        return self._groups

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Seed, CRF and contrast terms, and their weighted sum, in float32 whatever the products are in."""
        output = self.model.head(self._features(batch))
        with torch.autocast(batch.pixels.device.type, enabled=False):
            whole = WeakClipOutput(output.logits.float(), output.scores.float())
            return dict(losses.total(whole, batch.labels, shown(batch, self._augment), self._settings))

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Crops, their seeds, and what the model says."""
        self.model.eval()
        with torch.no_grad():
            logits = self.model(batch.pixels[:_SHOWN]).logits
        self.model.train()
        return side_by_side(batch, logits, self.model.words, self._augment)

    def save(self, path: Path) -> None:
        """In WeakCLIP's own format; CLIP is left out while it is fixed."""
        model_file.save(self.model, path)

    def _features(self, batch: Batch) -> Trunk:
        if self._cache is None:
            return self.model.features(batch.pixels)
        keys = [self._cache.key(pixels) for pixels in batch.pixels]
        kept = [self._cache.get(key) for key in keys]
        new = [place for place, held in enumerate(kept) if held is None]
        if new:
            made = self.model.features(batch.pixels[new]).tensors()
            for row, place in enumerate(new):
                own = {name: tensor[row : row + 1] for name, tensor in made.items()}
                self._cache.put(keys[place], own)
                kept[place] = own
        found = [held for held in kept if held is not None]
        device = batch.pixels.device
        return Trunk.of({name: torch.cat([held[name].to(device) for held in found]) for name in found[0]})


class StudentTask:
    """A student, trained on masks as if they were the truth.

    Args:
        student: on its device, in training mode.
        config: how pixels were normalised.
    """

    def __init__(self, student: TrainedStudent, config: TrainConfig) -> None:
        self._student = student
        self._augment = config.augment

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self._student.net

    def groups(self) -> list[ParameterGroup]:
        """As its kind groups them."""
        return list(parameter_groups(self._student.card.student, self._student.net))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy at the labels' size; a mean over pixels that have a label, 0 where none has."""
        logits = self._enlarged(self.model(batch.pixels), batch.labels)
        summed = functional.cross_entropy(logits, batch.labels, ignore_index=IGNORE_INDEX, reduction="sum")
        return {"total": summed / (batch.labels != IGNORE_INDEX).sum().clamp(min=1)}

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Crops, their masks, and what the student says."""
        self.model.eval()
        with torch.no_grad():
            logits = self.model(batch.pixels[:_SHOWN])
        self.model.train()
        return side_by_side(batch, logits, self._student.card.words, self._augment)

    def save(self, path: Path) -> None:
        """As one file that runs without anything else."""
        save_student(path, self._student)

    def _enlarged(
        self, logits: Float[Tensor, "b k _ _"], labels: Int[Tensor, "b h w"]
    ) -> Float[Tensor, "b k h w"]:
        size = (labels.shape[1], labels.shape[2])
        return functional.interpolate(
            logits.float(), size=size, mode="bilinear", align_corners=self._student.card.kind.aligned
        )


def shown(batch: Batch, settings: AugmentSettings) -> UInt8[Tensor, "b 3 h w"]:
    """The crops as RGB again; padding has the mean colour."""
    mean, std = (batch.pixels.new_tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    return (batch.pixels * std + mean).round_().clamp_(0, 255).to(torch.uint8)


def side_by_side(
    batch: Batch, logits: Float[Tensor, "b k _ _"], words: Sequence[str], settings: AugmentSettings
) -> PIL.Image.Image:
    """A row a crop: the picture, what it is trained on, and what is said of it.

    Args:
        batch: at least as many crops as there are rows of logits.
        logits: of the first crops, of any size.
        words: what the classes are called, background first.
        settings: how pixels were normalised.
    """
    count = len(logits)
    size = (batch.labels.shape[1], batch.labels.shape[2])
    said = functional.interpolate(logits.float(), size=size, mode="bilinear").argmax(dim=1)
    images = shown(batch, settings)[:count].permute(0, 2, 3, 1).cpu().numpy()
    rows = []
    for image, given, found in zip(images, batch.labels.cpu().numpy(), said.cpu().numpy(), strict=False):
        masks = (overlay(image, each.astype(np.uint8), words, skip={0}) for each in (given, found))
        rows.append(np.concatenate([image, *(np.asarray(mask) for mask in masks)], axis=1))
    return PIL.Image.fromarray(np.concatenate(rows))
