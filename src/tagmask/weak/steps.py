"""The steps from seeds to a student, each with its own folder.

images, seeds      -> train_weakclip -> FOLDER/model.safetensors
images, a WeakCLIP -> pseudo_source  -> masks, by `mask_folder.write_masks`
images, masks      -> train_student  -> FOLDER/model.safetensors
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tagmask.checks import check_choice, check_number
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.clip.load import Clip, load
from tagmask.errors import InputError
from tagmask.files import file_hash
from tagmask.images import read_image
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.runs.identity import read_identity
from tagmask.runs.ownership import is_run_folder
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import tags_of
from tagmask.weak import model_file
from tagmask.weak.config import TrainConfig, fingerprint
from tagmask.weak.describe import TrainingCost, training_cost
from tagmask.weak.distributed import ranks_here
from tagmask.weak.feature_cache import FeatureCache
from tagmask.weak.loop import MODEL_FILE, Report, fit
from tagmask.weak.mask_folder import Mask, MaskSource, words_of
from tagmask.weak.model import WeakClip
from tagmask.weak.multiscale import TTAConfig, views_of
from tagmask.weak.prechecks import (
    check_student,
    check_weakclip,
    new_student,
    pairs_of,
    weak_settings,
    words_for,
)
from tagmask.weak.pseudo import pseudo_mask
from tagmask.weak.samples import Pair, SeedSamples, check_seeds
from tagmask.weak.students.catalogue import STUDENTS
from tagmask.weak.students.student_file import StudentCard, TrainedStudent
from tagmask.weak.tasks import StudentTask, WeakClipTask
from tagmask.weak.training_folder import read_metadata
from tagmask.weak.training_state import frozen_hash
from tagmask.weak.validation import Validation

__all__ = [
    "PseudoSettings",
    "describe_weakclip",
    "model_location",
    "pseudo_source",
    "run_device",
    "train_student",
    "train_weakclip",
    "trained_views",
    "trained_weakclip",
]

Watch = Callable[[Report], None]

_GB = 10**9


def train_weakclip(
    config: TrainConfig, folder: Path, watch: Watch | None = None, validation: Validation | None = None
) -> Path:
    """Train a WeakCLIP on seeds, or resume its training.

    Args:
        config: with `model.kind` "weakclip", images, seeds and CLIP's weights.
        folder: run folder; see `loop.fit`.
        watch: called with progress reports.
        validation: images to validate on during training.

    Returns:
        The model's file.

    Raises:
        TagmaskError: see `loop.fit`; invalid seeds are reported before training starts.
    """
    check_choice("model.kind", config.model.kind, ("weakclip",))
    if not config.model.weights:
        raise InputError("model.weights is empty. Give CLIP weights, as in --set weights=miniature.")
    config, pairs = _resolve_data(config)
    clip = load(config.model.weights, device=run_device(config), precision=_clip_precision(config))
    check_weakclip(config, config.model.words, clip.geometry)
    if validation is not None:
        validation.check(config.model.words)
    _check_masks(config, pairs)
    model, config = _new_weakclip(config, clip)
    task = WeakClipTask(model, config, _cache(config, model, folder))
    samples = SeedSamples(pairs, len(config.model.words), config.augment, config.run.seed)
    sizes = {name: getattr(config.augment, name) for name in ("crop", "base_short", "base_long")}
    metadata = {"words": list(config.model.words), "weights": config.model.weights, **sizes}
    return fit(
        task,
        samples,
        config,
        folder,
        inputs=_inputs(config, pairs),
        metadata=metadata,
        watch=watch,
        validation=validation,
    )


def describe_weakclip(config: TrainConfig) -> TrainingCost:
    """Count and measure what training would cost; nothing is written, and no image is read.

    Args:
        config: as for `train_weakclip`; images and seeds may be missing if the words are given.

    Raises:
        TagmaskError: as for `train_weakclip`.
    """
    check_choice("model.kind", config.model.kind, ("weakclip",))
    seeds = config.data.seeds
    words = words_for(config, words_of(_absolute(seeds)) if seeds else (), Path(seeds))
    config = replace(config, model=replace(config.model, words=words))
    clip = load(config.model.weights, device=run_device(config), precision=_clip_precision(config))
    check_weakclip(config, words, clip.geometry)
    return training_cost(*_new_weakclip(config, clip))


def _clip_precision(config: TrainConfig) -> str:
    """The precision of CLIP's weights in training. Autocast would convert frozen ones in every step."""
    frozen = config.model.freeze == "paper" and not config.model.init_from
    return config.run.precision if frozen else "float32"


def _new_weakclip(config: TrainConfig, clip: Clip) -> tuple[WeakClip, TrainConfig]:
    """Build the initial model, and give the settings its normalisation of pixels."""
    model = WeakClip.of(
        clip, config.model.words, weak_settings(config), config.model.as_, seed=config.run.seed
    )
    if config.model.init_from:
        model_file.start_from_published(model, config.model.init_from)
    return model, replace(config, augment=replace(config.augment, mean=model.mean, std=model.std))


def train_student(
    config: TrainConfig, folder: Path, watch: Watch | None = None, validation: Validation | None = None
) -> Path:
    """Train a student on masks, or resume its training.

    Args:
        config: with a student's name as `model.kind`, images and masks.
        folder: run folder; see `loop.fit`.
        watch: called with progress reports.
        validation: images to validate on during training.

    Returns:
        The student's file.

    Raises:
        TagmaskError: see `loop.fit`; invalid masks are reported before training starts.
    """
    check_choice("model.kind", config.model.kind, tuple(STUDENTS))
    config, pairs = _resolve_data(config)
    words = config.model.words
    check_student(config, words)
    if validation is not None:
        validation.check(words)
    _check_masks(config, pairs)
    net = new_student(config, len(words))
    settings: Mapping[str, int | float] = {}
    mean, std = (_times(triple, 1 / 255) for triple in (config.augment.mean, config.augment.std))
    inherited_preprocessing = STUDENTS[config.model.kind].inherited_preprocessing
    if inherited_preprocessing is not None:
        inherited = inherited_preprocessing(net)
        settings, (mean, std) = inherited.settings, inherited.statistics
        augment = replace(config.augment, mean=_times(mean, 255.0), std=_times(std, 255.0))
        config = replace(config, augment=augment)
    card = StudentCard(config.model.kind, words, True, settings, mean, std)
    # channels_last makes convolutions faster on a CPU, most of all in bfloat16.
    net = net.to(run_device(config)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = StudentTask(TrainedStudent(card, net), config)
    samples = SeedSamples(pairs, len(words), config.augment, config.run.seed)
    metadata = {"words": list(words)}
    return fit(
        task,
        samples,
        config,
        folder,
        inputs=_inputs(config, pairs),
        metadata=metadata,
        watch=watch,
        validation=validation,
    )


def _times(triple: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    first, second, third = (value * factor for value in triple)
    return first, second, third


@dataclass(frozen=True)
class PseudoSettings:
    """Multi-scale inference and CRF settings of pseudo-masks."""

    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip: bool = True
    """Also process every scale mirrored."""
    crf: str | None = "weakclip/voc"
    """Dense CRF settings, by name; None: no CRF."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales is empty. Give at least one scale, as in (1.0,).")
        for scale in self.scales:
            check_number("scales", scale, 0.01, 100)
        if self.crf is not None:
            check_choice("crf", self.crf, tuple(CRF_SETTINGS))


def model_location(path: Path) -> tuple[Path, Path]:
    """Folder of a training and its model's file, from the folder or from one of its model files.

    Example:
        >>> [str(part) for part in model_location(Path("weak/best.safetensors"))]
        ['weak', 'weak/best.safetensors']
    """
    if path.suffix and not path.is_dir():
        return (path.parent.parent if path.parent.name == "models" else path.parent), path
    return path, path / MODEL_FILE


def trained_weakclip(model: Path, *, device: str = "auto", precision: str = "float32") -> WeakClip:
    """Load the model of a finished run, in evaluation mode.

    Args:
        model: the run's folder, or a model file in it, such as `best.safetensors`.
        device: as `tagmask.load` takes it.
        precision: likewise.

    Raises:
        InputError: the folder has no finished WeakCLIP run.
        WeightsError: its file, or CLIP's, cannot be used.
    """
    run, file = model_location(model)
    metadata = read_metadata(run, "weakclip")
    clip: Clip = load(str(metadata["weights"]), device=device, precision=precision)
    return model_file.load(file, clip)


def trained_views(run: Path, scales: tuple[float, ...], *, flip: bool) -> TTAConfig:
    """Views for the model of a finished run: windows of the size of its crops.

    Raises:
        InputError: the folder has no finished WeakCLIP run.
    """
    metadata = read_metadata(run, "weakclip")
    crop, short, long = (int(str(metadata[name])) for name in ("crop", "base_short", "base_long"))
    return views_of(crop, short, long, scales, flip=flip)


def pseudo_source(
    trained: Path,
    settings: PseudoSettings,
    *,
    device: str = "auto",
    precision: str = "float32",
    tags: Mapping[str, Sequence[int]] | None = None,
) -> MaskSource:
    """Pseudo-masks from a trained WeakCLIP: sliding windows of its crop size, several scales, then a CRF.

    Args:
        trained: folder of the finished run, or a model file in it, such as `best.safetensors`.
        settings: scales, flip and CRF.
        device: as `tagmask.load` takes it.
        precision: likewise, including "auto".
        tags: given tags: classes of each image, by its name (see `tags_of`), counted from 0 without the
            background; only these are candidate classes. The paper uses none.

    Raises:
        InputError: the folder has no finished WeakCLIP run.
        WeightsError: its file, or CLIP's, cannot be used.
    """
    precision = choose_precision(precision, choose_device(device))
    run, file = model_location(trained)
    model = trained_weakclip(file, device=device, precision=precision)
    views = trained_views(run, settings.scales, flip=settings.flip)
    field = None if settings.crf is None else CRF_SETTINGS[settings.crf]

    def make(image: FoundImage) -> Mask:
        present = None if tags is None else (0, *(tag + 1 for tag in tags_of(image, tags)))
        mask: Mask = pseudo_mask(model, read_image(image.path), field, views, present=present)
        return mask

    fingerprint_fields = {
        "model": file_hash(file),
        "precision": precision,
        "tags": None if tags is None else fingerprint(tags),
        **asdict(settings),
    }
    return MaskSource("pseudo", model.words, fingerprint_fields, make, {"device": str(choose_device(device))})


def _resolve_data(config: TrainConfig) -> tuple[TrainConfig, tuple[Pair, ...]]:
    """Fill in class names and absolute paths; also return the pairs of images and masks."""
    pairs = pairs_of(config)
    images, seeds = (_absolute(path) for path in (config.data.images, config.data.seeds))
    words = words_for(config, words_of(seeds), seeds)
    weights, init_from = config.model.weights, config.model.init_from
    if weights and Path(weights).expanduser().exists():
        weights = str(_absolute(weights))
    if init_from:
        init_from = str(_absolute(init_from))
    return replace(
        config,
        model=replace(config.model, words=words, weights=weights, init_from=init_from),
        data=replace(config.data, images=str(images), seeds=str(seeds)),
    ), pairs


def _check_masks(config: TrainConfig, pairs: Sequence[Pair]) -> None:
    """Check every mask, in the first process, unless `data.check` is off."""
    if config.data.check and ranks_here().first:
        check_seeds(pairs, len(config.model.words))


def _absolute(path: str) -> Path:
    """Absolute path, so that a run can resume from another working directory."""
    return Path(path).expanduser().resolve()


def _inputs(config: TrainConfig, pairs: Sequence[Pair]) -> dict[str, object]:
    """Fingerprints of a run's data: its images, and the settings of its masks."""
    seeds = Path(config.data.seeds)
    made = read_identity(seeds / "run.json").fingerprint if is_run_folder(seeds) else None
    corrected = [pair.name for pair in pairs if (seeds / "corrected") in pair.seed.parents]
    init_from = config.model.init_from
    return {
        "images": _names([pair.name for pair in pairs]),
        "masks": made,
        "corrected masks": _names(corrected) if corrected else None,
        **({"start": file_hash(Path(init_from))} if init_from else {}),
    }


def _names(names: Sequence[str]) -> str:
    return f"{len(names)} ({fingerprint({'names': list(names)})})"


def run_device(config: TrainConfig) -> str:
    """The configured device; with several processes, the GPU of this process's local rank."""
    device = choose_device(config.run.device)
    ranks = ranks_here()
    if device.type != "cuda" or ranks.world == 1:
        return str(device)
    torch.cuda.set_device(ranks.local)
    return f"cuda:{ranks.local}"


def _cache(config: TrainConfig, model: WeakClip, folder: Path) -> FeatureCache | None:
    """Feature cache, if CLIP is frozen and crops repeat; all processes share the size limit.

    Its key is what the features depend on, so that models with other heads can share it.
    """
    if not config.run.cache_gb or not config.augment.views or config.model.freeze != "paper":
        return None
    limit = int(config.run.cache_gb * _GB) // ranks_here().world
    model.parameter_groups(config.model.freeze)  # sets which parameters are frozen, for the hash
    network = (
        f"{frozen_hash(model.vision)} {model.taps} {model.settings.class_embedding_twice} "
        f"{config.run.precision}"
    )
    shared = config.run.cache_dir
    return FeatureCache(_absolute(shared) if shared else folder / "features", network, limit)
