"""What decides the results of a run of a `Tagger` or a `Segmenter`, and what its masks mean."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from tagmask import __version__
from tagmask.api import Segmenter, Tagger
from tagmask.clip.load import Clip
from tagmask.files import file_hash
from tagmask.results import ignore_index_for
from tagmask.runs.classes import Classes
from tagmask.runs.identity import RunIdentity, to_json
from tagmask.strict_json import json_text

__all__ = ["classes_of", "segmenter_identity", "tagger_identity"]


def segmenter_identity(
    segmenter: Segmenter,
    kind: str = "mask",
    *,
    tags: Mapping[str, Sequence[int]] | None = None,
    proposals: Mapping[str, object] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> RunIdentity:
    """Identity of a run that masks images.

    Args:
        segmenter: what masks them.
        kind: "mask" or "seeds".
        tags: the given tags of each image, if there are any; a hash of them decides.
        proposals: what decides the regions that get one class each, if there are any.
        metadata: recorded without being part of the fingerprint.
    """
    fields = {
        **_fields(segmenter.clip, segmenter.recipe.deciding()),
        "tags": None if tags is None else _hash(tags),
    }
    if segmenter.descriptions is not None:
        fields["descriptions"] = segmenter.descriptions.fingerprint
    if proposals is not None:  # runs without them are those of earlier versions
        fields["proposals"] = proposals
    if segmenter.head is not None:  # without one, runs of earlier versions keep their fingerprint
        fields["head"] = segmenter.head.fingerprint
    return RunIdentity(kind, fields, _metadata(segmenter.clip, metadata))


def tagger_identity(
    tagger: Tagger, *, adapter: Path | None = None, metadata: Mapping[str, object] | None = None
) -> RunIdentity:
    """Identity of a run that tags images.

    Args:
        tagger: what tags them.
        adapter: the file of what the tagger has learned, if there is one.
        metadata: recorded without being part of the fingerprint.
    """
    learned = None if tagger.adaptation is None else tagger.adaptation.fingerprint
    fields = {**_fields(tagger.clip, tagger.recipe.flat()), "adapter": learned}
    if adapter is not None:
        metadata = {**(metadata or {}), "adapter file": str(adapter), "adapter sha256": file_hash(adapter)}
    return RunIdentity("tag", fields, _metadata(tagger.clip, metadata))


def classes_of(segmenter: Segmenter) -> Classes:
    """Names of the values in a segmenter's masks."""
    return Classes(segmenter.words, ignore_index_for(len(segmenter.words)))


def _hash(tags: Mapping[str, Sequence[int]]) -> str:
    text = json_text(to_json(tags), sort_keys=True, ensure_ascii=True)
    return f"sha256 {hashlib.sha256(text.encode('ascii')).hexdigest()[:16]}"


def _fields(clip: Clip, recipe: Mapping[str, object]) -> dict[str, object]:
    """Words first: they are what users change, so differences in them are named first.

    A recipe's name decides nothing: two names of equal settings give equal results.
    """
    settings = {name: value for name, value in recipe.items() if name not in ("words", "background", "name")}
    # Recorded only if it is not torch: other runs keep the fingerprint that they had without engines.
    engine = {} if clip.engine is None else {"engine": clip.engine.identity}
    return {
        "words": recipe["words"],
        "background": recipe["background"],
        "weights": clip.fingerprint,
        "precision": clip.precision,
        **engine,
        "activation": clip.activation,
        "mean": clip.mean,
        "std": clip.std,
        "settings": settings,
    }


def _metadata(clip: Clip, more: Mapping[str, object] | None) -> dict[str, object]:
    return {"tagmask": __version__, "weights": clip.name, "device": str(clip.device), **(more or {})}
