"""Texts that describe each class at length, to decide between classes that share a region."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import shown
from tagmask.clip.load import Clip
from tagmask.clip.tokenizer import tokenize
from tagmask.errors import InputError

__all__ = ["Descriptions", "descriptions_of", "sentences_of"]

_BATCH_SIZE = 256
_LONGEST = 4000
"""Letters of a sentence; CLIP reads 77 tokens."""


@dataclass(frozen=True, eq=False)
class Descriptions:
    """One feature per class, the background not included."""

    features: Float[Tensor, "c e"]
    """Unit rows."""
    fingerprint: str
    """Hash of what they were made from, which decides results."""


def descriptions_of(clip: Clip, given: object, classes: Sequence[str]) -> Descriptions:
    """Return the descriptions of classes: features as they are, sentences encoded.

    Sentences are cut at 77 tokens; a class's feature is the mean of their unit features, normalised again, as
    in FreeCP.

    Args:
        clip: the model whose text tower encodes sentences.
        given: an array (classes, e) of features; or for each class its sentences, as a sequence of
            sequences, or as a mapping from each class's name.
        classes: names of the classes, the background not included.

    Raises:
        InputError: another number of classes, an array of another width or with NaN, infinity or rows of 0,
            a class without sentences, or an unknown name.
    """
    if isinstance(given, Mapping) or (isinstance(given, Sequence) and len(given) and _is_texts(given[0])):
        return _of_sentences(clip, sentences_of(given, classes))
    return _of_features(clip, given, classes)


def sentences_of(given: object, classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Check sentences for each class, and return them in the order of the classes.

    Args:
        given: for each class its sentences, or a mapping from each class's name to them.
        classes: names of the classes.

    Raises:
        InputError: no sentences for a class, or for an unknown one; or a text that CLIP cannot read.

    Example:
        >>> sentences_of({"dog": ["a pet"], "cat": ["a pet  that meows"]}, ["cat", "dog"])
        [('a pet that meows',), ('a pet',)]
    """
    lists = _by_name(given, classes) if isinstance(given, Mapping) else given
    if not isinstance(lists, Sequence) or isinstance(lists, str):
        raise InputError(f"descriptions is {shown(given)}. Give sentences for each word, by its name.")
    if len(lists) != len(classes):
        raise InputError(
            f"descriptions has {len(lists)} classes for {len(classes)} words. Give sentences for each word."
        )
    return [_sentences(each, name) for each, name in zip(lists, classes, strict=True)]


def _is_texts(value: object) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, Sequence) and (not len(value) or isinstance(value[0], str))


def _by_name(given: Mapping[object, object], classes: Sequence[str]) -> list[object]:
    unknown = [name for name in given if name not in classes]
    missing = [name for name in classes if name not in given]
    if unknown or missing:
        what = f"no {shown(missing[0])}" if missing else f"{shown(unknown[0])}, which is not a word"
        raise InputError(f"descriptions has {what}. Give sentences for every word, by its first name.")
    return [given[name] for name in classes]


def _of_features(clip: Clip, given: object, classes: Sequence[str]) -> Descriptions:
    width = clip.geometry.embed
    wanted = f"Give an array ({len(classes)}, {width}) of features, or sentences for each word."
    try:
        rows = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"descriptions is {shown(given)}. {wanted}") from error
    if rows.shape != (len(classes), width):
        raise InputError(f"descriptions has shape {rows.shape}. {wanted}")
    lengths = np.linalg.norm(rows, axis=1)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise InputError("descriptions has a row that is 0, NaN or infinite. Give unit features.")
    digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]
    features = F.normalize(torch.from_numpy(rows.copy()), dim=-1).to(clip.device)
    return Descriptions(features, f"features sha256 {digest}")


def _of_sentences(clip: Clip, lists: Sequence[tuple[str, ...]]) -> Descriptions:
    digest = hashlib.sha256()
    for sentences in lists:
        digest.update("\n".join([*sentences, "", ""]).encode())
    return Descriptions(_encode(clip, lists), f"sentences sha256 {digest.hexdigest()[:16]}")


def _sentences(given: object, name: str) -> tuple[str, ...]:
    sentences = [given] if isinstance(given, str) else given
    if not isinstance(sentences, Sequence) or not len(sentences):
        raise InputError(f"descriptions of {shown(name)} is {shown(given)}. Give one or more sentences.")
    for sentence in sentences:
        if not isinstance(sentence, str) or not sentence.strip() or len(sentence) > _LONGEST:
            raise InputError(
                f"descriptions of {shown(name)} has {shown(sentence)}. "
                f"Give sentences of at most {_LONGEST} letters."
            )
        if not sentence.isascii() and any("\ud800" <= letter <= "\udfff" for letter in sentence):
            raise InputError(f"descriptions of {shown(name)} is not valid Unicode. Give it in UTF-8.")
    return tuple(" ".join(sentence.split()) for sentence in sentences)


@torch.no_grad()
def _encode(clip: Clip, lists: Sequence[Sequence[str]]) -> Float[Tensor, "c e"]:
    ids = tokenize([sentence for sentences in lists for sentence in sentences], truncate=True)
    batches = [clip.text(batch.to(clip.device)) for batch in ids.split(_BATCH_SIZE)]
    unit = F.normalize(torch.cat(batches), dim=-1)
    means = [part.mean(dim=0) for part in unit.split([len(sentences) for sentences in lists])]
    return F.normalize(torch.stack(means), dim=-1)
