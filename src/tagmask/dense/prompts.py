"""Words -> unit text features, by prompt ensembles, remembered on disk.

A *class* is written as one line: its names, separated by comma and blank ("dog, puppy"). Every name is one
text to CLIP. A comma without a blank stays inside the name, as in the papers' class files.
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

_SENTENCES_A_BATCH = 256

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Names:
    """Classes and their texts: text i belongs to class `owners[i]`; owners ascend."""

    classes: tuple[str, ...]
    """What each class is called: its first name."""
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
                f"word {index + 1} is {line!r}, which has an empty name; "
                "give each class as one name, or as several separated by ', '"
            )
        classes.append(names[0])
        texts += names
        owners += [index] * len(names)
    return Names(tuple(classes), tuple(texts), tuple(owners))


def merge_names(scores: Float[Tensor, "q *rest"], names: Names) -> Float[Tensor, "c *rest"]:
    """Each class's best name: a running maximum, never a (classes, texts, ...) product."""
    if len(names.texts) == len(names.classes):
        return scores
    merged = scores.new_empty(len(names.classes), *scores.shape[1:])
    for owner, group in groupby(range(len(names.texts)), key=names.owners.__getitem__):
        rows = list(group)
        torch.amax(scores[rows[0] : rows[-1] + 1], dim=0, out=merged[owner])
    return merged


@dataclass(frozen=True, eq=False)
class TextQuery:
    """What images are compared with: classes, the texts that stand for them, and the texts' features."""

    names: Names
    features: TextFeatures
    """Of `names.texts`."""
    foreground: int
    """So many classes, the first ones, are answers; the others only compete."""

    @property
    def words(self) -> tuple[str, ...]:
        """What each foreground class is called."""
        return self.names.classes[: self.foreground]

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text."""
        return self.names.texts

    def by_class(self, scores: Float[Tensor, "b q"]) -> Float32[np.ndarray, "b f"]:
        """Scores of texts to those of foreground classes: the best of each class's names."""
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
    """One unit vector a text: the mean of its unit sentence vectors, made unit again.

    Each vector is kept in the cache folder under a hash of the text tower, the templates and the text, so a
    word costs its sentences once. A cache that cannot be read or written only costs time.

    Args:
        clip: whose text tower is asked.
        texts: names, at least one.
        templates: sentences with `{}` where the name goes.

    Returns:
        Float32 features on `clip.device`.

    Raises:
        TextTooLongError: a sentence has more than 77 tokens.
        InputError: no texts, or a template without `{}`.

    Source: the 80-sentence ensemble of CLIP's authors, as used by SCLIP and TagCLIP.
    """
    if not texts or not templates:
        raise InputError(f"got {len(texts)} texts and {len(templates)} templates; give at least one of each")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"template {template!r} has no {{}} to put the word in")
    folder = _cache_folder()
    files = {text: folder / f"{_key(clip, text, templates)}.npy" if folder else None for text in texts}
    found = {text: feature for text, file in files.items() if (feature := _read(file, clip)) is not None}
    missing = [text for text in files if text not in found]
    if missing:
        _LOG.info("encoding %d new words in %d sentences each", len(missing), len(templates))
        for text, feature in zip(missing, _encode(clip, missing, templates), strict=True):
            found[text] = feature
            _write(files[text], feature)
    return torch.stack([found[text] for text in texts]).to(clip.device)


@torch.no_grad()
def _encode(clip: Clip, texts: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "q e"]:
    ids = tokenize([template.replace("{}", text) for text in texts for template in templates])
    # Sentences of like length go together, since a batch is trimmed to its longest.
    order = ids.argmax(dim=-1).argsort(stable=True)
    encoded = torch.empty(len(ids), clip.geometry.embed)
    for batch in order.split(_SENTENCES_A_BATCH):
        encoded[batch] = clip.text(ids[batch].to(clip.device)).cpu()
    sentences = F.normalize(encoded, dim=-1).unflatten(0, (len(texts), len(templates)))
    return F.normalize(sentences.mean(dim=1), dim=-1)


def _cache_folder() -> Path | None:
    try:
        return cache_dir() / "text"
    except InputError:  # nowhere to keep anything
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
        return  # a read-only home is no reason to stop
