"""MCTformer as a task of the training loop: parameters, losses, sample pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F

from tagmask.papers.mctformer import MctFormer, localise, training_losses
from tagmask.report.heatmap import heat_overlay
from tagmask.weak.config import TrainConfig
from tagmask.weak.mctformer_file import TrainedMctFormer, save_mctformer
from tagmask.weak.samples import Batch
from tagmask.weak.students.kind import ParameterGroup
from tagmask.weak.tasks import to_rgb

__all__ = ["MctFormerTask"]

_SHOWN_CROPS, _SHOWN_MAPS = 3, 2
_NO_DECAY: Final = ("cls_token", "pos_embed")
"""As coded by the authors; the two tables of Plus have other names, and decay."""


class MctFormerTask:
    """Training of MCTformer on tags.

    Args:
        trained: on its device, in training mode.
        config: the normalisation of pixels.
    """

    def __init__(self, trained: TrainedMctFormer, config: TrainConfig) -> None:
        self._trained = trained
        self._augment = config.augment

    @property
    def model(self) -> MctFormer:
        """The network."""
        return self._trained.net

    def groups(self) -> list[ParameterGroup]:
        """Parameters with and without weight decay; those that no score depends on are left out."""
        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups[parameter.ndim > 1 and name not in _NO_DECAY].append(parameter)
        return [
            ParameterGroup("weights", tuple(groups[True])),
            ParameterGroup("norms, biases and tokens", tuple(groups[False]), decays=False),
        ]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of class scores, of patch scores, and Plus's contrast, in float32 also under autocast."""
        output = self.model(batch.pixels)
        with torch.autocast(batch.pixels.device.type, enabled=False):
            scores = output.patch_scores
            output = replace(
                output,
                class_scores=output.class_scores.float(),
                patch_scores=None if scores is None else scores.float(),
                class_tokens=output.class_tokens.float(),
            )
            contrast = self.model.shape.version == "plus"
            return training_losses(output, batch.labels.float(), contrast=contrast)

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Draw crops, each with the localisation maps of its first tags."""
        pixels = batch.pixels[:_SHOWN_CROPS]
        self.model.eval()
        maps = localise(self.model, pixels).refined
        self.model.train()
        size = (pixels.shape[2], pixels.shape[3])
        full = F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)
        low, high = full.amin(dim=(2, 3), keepdim=True), full.amax(dim=(2, 3), keepdim=True)
        scaled = ((full - low) / (high - low + 1e-8)).cpu().numpy()
        images = to_rgb(batch, self._augment)[:_SHOWN_CROPS].permute(0, 2, 3, 1).cpu().numpy()
        rows = []
        for image, of_image, labels in zip(images, scaled, batch.labels.cpu().numpy(), strict=False):
            shown = [heat_overlay(image, of_image[c]) for c in np.flatnonzero(labels)[:_SHOWN_MAPS]]
            blank = [np.full_like(image, 255)] * (_SHOWN_MAPS - len(shown))
            rows.append(np.concatenate([image, *shown, *blank], axis=1))
        return PIL.Image.fromarray(np.concatenate(rows))

    def save(self, path: Path) -> None:
        """Save as one file, with the names of the classes."""
        save_mctformer(path, self._trained)
