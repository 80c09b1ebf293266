"""Encode words as unit text features by prompt ensembling, with a cache on disk.

A *class* is written as one line: its names, separated by a comma and a space ("dog, puppy"). Every name is
one text for CLIP. A comma without a space is part of the name, as in the papers' class files.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.clip.prefixes import SentenceEncoder
from tagmask.clip.tokenizer import CONTEXT, START, encode, tokenize
from tagmask.dense.text_cache import TextCache
from tagmask.errors import InputError, WeightsError
from tagmask.types import TextFeatures

__all__ = [
    "Names",
    "TextQuery",
    "merge_names",
    "restrict_names",
    "split_names",
    "text_features",
    "text_query",
]

_BLOCK = 512
"""Sentences that are encoded before their features are cached, which takes about a second."""

_MARGIN = 10
"""Tokens by which the length of a sentence may differ from the sum of its parts."""

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


def restrict_names(names: Names, classes: Sequence[int]) -> tuple[Names, list[int]]:
    """Return some of the classes, in order, and the indices of their texts.

    Example:
        >>> restrict_names(split_names(["cat", "dog, puppy", "cow"]), [1, 2])
        (Names(classes=('dog', 'cow'), texts=('dog', 'puppy', 'cow'), owners=(0, 0, 1)), [1, 2, 3])
    """
    place = {c: i for i, c in enumerate(classes)}
    rows = [i for i, owner in enumerate(names.owners) if owner in place]
    kept = Names(
        tuple(names.classes[c] for c in classes),
        tuple(names.texts[i] for i in rows),
        tuple(place[names.owners[i]] for i in rows),
    )
    return kept, rows


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

    Vectors are cached on disk (`TextCache`), so each word is encoded once. They are written block by block:
    if the program is stopped, the next run continues.

    Args:
        clip: the model whose text tower encodes the sentences.
        texts: names, at least one.
        templates: sentences with `{}` as the placeholder of the name.

    Returns:
        Float32 features on `clip.device`.

    Raises:
        TextTooLongError: a sentence has more than 77 tokens.
        InputError: no texts, or a template without `{}`.
        WeightsError: the text tower gives NaN or infinity.

    Source: the 80-sentence ensemble of CLIP's authors, as used by SCLIP and TagCLIP.
    """
    if not texts or not templates:
        raise InputError(f"Got {len(texts)} texts and {len(templates)} templates. Give at least one of each.")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"Template {template!r} has no {{}}. Put {{}} where the word goes.")
    cache = TextCache(clip, templates)
    unique = tuple(dict.fromkeys(texts))
    features = {text: feature for text in unique if (feature := cache.get(text)) is not None}
    cache.report_invalid()
    missing = [text for text in unique if text not in features]
    for text, feature in _encode(clip, missing, templates):
        features[text] = feature
        cache.put(text, feature)
    return torch.stack([features[text] for text in texts]).to(clip.device)


def _encode(
    clip: Clip, texts: Sequence[str], templates: Sequence[str]
) -> Iterator[tuple[str, Float[Tensor, " e"]]]:
    """Encode texts block by block, so that memory is bounded and a stopped run keeps what is done."""
    if not texts:
        return
    _check_lengths(texts, templates)
    # Lower case, as all messages that begin with what is being done.
    _LOG.info("encoding %d new words with %d sentences each", len(texts), len(templates))
    beginnings = [(START, *encode(template.partition("{}")[0])) for template in templates]
    encoder = SentenceEncoder(clip.text, beginnings)
    size = max(1, _BLOCK // len(templates))
    for start in range(0, len(texts), size):
        block = texts[start : start + size]
        yield from zip(block, _encode_block(clip, encoder, block, templates), strict=True)
        done = start + len(block)
        if len(texts) > size:
            progress = {"progress": (done, len(texts))}
            _LOG.info("encoded %d of %d words", done, len(texts), extra=progress)


def _encode_block(
    clip: Clip, encoder: SentenceEncoder, texts: Sequence[str], templates: Sequence[str]
) -> Float[Tensor, "q e"]:
    ids = tokenize(_sentences(texts, templates))
    encoded = encoder(ids, torch.arange(len(templates)).repeat(len(texts)))
    sentences = F.normalize(encoded, dim=-1).unflatten(0, (len(texts), len(templates)))
    features = F.normalize(sentences.mean(dim=1), dim=-1)
    if not features.isfinite().all():
        raise WeightsError(
            f"The text tower of {clip.name} gives NaN or infinity. Check it: `tagmask weights check`."
        )
    return features


def _check_lengths(texts: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse a text that is too long now rather than when its block comes, maybe hours later."""
    longest = max(len(encode(template)) for template in templates)
    for text in texts:
        # Only where it may be close: a template without its placeholder and the text add up roughly.
        if len(encode(text)) + longest > CONTEXT - _MARGIN:
            tokenize(_sentences([text], templates))


def _sentences(texts: Sequence[str], templates: Sequence[str]) -> list[str]:
    return [template.replace("{}", text) for text in texts for template in templates]
