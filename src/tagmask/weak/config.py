"""Everything a training run is told, as frozen data.

    TrainConfig
    ├── model      what is trained, and its words
    ├── data       pictures, seeds, batches
    ├── augment    how a picture becomes a crop
    ├── loss       the terms and their weights
    ├── optimiser  AdamW or SGD, and what groups of weights get of it
    ├── schedule   learning rate over steps
    └── run        seeds, precision, how often to log and to keep

Values are checked when a part is made, so no run starts that must fail later for a setting.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError
from tagmask.refine.crf import CRF_SETTINGS
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
    """What is trained."""

    kind: str = "weakclip"
    """"weakclip", or a student's name."""
    weights: str = ""
    """Of CLIP, as `tagmask.load` takes them; of a student, a file to start from. Empty: none."""
    words: tuple[str, ...] = ()
    """Class names by index, background first; empty: those of the seeds folder."""
    freeze: str = "paper"
    """"paper": CLIP is fixed and the adapter trained; "repo": as the authors' program has it; "none": all is
    trained."""
    as_: str = "published"
    """"published" keeps what the authors' program does where it looks unintended; "corrected" does not."""
    contexts: int = 8
    """WeakCLIP's learnable vectors before each name; 0: the plain names."""
    co_attention: bool = True
    """WeakCLIP's texts and pixels are changed by each other before they are compared."""
    decoder: str = "guided"
    """WeakCLIP's: "guided", "plain" (scores are not shown to it) or "none"."""

    def __post_init__(self) -> None:
        check_choice("model.kind", self.kind, ("weakclip", *STUDENTS))
        check_choice("model.freeze", self.freeze, FREEZES)
        check_choice("model.as_", self.as_, ("published", "corrected"))
        check_choice("model.decoder", self.decoder, DECODERS)
        check_number("model.contexts", self.contexts, 0, MOST_CONTEXTS, whole=True)
        if len(set(self.words)) < len(self.words):
            raise InputError(f"model.words names a class twice: {', '.join(self.words)}; give each once")
        if len(self.words) > 254:
            raise InputError(f"model.words are {len(self.words)}; a seed's PNG tells 254 classes apart")


@dataclass(frozen=True)
class DataSettings:
    """What it is trained on."""

    images: str = ""
    """Folder of pictures."""
    seeds: str = ""
    """Folder of index PNGs, named as the pictures are; or one that `tagmask train seeds` wrote."""
    lists: tuple[str, ...] = ()
    """Files of image names, one a line, one after another (a name may come twice); empty: all pictures."""
    batch: int = 16
    """Pictures a step, over all processes."""
    workers: int = 0
    """Processes that prepare pictures, no more than there are processors; 0: the training process does."""
    check: bool = True
    """Read every seed before the first step, so that a bad one stops the run at once."""

    def __post_init__(self) -> None:
        check_number("data.batch", self.batch, 1, whole=True)
        check_number("data.workers", self.workers, 0, whole=True)


@dataclass(frozen=True)
class AugmentSettings:
    """How a picture becomes a crop."""

    order: str = "weakclip"
    """"weakclip": resize, crop, flip, colours; "student": colours, flip, resize, crop."""
    crop: int = 512
    """Side of the square crop, in pixels."""
    base_short: int = 512
    """Short side at ratio 1; 0: the picture's own size."""
    base_long: int = 2048
    """Long side is never more than this, at ratio 1."""
    ratio: tuple[float, float] = (0.5, 2.0)
    """Scale, drawn uniformly."""
    interpolation: str = "linear"
    """Of pictures: "linear" as OpenCV's, or "cubic". Labels are always nearest."""
    crop_most: float = 0.75
    """A crop in which one class exceeds this share, or is alone, is drawn again; 1: any crop."""
    flip: float = 0.5
    """Chance of a mirror image."""
    distort: bool = True
    """Brightness, contrast, saturation and hue, each with chance one half."""
    jitter: int = 0
    """Hue, saturation and value are moved by up to so much, of 180, 255 and 255."""
    views: int = 0
    """How many crops of a picture there are before they come again; 0: every epoch has new ones. A few make
    it worth keeping a fixed CLIP's features (`run.cache_gb`)."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from pixels in 0..255; a WeakCLIP says its own."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

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
            raise InputError(f"augment.ratio is {self.ratio}; give two positive numbers, the smaller first")
        if min(self.std) <= 0:
            raise InputError(f"augment.std is {self.std}; give three positive numbers")


@dataclass(frozen=True)
class LossSettings:
    """WeakCLIP's terms and their weights; 0 leaves one out. A student's loss is cross-entropy alone.

    Raises:
        InputError: a value out of range, or no term left.
    """

    seed: float = 1.0
    """Balanced seed loss."""
    crf: float = 1.0
    """Divergence from the dense CRF's answer."""
    contrast: float = 0.4
    """Cross-entropy of pixels with the class texts."""
    tau: float = 0.07
    """Temperature of that."""
    size: int = 64
    """Side, in pixels, at which the first two are taken."""
    field: str = "weakclip/loss"
    """The CRF's settings, by their name in `refine.crf.CRF_SETTINGS`."""
    kernel: str = "exact"
    """"exact": all pairs, all images at once on an accelerator; or "lattice", the approximation that the
    authors call, on the processor and image by image, which at 64 x 64 moves 2 to 5 % of the labels."""

    def __post_init__(self) -> None:
        for name in ("seed", "crf", "contrast"):
            check_number(f"loss.{name}", getattr(self, name), 0)
        check_number("loss.tau", self.tau, 1e-4)
        check_number("loss.size", self.size, 1, 128, whole=True)
        check_choice("loss.field", self.field, tuple(CRF_SETTINGS))
        check_choice("loss.kernel", self.kernel, ("exact", "lattice"))
        if self.seed == self.crf == self.contrast == 0:
            raise InputError("loss.seed, loss.crf and loss.contrast are all 0; give one of them a weight")


@dataclass(frozen=True)
class OptimiserSettings:
    """What turns gradients into steps."""

    kind: str = "adamw"
    """"adamw" or "sgd"."""
    lr: float = 1e-4
    weight_decay: float = 3e-5
    """Of all weights, norms too, but those of groups that have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    momentum: float = 0.9
    """SGD's."""
    clip: float = 0.0
    """Gradients are scaled down to this norm; 0: left as they are."""

    def __post_init__(self) -> None:
        check_choice("optimiser.kind", self.kind, ("adamw", "sgd"))
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimiser.betas are {self.betas}; give two numbers from 0 to under 1")
        for name in ("lr", "weight_decay", "momentum", "clip"):
            check_number(f"optimiser.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate over steps."""

    kind: str = "cosine"
    """"cosine", "poly" or "constant"."""
    steps: int = 20000
    floor: float = 0.0
    """What the rate falls to. Groups whose own rate is lower rise to it, as the authors' program has it."""
    power: float = 0.9
    """Of "poly"."""
    extra_steps: int = 0
    """"poly" is drawn as if there were so many more steps."""
    warmup: int = 0
    """Steps over which the rate rises linearly to its curve."""
    warmup_ratio: float = 1e-6
    """Share of the curve that the rise begins at."""

    def __post_init__(self) -> None:
        check_choice("schedule.kind", self.kind, ("cosine", "poly", "constant"))
        check_number("schedule.steps", self.steps, 1, whole=True)
        check_number("schedule.over", self.extra_steps, 0, whole=True)
        check_number("schedule.warmup", self.warmup, 0, whole=True)
        check_number("schedule.warmup_ratio", self.warmup_ratio, 0, 1)
        check_number("schedule.floor", self.floor, 0)
        check_number("schedule.power", self.power, 0)


@dataclass(frozen=True)
class RunSettings:
    """What does not change which model is being trained, but for `seed` and `precision`."""

    seed: int = 504
    """Everything random follows from it, the step and the process's rank."""
    precision: str = "float32"
    """"float32", or "bfloat16" by autocast."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:N" or "mps"."""
    log_every: int = 50
    """Steps between lines of talk."""
    checkpoint_every: int = 500
    """Steps between checkpoints, the last of which is kept."""
    keep_every: int = 0
    """Steps between models that are kept beside the last one; 0: none."""
    picture_every: int = 500
    """Steps between sample pictures; 0: none."""
    cache_gb: float = 0.0
    """Disk that a fixed CLIP's features may take in the run's folder; 0: they are made each time."""
    tensorboard: bool = False
    """Also log for TensorBoard, where that is installed."""

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
    """All of a training run."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def fingerprint_fields(self) -> dict[str, object]:
        """All that decides which model comes out, flat, by dotted name.

        How often to log, and on how many processes pictures are prepared, may change from one start of a
        run to the next.
        """
        flat = {f"{part}.{name}": value for part, own in asdict(self).items() for name, value in own.items()}
        return {name: value for name, value in flat.items() if name not in _MAY_CHANGE}


_MAY_CHANGE = frozenset(
    {
        "data.workers",
        "data.check",
        "run.device",
        "run.log_every",
        "run.checkpoint_every",
        "run.keep_every",
        "run.picture_every",
        "run.cache_gb",
        "run.tensorboard",
    }
)


def fingerprint(settings: Mapping[str, object]) -> str:
    """Hash of settings, the same whatever their order and in every process.

    Example:
        >>> fingerprint({"a": 1, "b": (2,)}) == fingerprint({"b": [2], "a": 1})
        True
    """
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
