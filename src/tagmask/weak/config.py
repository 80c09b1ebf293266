"""All settings of a training run, as frozen dataclasses.

    TrainConfig
    ├── model      the model and its words
    ├── data       images, seeds, batches
    ├── augment    how an image becomes a training crop
    ├── loss       loss terms and their weights
    ├── optimiser  AdamW or SGD, learning rate, weight decay
    ├── schedule   learning rate over steps
    ├── run        random seed, precision, device, logging and checkpoint intervals
    └── mctformer  version, sizes and augmentation of an MCTformer

Each part checks its values when it is created, so an invalid setting fails before training starts.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError
from tagmask.method import BEHAVIOURS
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.strict_json import json_text
from tagmask.weak.mctformer_settings import MctFormerSettings
from tagmask.weak.model_settings import DECODERS, FREEZES, MOST_CONTEXTS
from tagmask.weak.students.catalogue import STUDENTS

__all__ = [
    "AugmentSettings",
    "DataSettings",
    "LossSettings",
    "ModelSettings",
    "OptimiserSettings",
    "RunSettings",
    "ScheduleSettings",
    "TrainConfig",
    "fingerprint",
]


@dataclass(frozen=True)
class ModelSettings:
    """The model to train."""

    kind: str = "weakclip"
    """"weakclip", a student's name, "mctformer" or "affinity"."""
    weights: str = ""
    """CLIP weights as `tagmask.load` takes them, or the file that a student, an MCTformer or an affinity
    network starts from. Empty: none."""
    init_from: str = ""
    """A WeakCLIP checkpoint in the authors' layout to start from: it replaces all weights, CLIP's included.
    Empty: none."""
    words: tuple[str, ...] = ()
    """Class names by index, background first (an MCTformer or an affinity network has none); empty: those of
    the seeds folder."""
    freeze: str = "paper"
    """"paper": CLIP is frozen, the adapter is trained; "repo": as coded by the authors; "none": everything is
    trained."""
    as_: str = "published"
    """"published" keeps the authors' code as it is, including what looks unintended; "corrected" fixes it."""
    contexts: int = 8
    """WeakCLIP's learnable context vectors before each class name; 0: plain names."""
    co_attention: bool = True
    """WeakCLIP updates texts and pixels by cross-attention before comparing them."""
    decoder: str = "guided"
    """WeakCLIP's decoder: "guided" by the score map, "plain" (without the score map) or "none"."""

    def __post_init__(self) -> None:
        check_choice("model.kind", self.kind, ("weakclip", *STUDENTS, "mctformer", "affinity"))
        check_choice("model.freeze", self.freeze, FREEZES)
        check_choice("model.as_", self.as_, BEHAVIOURS)
        check_choice("model.decoder", self.decoder, DECODERS)
        check_number("model.contexts", self.contexts, 0, MOST_CONTEXTS, whole=True)
        if self.init_from and self.kind != "weakclip":
            raise InputError(
                f"model.init_from is for WeakCLIP, not for the student {self.kind!r}. Give model.weights."
            )
        if len(set(self.words)) < len(self.words):
            raise InputError(
                f"model.words names a class twice: {', '.join(self.words)}. Give each name once."
            )
        if len(self.words) > 254:
            raise InputError(
                f"model.words has {len(self.words)} classes. An 8-bit seed PNG holds at most 254."
            )


@dataclass(frozen=True)
class DataSettings:
    """The training data."""

    images: str = ""
    """Folder of images."""
    seeds: str = ""
    """Folder of index PNGs with the images' names, or a folder written by `tagmask train seeds`; for an
    affinity network, of activation maps."""
    tags: str = ""
    """File of the images' tags, which an MCTformer is trained on."""
    lists: tuple[str, ...] = ()
    """Files of image names, one per line, concatenated (names may repeat); empty: all images."""
    batch: int = 16
    """Batch size over all processes."""
    workers: int = 0
    """Data loading processes, capped at the number of CPUs; 0: load in the training process."""
    check: bool = True
    """Read every seed before the first step, so that an invalid one stops the run at once."""

    def __post_init__(self) -> None:
        check_number("data.batch", self.batch, 1, whole=True)
        check_number("data.workers", self.workers, 0, whole=True)


@dataclass(frozen=True)
class AugmentSettings:
    """Augmentation: how an image becomes a training crop."""

    order: str = "weakclip"
    """"weakclip": resize, crop, flip, colours; "student": colours, flip, resize, crop."""
    crop: int = 512
    """Side of the square crop, in pixels."""
    base_short: int = 512
    """Short side at ratio 1; 0: the image's size."""
    base_long: int = 2048
    """Maximum long side at ratio 1."""
    ratio: tuple[float, float] = (0.5, 2.0)
    """Range of the random scale, drawn uniformly."""
    interpolation: str = "linear"
    """Of images: "linear" as OpenCV's, or "cubic". Labels always use nearest."""
    crop_most: float = 0.75
    """A crop with a single class, or with one class above this share, is drawn again; 1: accept any crop."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    distort: bool = True
    """Change brightness, contrast, saturation and hue, each with probability 0.5."""
    jitter: int = 0
    """Maximum shift of hue, saturation and value, in levels of 180, 255 and 255."""
    views: int = 0
    """Number of different crops per image before they repeat; 0: new crops in every epoch. With a few views
    it pays to cache the features of a frozen CLIP (`run.cache_gb`)."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from pixels in 0..255; a WeakCLIP overrides it."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """Divides pixels in 0..255 after the mean is subtracted; a WeakCLIP overrides it."""

    def __post_init__(self) -> None:
        check_choice("augment.order", self.order, ("weakclip", "student"))
        check_choice("augment.interpolation", self.interpolation, ("linear", "cubic"))
        check_number("augment.crop", self.crop, 1, whole=True)
        check_number("augment.views", self.views, 0, whole=True)
        check_number("augment.base_short", self.base_short, 0, whole=True)
        check_number("augment.base_long", self.base_long, 1, whole=True)
        check_number("augment.crop_most", self.crop_most, 0, 1)
        check_number("augment.flip", self.flip, 0, 1)
        check_number("augment.jitter", self.jitter, 0, 90, whole=True)
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError(f"augment.ratio is {self.ratio}. Give two positive numbers, the smaller first.")
        if min(self.std) <= 0:
            raise InputError(f"augment.std is {self.std}. Give three positive numbers.")


@dataclass(frozen=True)
class LossSettings:
    """WeakCLIP's loss terms and their weights; weight 0 disables a term. A student's loss is cross-entropy.

    Raises:
        InputError: a value out of range, or all weights 0.
    """

    seed: float = 1.0
    """Weight of the balanced seed loss."""
    crf: float = 1.0
    """Weight of the divergence from the dense CRF's output."""
    contrast: float = 0.4
    """Weight of the cross-entropy between pixels and class texts."""
    tau: float = 0.07
    """Temperature of the contrast term."""
    size: int = 64
    """Side, in pixels, at which the seed and CRF terms are computed."""
    field: str = "weakclip/loss"
    """CRF settings, by name in `refine.crf.CRF_SETTINGS`."""
    kernel: str = "exact"
    """"exact": all pixel pairs, batched, on the GPU if there is one; "lattice": the approximation that the
    authors use, on the CPU and image by image; at 64 x 64 it changes 2 to 5 % of the labels."""

    def __post_init__(self) -> None:
        for name in ("seed", "crf", "contrast"):
            check_number(f"loss.{name}", getattr(self, name), 0)
        check_number("loss.tau", self.tau, 1e-4)
        check_number("loss.size", self.size, 1, 128, whole=True)
        check_choice("loss.field", self.field, tuple(CRF_SETTINGS))
        check_choice("loss.kernel", self.kernel, ("exact", "lattice"))
        if self.seed == self.crf == self.contrast == 0:
            raise InputError(
                "loss.seed, loss.crf and loss.contrast are all 0. Give at least one of them a weight."
            )


@dataclass(frozen=True)
class OptimiserSettings:
    """The optimiser."""

    kind: str = "adamw"
    """"adamw" or "sgd"."""
    lr: float = 1e-4
    """Base learning rate; parameter groups multiply it by their factor."""
    weight_decay: float = 3e-5
    """For all parameters, norms included, except groups without weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    momentum: float = 0.9
    """Of SGD."""
    clip: float = 0.0
    """Maximum gradient norm; 0: no clipping."""

    def __post_init__(self) -> None:
        check_choice("optimiser.kind", self.kind, ("adamw", "sgd"))
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimiser.betas are {self.betas}. Give two numbers, from 0 to less than 1.")
        for name in ("lr", "weight_decay", "momentum", "clip"):
            check_number(f"optimiser.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate schedule."""

    kind: str = "cosine"
    """"cosine", "poly", "constant", or "epochs": the cosine of MCTformer's authors, set once per epoch."""
    steps: int = 20000
    """Number of training steps."""
    floor: float = 0.0
    """Final learning rate. Groups with a lower base rate rise to it, as coded by the authors."""
    power: float = 0.9
    """Exponent of "poly"."""
    extra_steps: int = 0
    """Added to the number of steps in the formula of "poly"."""
    warmup: int = 0
    """Steps of linear warm-up."""
    warmup_ratio: float = 1e-6
    """Share of the scheduled rate at step 0 of the warm-up; of "epochs": of the base rate."""
    interval: int = 1
    """Steps per epoch of "epochs"."""

    def __post_init__(self) -> None:
        check_choice("schedule.kind", self.kind, ("cosine", "poly", "constant", "epochs"))
        check_number("schedule.steps", self.steps, 1, whole=True)
        check_number("schedule.interval", self.interval, 1, whole=True)
        check_number("schedule.extra_steps", self.extra_steps, 0, whole=True)
        check_number("schedule.warmup", self.warmup, 0, whole=True)
        check_number("schedule.warmup_ratio", self.warmup_ratio, 0, 1)
        check_number("schedule.floor", self.floor, 0)
        check_number("schedule.power", self.power, 0)


@dataclass(frozen=True)
class RunSettings:
    """Settings of the run that do not affect the trained model, except `seed` and `precision`."""

    seed: int = 504
    """Random seed; all randomness follows from it, the step and the process's rank."""
    precision: str = "float32"
    """"float32", or "bfloat16" by autocast."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:N" or "mps"."""
    log_every: int = 50
    """Steps between progress reports."""
    checkpoint_every: int = 500
    """Steps between checkpoints; only the latest is kept."""
    keep_every: int = 0
    """Steps between intermediate models, all of which are kept; 0: none."""
    picture_every: int = 500
    """Steps between sample pictures; 0: none."""
    cache_gb: float = 0.0
    """Maximum disk space, in GB, of cached features of a frozen CLIP; 0: no cache."""
    cache_dir: str = ""
    """Folder of the cached features, which several runs may share; empty: in the run folder."""
    tensorboard: bool = False
    """Also write TensorBoard logs; needs the `tensorboard` package."""

    def __post_init__(self) -> None:
        check_number("run.seed", self.seed, 0, 2**32 - 1, whole=True)
        check_choice("run.precision", self.precision, ("float32", "bfloat16"))
        for name in ("log_every", "checkpoint_every"):
            check_number(f"run.{name}", getattr(self, name), 1, whole=True)
        check_number("run.cache_gb", self.cache_gb, 0)
        for name in ("keep_every", "picture_every"):
            check_number(f"run.{name}", getattr(self, name), 0, whole=True)


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    run: RunSettings = field(default_factory=RunSettings)
    mctformer: MctFormerSettings = field(default_factory=MctFormerSettings)

    def fingerprint_fields(self) -> dict[str, object]:
        """All settings that affect the trained model, flat, by dotted name.

        The others, such as logging intervals and data loading workers, may change when a run resumes.
        """
        flat = {
            f"{part}.{name}": value for part, values in asdict(self).items() for name, value in values.items()
        }
        if self.model.kind not in ("mctformer", "affinity"):
            flat = {name: value for name, value in flat.items() if not name.startswith(_ONLY_MCTFORMER)}
        return {name: value for name, value in flat.items() if name not in _NOT_IN_FINGERPRINT}


_NOT_IN_FINGERPRINT = frozenset(
    {
        "model.init_from",  # its content counts, not its path
        "data.workers",
        "data.check",
        "run.device",
        "run.log_every",
        "run.checkpoint_every",
        "run.keep_every",
        "run.picture_every",
        "run.cache_gb",
        "run.cache_dir",
        "run.tensorboard",
    }
)
_ONLY_MCTFORMER = ("mctformer.", "data.tags", "schedule.interval")


def fingerprint(settings: Mapping[str, object]) -> str:
    """Hash of settings, independent of their order and of the process.

    Example:
        >>> fingerprint({"a": 1, "b": (2,)}) == fingerprint({"b": [2], "a": 1})
        True
    """
    text = json_text(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
