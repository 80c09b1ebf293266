"""The training of MCTformer, in a run folder of its own.

images, tags -> train_mctformer -> FOLDER/model.safetensors
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.papers.mctformer import MctFormer
from tagmask.weak.config import TrainConfig, fingerprint
from tagmask.weak.loop import Report, fit
from tagmask.weak.mctformer_file import TrainedMctFormer, initial_hash, new_mctformer
from tagmask.weak.mctformer_task import MctFormerTask
from tagmask.weak.prechecks import check_run, check_shapes
from tagmask.weak.steps import run_device
from tagmask.weak.tag_samples import TaggedImage, TagSamples, find_tagged

__all__ = ["check_mctformer", "train_mctformer"]


def train_mctformer(config: TrainConfig, folder: Path, watch: Callable[[Report], None] | None = None) -> Path:
    """Train an MCTformer on tags, or resume its training.

    Args:
        config: with `model.kind` "mctformer", images, tags and class names (without a background).
        folder: run folder; see `loop.fit`.
        watch: called with progress reports.

    Returns:
        The model's file.

    Raises:
        TagmaskError: see `loop.fit` and `check_mctformer`.
    """
    images, net = _checked(config)
    # Absolute paths, so that a run can resume from another working directory.
    folder_of_images, tags = (
        str(Path(path).expanduser().resolve()) for path in (config.data.images, config.data.tags)
    )
    config = replace(config, data=replace(config.data, images=folder_of_images, tags=tags))
    words = config.model.words
    trained = TrainedMctFormer(net.to(run_device(config)), words)
    inputs = {
        "images and tags": fingerprint({each.name: each.tags for each in images}),
        "initial weights": initial_hash(config.model.weights),
    }
    samples = TagSamples(images, len(words), config)
    metadata = {"words": list(words), "version": config.mctformer.version, "weights": config.model.weights}
    task = MctFormerTask(trained, config)
    return fit(task, samples, config, folder, inputs=inputs, metadata=metadata, watch=watch)


def check_mctformer(config: TrainConfig) -> None:
    """Check that an MCTformer can be built and trained; this reads its initial weights.

    Raises:
        InputError: another kind of model, no class names, no images or tags, unusable ones, crops that do
            not fit, or an error of `check_run`.
        WeightsError: weights that cannot be used.
    """
    _checked(config)


def _checked(config: TrainConfig) -> tuple[tuple[TaggedImage, ...], MctFormer]:
    """The images and the initial network of a run whose settings are fit for it."""
    check_choice("model.kind", config.model.kind, ("mctformer",))
    check_run(config)
    if not config.model.words:
        raise InputError("No words are given. Name the classes in the order of the tags: -w cat -w dog.")
    if not config.data.images or not config.data.tags:
        raise InputError("MCTformer is trained on images and their tags. Give --images DIR --tags-file FILE.")
    images = find_tagged(
        Path(config.data.images).expanduser(), Path(config.data.tags).expanduser(), len(config.model.words)
    )
    net = new_mctformer(config, len(config.model.words))
    with torch.device("meta"):
        shapes = MctFormer(net.shape)
    check_shapes(shapes, "MCTformer", config)
    return images, net
