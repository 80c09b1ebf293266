"""Checks of a training run before its data exists.

Each check builds the objects that the run will build, as far as that takes no memory or time: networks are
built on torch's meta device, which computes shapes only.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from tagmask.checks import check_choice
from tagmask.clip.hardware import choose_device
from tagmask.clip.model import ACTIVATIONS, Text, Vision
from tagmask.clip.state_dict import Geometry
from tagmask.dense.prompts import split_names
from tagmask.errors import InputError
from tagmask.types import Pixels
from tagmask.weak.config import TrainConfig
from tagmask.weak.distributed import ranks_here
from tagmask.weak.model import WeakClip
from tagmask.weak.model_settings import WeakSettings
from tagmask.weak.samples import Pair, find_pairs
from tagmask.weak.students.catalogue import STUDENTS, build_student
from tagmask.weak.train_log import need_tensorboard
from tagmask.weak.trunk import name_ids

__all__ = [
    "check_run",
    "check_shapes",
    "check_student",
    "check_weakclip",
    "new_student",
    "pairs_of",
    "weak_settings",
    "words_for",
]


def check_weakclip(config: TrainConfig, words: Sequence[str], geometry: Geometry) -> None:
    """Check that a WeakCLIP can be built and trained.

    Args:
        config: of the run.
        words: class names, background first.
        geometry: of its CLIP.

    Raises:
        InputError: another kind of model, parts that do not fit the CLIP, names too long for its text tower,
            crops too small, or an error of `check_run`.
    """
    check_choice("model.kind", config.model.kind, ("weakclip",))
    check_run(config)
    start = config.model.init_from
    if start and not Path(start).expanduser().is_file():
        raise InputError(f"There is no file {start}. Give a WeakCLIP checkpoint in the authors' layout.")
    names = split_names(list(words)).classes
    ids = name_ids(names)
    with torch.device("meta"):
        towers = Vision(geometry, ACTIVATIONS["gelu"]), Text(geometry, ACTIVATIONS["gelu"])
        model = WeakClip(*towers, geometry, ids, weak_settings(config).as_(config.model.as_), names)

    model.train()

    def forward(pixels: Pixels) -> None:
        trunk = model.features(pixels)
        scores = trunk.memory.new_empty(len(trunk), len(names), *trunk.grid)  # only their shape matters
        if model.pyramid is not None and model.fpn is not None and model.decode_head is not None:
            model.decode_head(model.fpn(model.pyramid, trunk.maps, scores))

    check_shapes(forward, "WeakCLIP", config)


def check_student(config: TrainConfig, words: Sequence[str]) -> None:
    """Check that a student can be built and trained; this reads its weights.

    Args:
        config: of the run.
        words: class names, background first.

    Raises:
        InputError: an unknown kind, unsupported weights or settings, a missing package, crops too small, or
            an error of `check_run`.
        WeightsError: weights that cannot be used.
    """
    check_choice("model.kind", config.model.kind, tuple(STUDENTS))
    check_run(config)
    net = new_student(config, len(words)).to("meta")
    check_shapes(net, f"The student {config.model.kind!r}", config)


def new_student(config: TrainConfig, classes: int) -> nn.Module:
    """Build the initial network of a run, on the CPU; the caller's random number generator is not touched.

    Raises:
        InputError: see `build_student`; or no weights for a student that starts from a CLIP.
        WeightsError: weights that cannot be used.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(config.run.seed)
        net = build_student(config.model.kind, classes, weights=config.model.weights or None)
    inherited_preprocessing = STUDENTS[config.model.kind].inherited_preprocessing
    if inherited_preprocessing is not None:
        inherited_preprocessing(net)  # raises if it was built without weights
    return net


def weak_settings(config: TrainConfig) -> WeakSettings:
    """WeakCLIP settings from a run's settings."""
    model = config.model
    return WeakSettings(contexts=model.contexts, co_attention=model.co_attention, decoder=model.decoder)


def words_for(config: TrainConfig, mask_words: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Class names of a run: those of its settings, else those of its masks.

    Args:
        config: of the run.
        mask_words: class names recorded with the masks; empty if there are none.
        folder: of the masks, for messages.

    Raises:
        InputError: neither has names, or their numbers differ.
    """
    words = config.model.words or tuple(mask_words)
    if len(words) < 2:
        raise InputError(
            f"The class names of the masks in {folder} are unknown. Give model.words, the background first."
        )
    if mask_words and len(mask_words) != len(words):
        raise InputError(
            f"model.words has {len(words)} words, but {folder} was made with {len(mask_words)}. "
            "Give the same words."
        )
    return words


def pairs_of(config: TrainConfig) -> tuple[Pair, ...]:
    """Images and masks of a run, paired by name; the masks need not exist yet.

    Raises:
        InputError: no folder of images or masks is given, there are no images, or a list cannot be used.
    """
    for name in ("images", "seeds"):
        if not getattr(config.data, name):
            raise InputError(f"data.{name} is empty. Give a folder, as in --set data.{name}=FOLDER.")
    images, seeds = (Path(path).expanduser().resolve() for path in (config.data.images, config.data.seeds))
    return find_pairs(images, seeds, [Path(file) for file in config.data.lists])


def check_run(config: TrainConfig) -> None:
    """Check device, batch size and TensorBoard against this machine and its processes."""
    choose_device(config.run.device)
    ranks_here().share_of(config.data.batch)
    if config.run.tensorboard:
        need_tensorboard()


def check_shapes(forward: Callable[[Pixels], object], what: str, config: TrainConfig) -> None:
    """Check crop and batch size in a forward pass on the meta device, in training mode."""
    batch, side = ranks_here().share_of(config.data.batch), config.augment.crop
    try:
        forward(torch.empty(batch, 3, side, side, device="meta"))
    except NotImplementedError:
        return  # an operation has no meta implementation, so shapes cannot be checked
    except (RuntimeError, ValueError) as error:  # from any torch layer
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{what} cannot be trained on {batch} crops of {side} x {side} pixels ({reason}). "
            "Give a larger augment.crop or data.batch."
        ) from error
