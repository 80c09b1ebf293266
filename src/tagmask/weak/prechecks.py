"""What can be said of a training run before there is anything to train on.

Each check makes the very object that the run will make, as far as that costs no memory or time: networks are
built on torch's meta device, which computes shapes alone.
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

__all__ = ["check_student", "check_weakclip", "new_student", "pairs_of", "weak_settings", "words_for"]


def check_weakclip(config: TrainConfig, words: Sequence[str], geometry: Geometry) -> None:
    """Refuse a WeakCLIP that could not be made or trained.

    Args:
        config: of the run.
        words: class names, background first.
        geometry: of the CLIP that it is made on.

    Raises:
        InputError: another kind of model, parts that do not fit the CLIP, names too long for its text tower,
            crops too small, or anything that `_check_run` refuses.
    """
    check_choice("model.kind", config.model.kind, ("weakclip",))
    _check_run(config)
    names = split_names(list(words)).classes
    ids = name_ids(names)
    with torch.device("meta"):
        towers = Vision(geometry, ACTIVATIONS["gelu"]), Text(geometry, ACTIVATIONS["gelu"])
        model = WeakClip(*towers, geometry, ids, weak_settings(config).as_(config.model.as_), names)

    model.train()

    def forward(pixels: Pixels) -> None:
        trunk = model.features(pixels)
        scores = trunk.memory.new_empty(len(trunk), len(names), *trunk.grid)  # their size asks for nothing
        if model.pyramid is not None and model.fpn is not None and model.decode_head is not None:
            model.decode_head(model.fpn(model.pyramid, trunk.maps, scores))

    _check_shapes(forward, "WeakCLIP", config)


def check_student(config: TrainConfig, words: Sequence[str]) -> None:
    """Refuse a student that could not be made or trained; its weights are read.

    Args:
        config: of the run.
        words: class names, background first.

    Raises:
        InputError: an unknown kind, weights or settings that it cannot have, a package that is not installed,
            crops too small, or anything that `_check_run` refuses.
        WeightsError: weights that cannot be used.
    """
    check_choice("model.kind", config.model.kind, tuple(STUDENTS))
    _check_run(config)
    net = new_student(config, len(words)).to("meta")
    _check_shapes(net, f"the student {config.model.kind!r}", config)


def new_student(config: TrainConfig, classes: int) -> nn.Module:
    """The network that a run begins with, on the CPU; the caller's random numbers stay as they were.

    Raises:
        InputError: see `build_student`; or no weights for a student that starts from a CLIP.
        WeightsError: weights that cannot be used.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(config.run.seed)
        net = build_student(config.model.kind, classes, weights=config.model.weights or None)
    takes_over = STUDENTS[config.model.kind].inherited_preprocessing
    if takes_over is not None:
        takes_over(net)  # refuses one without weights
    return net


def weak_settings(config: TrainConfig) -> WeakSettings:
    """The parts of a WeakCLIP that a run's settings ask for."""
    own = config.model
    return WeakSettings(contexts=own.contexts, co_attention=own.co_attention, decoder=own.decoder)


def words_for(config: TrainConfig, of_masks: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Class names of a run: those of its settings, else those of its masks.

    Args:
        config: of the run.
        of_masks: what the masks' labels are called; empty where nothing says so.
        folder: of the masks, for messages.

    Raises:
        InputError: neither has names, or not as many.
    """
    words = config.model.words or tuple(of_masks)
    if len(words) < 2:
        raise InputError(
            f"nothing says what the labels in {folder} are called; give model.words, the background first"
        )
    if of_masks and len(of_masks) != len(words):
        raise InputError(f"model.words are {len(words)} and {folder} was made with {len(of_masks)} words")
    return words


def pairs_of(config: TrainConfig) -> tuple[Pair, ...]:
    """Images and masks of a run, by name; the masks need not be there yet.

    Raises:
        InputError: no folder of images or masks is named, no images, or a list that cannot be used.
    """
    for name in ("images", "seeds"):
        if not getattr(config.data, name):
            raise InputError(f"data.{name} is empty; give a folder, as in --set {name}=FOLDER")
    images, seeds = (Path(place).expanduser().resolve() for place in (config.data.images, config.data.seeds))
    return find_pairs(images, seeds, [Path(file) for file in config.data.lists])


def _check_run(config: TrainConfig) -> None:
    """Refuse a device that is not here, a batch that processes cannot share, and an absent TensorBoard."""
    choose_device(config.run.device)
    ranks_here().share_of(config.data.batch)
    if config.run.tensorboard:
        need_tensorboard()


def _check_shapes(forward: Callable[[Pixels], object], what: str, config: TrainConfig) -> None:
    """Refuse crops that are too small or too few for a network on the meta device, in training mode."""
    batch, side = ranks_here().share_of(config.data.batch), config.augment.crop
    try:
        forward(torch.empty(batch, 3, side, side, device="meta"))
    except NotImplementedError:
        return  # an operation that knows no meta device says nothing of shapes
    except (RuntimeError, ValueError) as error:  # torch's own, of any layer
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{what} cannot be trained on {batch} crops of {side} x {side} pixels ({reason}); "
            "give a larger augment.crop or data.batch"
        ) from error
