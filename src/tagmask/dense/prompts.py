"""Encode words as unit text features by prompt ensembling, with a cache on disk.

A *class* is written as one line: its names, separated by a comma and a space ("dog, puppy"). Every name is
one text for CLIP. A comma without a space is part of the name, as in the papers' class files.
"""

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.clip.tokenizer import tokenize
from tagmask.errors import InputError, OutputError
from tagmask.files import cache_dir, write_bytes
from tagmask.types import TextFeatures

__all__ = ["Names", "TextQuery", "merge_names", "split_names", "text_features", "text_query"]

_BATCH_SIZE = 256

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Names:
    """Classes and their texts: text i belongs to class `owners[i]`; owners ascend."""

    classes: tuple[str, ...]
    """Display name of each class: its first name."""
    texts: tuple[str, ...]
    owners: tuple[int, ...]


def split_names(lines: Sequence[str]) -> Names:
    """Split each class line into its names.

    Raises:
        InputError: a line or a name is empty.

    Example:
        >>> split_names(["cat", "dog, puppy"])
        Names(classes=('cat', 'dog'), texts=('cat', 'dog', 'puppy'), owners=(0, 1, 1))
    """
    classes, texts, owners = [], [], []
    for index, line in enumerate(lines):
        names = [name.strip() for name in line.split(", ")]
        if not all(names):
            raise InputError(
                f"Word {index + 1} is {line!r}, which has an empty name. "
                "Give each class one name, or several separated by ', '."
            )
        classes.append(names[0])
        texts += names
        owners += [index] * len(names)
    return Names(tuple(classes), tuple(texts), tuple(owners))


def merge_names(scores: Float[Tensor, "q *rest"], names: Names) -> Float[Tensor, "c *rest"]:
    """Score of each class: the maximum over its names, without a (classes, texts, ...) array."""
    if len(names.texts) == len(names.classes):
        return scores
    merged = scores.new_empty(len(names.classes), *scores.shape[1:])
    for owner, group in groupby(range(len(names.texts)), key=names.owners.__getitem__):
        rows = list(group)
        torch.amax(scores[rows[0] : rows[-1] + 1], dim=0, out=merged[owner])
    return merged


@dataclass(frozen=True, eq=False)
class TextQuery:
    """The text side of a comparison: classes, their texts, and the texts' features."""

    names: Names
    features: TextFeatures
    """Features of `names.texts`."""
    foreground: int
    """Number of foreground classes; they come first. The others are background and only compete."""

    @property
    def words(self) -> tuple[str, ...]:
        """Display names of the foreground classes."""
        return self.names.classes[: self.foreground]

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts, foreground and background."""
        return self.names.texts

    def by_class(self, scores: Float[Tensor, "b q"]) -> Float32[np.ndarray, "b f"]:
        """Reduce scores of texts to scores of foreground classes: the maximum over each class's names."""
        merged = merge_names(scores.T.float(), self.names)[: self.foreground]
        return np.ascontiguousarray(merged.T.cpu().numpy())


def text_query(
    clip: Clip, words: Sequence[str], background: Sequence[str], templates: Sequence[str]
) -> TextQuery:
    """Encode class lines: foreground classes first, then background ones.

    Raises:
        TextTooLongError: see `text_features`.
        InputError: see `split_names` and `text_features`.
    """
    names = split_names([*words, *background])
    return TextQuery(names, text_features(clip, names.texts, templates), len(words))


def text_features(clip: Clip, texts: Sequence[str], templates: Sequence[str]) -> TextFeatures:
    """Encode each text as one unit vector: the mean of its unit sentence vectors, normalised again.

    Vectors are cached on disk under a hash of the text tower, the templates and the text, so each word is
    encoded once. A cache that cannot be read or written is not an error.

    Args:
        clip: the model whose text tower encodes the sentences.
        texts: names, at least one.
        templates: sentences with `{}` as the placeholder of the name.

    Returns:
        Float32 features on `clip.device`.

    Raises:
        TextTooLongError: a sentence has more than 77 tokens.
        InputError: no texts, or a template without `{}`.

    Source: the 80-sentence ensemble of CLIP's authors, as used by SCLIP and TagCLIP.
    """
    if not texts or not templates:
        raise InputError(f"Got {len(texts)} texts and {len(templates)} templates. Give at least one of each.")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"Template {template!r} has no {{}}. Put {{}} where the word goes.")
    folder = _cache_folder()
    files = {text: folder / f"{_key(clip, text, templates)}.npy" if folder else None for text in texts}
    features = {text: feature for text, file in files.items() if (feature := _read(file, clip)) is not None}
    missing = [text for text in files if text not in features]
    if missing:
        _LOG.info("Encoding %d new words with %d sentences each.", len(missing), len(templates))
        for text, feature in zip(missing, _encode(clip, missing, templates), strict=True):
            features[text] = feature
            _write(files[text], feature)
    return torch.stack([features[text] for text in texts]).to(clip.device)


@torch.no_grad()
def _encode(clip: Clip, texts: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "q e"]:
    ids = tokenize([template.replace("{}", text) for text in texts for template in templates])
    # Sentences of similar length share a batch, because a batch is trimmed to its longest sentence.
    order = ids.argmax(dim=-1).argsort(stable=True)
    encoded = torch.empty(len(ids), clip.geometry.embed)
    for batch in order.split(_BATCH_SIZE):
        encoded[batch] = clip.text(ids[batch].to(clip.device)).cpu()
    sentences = F.normalize(encoded, dim=-1).unflatten(0, (len(texts), len(templates)))
    return F.normalize(sentences.mean(dim=1), dim=-1)


def _cache_folder() -> Path | None:
    try:
        return cache_dir() / "text"
    except InputError:  # no cache folder
        return None


def _key(clip: Clip, text: str, templates: Sequence[str]) -> str:
    parts = (clip.text_fingerprint, text, *templates)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _read(file: Path | None, clip: Clip) -> Tensor | None:
    if file is None:
        return None
    try:
        feature = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if feature.shape != (clip.geometry.embed,) or feature.dtype != np.float32:
        return None
    return torch.from_numpy(feature)


def _write(file: Path | None, feature: Float[Tensor, " e"]) -> None:
    if file is None:
        return
    buffer = io.BytesIO()
    np.save(buffer, feature.numpy())
    try:
        write_bytes(file, buffer.getvalue())
    except OutputError:
        return  # a read-only cache folder is not an error
