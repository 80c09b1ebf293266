"""The training of the affinity network, in a run folder of its own.

images, maps -> train_affinity -> FOLDER/model.safetensors
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor

from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.files import file_hash
from tagmask.papers.psa import CELL, affinity_loss, pair_affinities, pair_labels
from tagmask.runtime.folders import find_images, output_names
from tagmask.weak.affinity_net import AffinityNet, save_affinity
from tagmask.weak.affinity_samples import AffinitySamples
from tagmask.weak.config import TrainConfig, fingerprint
from tagmask.weak.loop import Report, fit
from tagmask.weak.prechecks import check_run
from tagmask.weak.samples import Batch, Pair
from tagmask.weak.seeds import cam_paths
from tagmask.weak.steps import run_device
from tagmask.weak.students.imagenet import load_imagenet
from tagmask.weak.students.kind import ParameterGroup

__all__ = ["AffinityTask", "train_affinity"]

_LOG = logging.getLogger(__name__)


class AffinityTask:
    """Training of an affinity network on labels of cells.

    Args:
        net: on its device.
    """

    def __init__(self, net: AffinityNet) -> None:
        self.model = net

    def groups(self) -> list[ParameterGroup]:
        """The trunk, and the head with ten times the learning rate; no convolution has a bias."""
        parts = (self.model.trunk, self.model.head)
        trunk, head = (tuple(p for p in part.parameters() if p.requires_grad) for part in parts)
        return [ParameterGroup("trunk", trunk), ParameterGroup("head", head, factor=10.0)]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Loss of background, foreground and negative pairs, in float32 also under autocast."""
        features = self.model(batch.pixels)
        with torch.autocast(batch.pixels.device.type, enabled=False):
            labels = pair_labels(batch.labels.to(torch.uint8))
            return affinity_loss(pair_affinities(features.float()), labels)

    def picture(self, batch: Batch) -> PIL.Image.Image | None:
        """Affinities have no picture."""
        return None

    def save(self, path: Path) -> None:
        """Save as one file."""
        save_affinity(path, self.model)


def train_affinity(config: TrainConfig, folder: Path, watch: Callable[[Report], None] | None = None) -> Path:
    """Train an affinity network on maps of classes, or resume its training.

    Args:
        config: with `model.kind` "affinity", images, a folder of maps as `data.seeds`, and class names.
        folder: run folder; see `loop.fit`.
        watch: called with progress reports.

    Returns:
        The model's file.

    Raises:
        InputError: another kind of model, no images with maps, no class names, or a crop that does not fit.
        WeightsError: initial weights that cannot be used.
        TagmaskError: see `loop.fit`.
    """
    check_choice("model.kind", config.model.kind, ("affinity",))
    check_run(config)
    if not config.model.words:
        raise InputError("No words are given. Name the classes in the order of the maps: -w cat -w dog.")
    if config.augment.crop % CELL:
        raise InputError(f"augment.crop is {config.augment.crop}. Give a multiple of {CELL}.")
    pairs = _pairs(config)
    images, seeds = (str(Path(p).expanduser().resolve()) for p in (config.data.images, config.data.seeds))
    config = replace(config, data=replace(config.data, images=images, seeds=seeds))
    with torch.random.fork_rng([]):
        torch.manual_seed(config.run.seed)
        net = AffinityNet(config.mctformer.affinity_base)
    if config.model.weights:
        load_imagenet(net.trunk, Path(config.model.weights).expanduser())
    else:
        _LOG.warning(
            "The affinity network starts from random weights; the paper starts from ResNet38, trained on "
            "image labels. Give its file with --weights."
        )
    task = AffinityTask(net.to(run_device(config)))
    samples = AffinitySamples(pairs, config, folder / "scores")
    inputs: Mapping[str, object] = {
        "images": fingerprint({"names": [pair.name for pair in pairs]}),
        "maps": fingerprint({pair.name: file_hash(pair.seed) for pair in pairs}),
    }
    metadata = {"words": list(config.model.words), "weights": config.model.weights}
    return fit(task, samples, config, folder, inputs=inputs, metadata=metadata, watch=watch)


def _pairs(config: TrainConfig) -> list[Pair]:
    """Images and their files of maps; images without one, which have no tags, are left out."""
    if not config.data.images or not config.data.seeds:
        raise InputError("The affinity network is trained on images and maps. Give --images DIR --maps DIR.")
    images = find_images([Path(config.data.images).expanduser()])
    files = cam_paths(Path(config.data.seeds).expanduser(), images)
    named = zip(map(str, output_names(images)), images, files, strict=True)
    pairs = [Pair(name, image.path, file) for name, image, file in named if file.exists()]
    if not pairs:
        raise InputError(
            f"{config.data.seeds} has no maps of images in {config.data.images}. Give the folder `maps` of "
            "`tagmask train seeds --method mctformer`."
        )
    return pairs
