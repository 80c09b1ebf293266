"""Heads: what a few corrected masks taught, as a value that dense methods add to their scores, and as a file.

A head is one matrix D, from unit patch features to a correction of each class. The scores of the classes
become P + X D, where P are their probabilities without the head. With D = 0 nothing changes.

D is fitted to the features, words and weights of one method (`tagmask.pipelines.head_fitting`), and is valid
with these only. Thresholds, refinement and the choice among tags come after it and may change.
"""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float32
from safetensors.torch import save
from torch import Tensor

from tagmask.checks import shown
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.settings.recipes import MaskRecipe
from tagmask.strict_json import json_text, parse_json
from tagmask.tensor_files import read_tensors

__all__ = ["HEAD_FILE", "Head", "feature_settings", "head_settings", "read_head", "write_head"]

HEAD_FILE = "head.safetensors"
"""Name of the head in a run folder."""
_LARGEST = 100_000_000
"""Limit on the size of a file, in bytes; 1000 classes of width 1024 have 4 MB."""
_ADVICE = "Give a file that `tagmask improve` wrote."


def feature_settings(recipe: MaskRecipe) -> dict[str, object]:
    """Return what decides the patch features of a recipe, besides the weights: the method and its settings.

    Raises:
        InputError: a file that the method reads cannot be read.
    """
    names = ("method", *(field.name for field in fields(cast(Any, recipe.variant))), *recipe.OF_FEATURES)
    deciding = recipe.deciding()
    return {name: deciding[name] for name in names}


def head_settings(clip: Clip, recipe: MaskRecipe) -> dict[str, object]:
    """Return what decides the features and the probabilities that a head corrects, besides words and weights.

    The precision is among them, since weights have another fingerprint in each.

    Raises:
        InputError: a file that the method reads cannot be read.
    """
    return {
        **feature_settings(recipe),
        "logit_scale": recipe.logit_scale,
        "templates": recipe.templates,
        "precision": clip.precision,
    }


@dataclass(frozen=True, eq=False)
class Head:
    """A correction of every class, linear in the unit patch features."""

    matrix: Float32[Tensor, "e c"] = field(repr=False)
    """D; the background is class 0 if there is one."""
    words: tuple[str, ...]
    """Class lines of the recipe, in order."""
    background: tuple[str, ...]
    """Background texts of the recipe."""
    weights: str
    """Fingerprint of the CLIP."""
    settings: Mapping[str, object]
    """`head_settings`, as JSON values."""
    penalty: float
    """Of the ridge regression; infinite if no correction was better than none."""
    images: int
    """Number of images that it was fitted to."""
    origin: str = ""
    """Hash of the images and masks that it was fitted to."""

    @classmethod
    def of(
        cls,
        matrix: Float32[Tensor, "e c"],
        clip: Clip,
        recipe: MaskRecipe,
        *,
        penalty: float,
        images: int,
        origin: str = "",
    ) -> "Head":
        """Return a head for a CLIP and a recipe."""
        settings = _as_json(head_settings(clip, recipe))
        return cls(
            matrix, recipe.words, recipe.background, clip.fingerprint, settings, penalty, images, origin
        )

    @property
    def fingerprint(self) -> str:
        """Hash of everything in it."""
        numbers = (str(self.penalty), self.images, self.origin, list(self.matrix.shape))
        described = (self.words, self.background, self.weights, self.settings, *numbers)
        digest = hashlib.sha256(json_text(described, sort_keys=True).encode())
        digest.update(self.matrix.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def is_zero(self) -> bool:
        """Whether it changes nothing."""
        return not self.matrix.any()

    def check(self, clip: Clip, recipe: MaskRecipe) -> None:
        """Refuse other weights, words or settings than those it was fitted with.

        Raises:
            InputError: saying which of them differ.
        """
        for name in ("words", "background"):
            before, now = getattr(self, name), getattr(recipe, name)
            if before != now:
                raise InputError(
                    f"The head was fitted with other {'' if name == 'words' else 'background '}words: "
                    f"{_shown(before)}, not {_shown(now)}. Give the same in the same order."
                )
        settings = _as_json(head_settings(clip, recipe))
        for name in dict.fromkeys(("method", *self.settings, *settings)):
            before, now = self.settings.get(name), settings.get(name)
            if before != now:
                values = "" if name == "templates" else f": {shown(before)}, not {shown(now)}"
                raise InputError(f"The head was fitted with another {name}{values}. Give the same.")
        if self.weights != clip.fingerprint:
            raise InputError("The head was fitted with other weights. Give the same.")


def write_head(head: Head, path: str | os.PathLike[str]) -> None:
    """Write a head to a safetensors file.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {
        "tagmask": "head",
        "words": json_text(head.words),
        "background": json_text(head.background),
        "weights": head.weights,
        "settings": json_text(head.settings),
        "penalty": str(head.penalty),
        "images": str(head.images),
        "origin": head.origin,
        "fingerprint": head.fingerprint,
    }
    write_bytes(path, save({"matrix": head.matrix.contiguous()}, metadata))


def read_head(path: str | os.PathLike[str]) -> Head:
    """Read a head from a file of `write_head`.

    Raises:
        InputError: the file cannot be read, tagmask did not write it, or it was changed since.
    """
    try:
        file = Path(path).expanduser()
        tensors, metadata = read_tensors(file, _LARGEST)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home folder
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The head {path} cannot be read: {reason}. {_ADVICE}") from error
    if metadata.get("tagmask") != "head":
        raise InputError(f"{file} is not a head of tagmask. {_ADVICE}")
    try:
        matrix = tensors["matrix"]
        words, background = _texts(metadata["words"]), _texts(metadata["background"])
        if matrix.dtype != torch.float32 or matrix.ndim != 2 or not matrix.isfinite().all():
            raise ValueError("no matrix of a head")
        head = Head(
            matrix=matrix,
            words=words,
            background=background,
            weights=metadata["weights"],
            settings=dict(parse_json(metadata["settings"])),
            penalty=float(metadata["penalty"]),
            images=int(metadata["images"]),
            origin=metadata["origin"],
        )
        classes = len(words) + bool(background)
        intact = (
            matrix.shape[1] == classes
            and not math.isnan(head.penalty)
            and metadata["fingerprint"] == head.fingerprint
        )
    except (KeyError, TypeError, ValueError, InputError):
        intact = False
    if not intact:
        raise InputError(f"The head {file} is damaged. Run `tagmask improve` again.")
    return head


def _texts(text: str) -> tuple[str, ...]:
    texts = parse_json(text)
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ValueError("no list of texts")
    return tuple(texts)


def _as_json(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings as they are after a file: tuples become lists."""
    return dict(parse_json(json_text(settings)))


def _shown(words: Sequence[str]) -> str:
    more = f" and {len(words) - 4} more" if len(words) > 4 else ""
    return (", ".join(words[:4]) or "none") + more
