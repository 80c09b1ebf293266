"""Benchmarks of trained networks: WeakCLIP's pseudo-masks, and students trained on them.

A trained recipe says how a network masks an image: scales, mirrored views, the CRF. The network itself comes
from a file, so a figure belongs to a recipe and a model together.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, get_type_hints

import numpy as np

from tagmask.checks import check_choice, check_number
from tagmask.clip.archives import STUDENT_FORMAT, open_weights
from tagmask.clip.hardware import choose_device, choose_precision
from tagmask.errors import InputError
from tagmask.files import file_hash
from tagmask.masks import IndexMap
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.runs.identity import read_identity
from tagmask.settings.parse import fit_value
from tagmask.types import Image
from tagmask.weak.config_files import load_config
from tagmask.weak.model_file import load_published
from tagmask.weak.multiscale import TTAConfig, views_of
from tagmask.weak.pseudo import pseudo_mask
from tagmask.weak.steps import model_location, trained_views, trained_weakclip
from tagmask.weak.students.evaluate import EvaluationSettings, predict
from tagmask.weak.students.student_file import load_student

__all__ = ["TRAINED", "ModelFile", "TrainedModel", "TrainedRecipe", "read_model_file", "trained_recipe"]

_CONFIGS = ("weakclip/voc", "weakclip/coco", "weakclip/coco-raw91")
"""Settings with the class names of the authors' checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainedRecipe:
    """How a trained network masks the images of a data set.

    Raises:
        InputError: a value out of range.
    """

    gives: ClassVar[str] = "masks"
    needs_tags: ClassVar[bool] = False

    name: str
    method: str
    """"weakclip" or "student"."""
    scales: tuple[float, ...]
    flip: bool = True
    """Also process every scale mirrored."""
    crf: str | None = None
    """Dense CRF settings, by name; None: no CRF."""
    numbering: str = "same"
    """"same": the model's labels are the data set's. For a WeakCLIP with the 91 names of COCO's raw ids:
    "raw91", its labels are these ids; "first81", its first 81 labels are the data set's."""

    def __post_init__(self) -> None:
        if not self.scales:
            raise InputError("scales is empty. Give at least one scale, as in [1.0].")
        for scale in self.scales:
            check_number("scales", scale, 0.05, 8)
        if self.crf is not None:
            check_choice("crf", self.crf, tuple(CRF_SETTINGS))
        check_choice("numbering", self.numbering, ("same", "raw91", "first81"))

    def flat(self) -> dict[str, object]:
        """Return every setting by name."""
        return asdict(self)


_WEAKCLIP_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_STUDENT_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)

TRAINED: Mapping[str, TrainedRecipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            TrainedRecipe(
                name="weakclip/voc2012", method="weakclip", scales=_WEAKCLIP_SCALES, crf="weakclip/voc"
            ),
            TrainedRecipe(
                name="weakclip/coco2014", method="weakclip", scales=_WEAKCLIP_SCALES, crf="weakclip/coco"
            ),
            TrainedRecipe(
                name="student/voc2012", method="student", scales=_STUDENT_SCALES, crf="weakclip/student-voc"
            ),
            TrainedRecipe(
                name="student/coco2014", method="student", scales=_STUDENT_SCALES, crf="weakclip/coco"
            ),
        )
    }
)
"""The protocols of WeakCLIP's paper, by name."""


def trained_recipe(name: str, settings: Mapping[str, object]) -> TrainedRecipe:
    """Return a trained recipe with overridden settings.

    Raises:
        InputError: a setting that it does not have, or an invalid value.

    Example:
        >>> trained_recipe("weakclip/voc2012", {"scales": (1,), "flip": False, "crf": None}).scales
        (1.0,)
    """
    recipe, hints = TRAINED[name], get_type_hints(TrainedRecipe)
    changed: dict[str, Any] = {}
    for field, value in settings.items():
        if field not in hints or field in ("name", "method", "gives", "needs_tags"):
            raise InputError(f"{name} has no setting {field}. Give one of scales, flip, crf or numbering.")
        changed[field] = fit_value(field, value, hints[field])
    return replace(recipe, **changed)


# -- Models --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A trained network's file, without its weights."""

    path: Path
    method: str
    """"weakclip" or "student"."""
    training: Mapping[str, object]
    """What is known of its training: settings by dotted name."""
    run: Path | None
    """The run that trained a WeakCLIP; None for the authors' checkpoints."""

    def trained_with(self, required: Mapping[str, object]) -> bool:
        """Whether it is known to be trained with these settings."""
        return all(name in self.training and self.training[name] == value for name, value in required.items())


def read_model_file(path: Path) -> ModelFile:
    """Find out what a trained network is.

    Args:
        path: the folder of a finished training; a model file in it, such as `best.safetensors`; a student's
            file anywhere; or a WeakCLIP checkpoint in the authors' layout.

    Raises:
        InputError: no such file, or a folder without a finished training.
        WeightsError: the file is damaged, or no weights.
    """
    run, file = model_location(path.expanduser())
    if not file.exists():
        raise InputError(f"There is no model {file}. Give a finished training's folder, or a model file.")
    if (run / "run.json").exists():
        identity = read_identity(run / "run.json")
        method = "weakclip" if identity.kind == "weakclip" else "student"
        return ModelFile(file, method, identity.fields, run if method == "weakclip" else None)
    header = open_weights(file).metadata
    if header.get("format", "").startswith(STUDENT_FORMAT):
        return ModelFile(file, "student", {"model.kind": header.get("student")}, None)
    return ModelFile(file, "weakclip", {"model.kind": "weakclip"}, None)


class TrainedModel:
    """A trained network that masks images as a recipe says.

    Args:
        file: from `read_model_file`.
        recipe: of the same method.
        classes: class names of the data set.
        device: as `tagmask.load` takes it.
        precision: likewise, of a WeakCLIP; students always run in float32.

    Raises:
        InputError: a recipe of another method, or labels that are not the data set's.
        WeightsError: its file, or its CLIP's, cannot be used.
    """

    def __init__(
        self,
        file: ModelFile,
        recipe: TrainedRecipe,
        classes: tuple[str, ...],
        *,
        device: str = "auto",
        precision: str = "float32",
    ) -> None:
        if file.method != recipe.method:
            raise InputError(
                f"{file.path} is a {file.method}, but {recipe.name} scores a {recipe.method}. Give one."
            )
        self.file, self.recipe, self.words = file, recipe, classes
        self.background = True
        self.device = str(choose_device(device))
        if recipe.method == "weakclip":
            self.precision = choose_precision(precision, choose_device(device))
            names = self._open_weakclip(device)
        else:
            self.precision = "float32"
            self._student = load_student(file.path, device=device)
            names = self._student.card.words
        self._labels = _label_table(names, classes, recipe)

    def _open_weakclip(self, device: str) -> tuple[str, ...]:
        recipe = self.recipe
        if self.file.run is None:
            model = load_published(self.file.path, _published_words).to(self.device)
            self._views: TTAConfig = views_of(512, 512, 2048, recipe.scales, flip=recipe.flip)
        else:
            model = trained_weakclip(self.file.path, device=device, precision=self.precision)
            self._views = trained_views(self.file.run, recipe.scales, flip=recipe.flip)
        self._weakclip = model
        return model.words

    @property
    def identity(self) -> Mapping[str, object]:
        """What its masks depend on, besides the recipe."""
        return {"sha256": file_hash(self.file.path), "precision": self.precision}

    def segment(self, image: Image) -> IndexMap:
        """Label every pixel with the data set's classes."""
        recipe = self.recipe
        labels: np.ndarray
        if recipe.method == "weakclip":
            field = None if recipe.crf is None else CRF_SETTINGS[recipe.crf]
            labels = pseudo_mask(self._weakclip, image, field, self._views)
        else:
            settings = EvaluationSettings(recipe.scales, recipe.flip, recipe.crf, longest=None)
            labels = predict(self._student, image, settings).labels
        renumbered: IndexMap = self._labels[labels]
        return renumbered


def _published_words(classes: int) -> tuple[str, ...]:
    """Class names of an authors' checkpoint."""
    known = {len(words): words for name in _CONFIGS if (words := load_config(name).model.words)}
    if classes not in known:
        raise InputError(
            f"The checkpoint has {classes} classes. The authors' have {', '.join(map(str, sorted(known)))}."
        )
    return known[classes]


def _label_table(words: tuple[str, ...], classes: tuple[str, ...], recipe: TrainedRecipe) -> np.ndarray:
    """The data set's label of each of the model's; 255 for labels that it does not have."""
    table = np.full(len(words), 255, np.uint8)
    if recipe.numbering == "raw91":
        raw, annotated = (load_config(f"weakclip/{name}").model.words for name in ("coco-raw91", "coco"))
        if (len(words), len(classes)) == (len(raw), len(annotated)):
            for label, name in enumerate(annotated):
                table[raw.index(name)] = label
            return table
    count = min(len(words), len(classes)) if recipe.numbering == "first81" else len(words)
    if recipe.numbering == "raw91" or count != len(classes):
        raise InputError(
            f"The model has {len(words)} classes, the data set {len(classes)}. Give a model of its classes; "
            "for one of COCO's 91 raw ids, --set numbering=raw91 or --set numbering=first81."
        )
    table[:count] = np.arange(count)
    return table
