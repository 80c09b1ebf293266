"""Inspect weights on this machine and check that they are intact: `tagmask weights check`."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tagmask.clip.download import sha256_of
from tagmask.clip.hub import published_sha256
from tagmask.clip.metadata import MetadataClaim, ResolvedMetadata
from tagmask.clip.resolve import ResolvedWeights, resolve_weights
from tagmask.clip.sources import Source, cached
from tagmask.clip.state_dict import Geometry
from tagmask.errors import DownloadError

__all__ = ["Inspection", "inspect_weights"]


@dataclass(frozen=True)
class Inspection:
    """What the weights are, and what is wrong with them."""

    files: tuple[Path, ...]
    size: int
    """Size of all files, in bytes."""
    format: str
    sha256: str
    """Of the file, or of the concatenated hashes of several, in hexadecimal."""
    published: bool
    """Whether the hash is the one that OpenAI, open_clip or the hub published for the file."""
    geometry: Geometry
    claims: tuple[MetadataClaim, ...]
    resolved_metadata: ResolvedMetadata
    faults: tuple[str, ...]
    """Problems of weights that load nevertheless; empty if there are none."""


def inspect_weights(weights: str | os.PathLike[str]) -> Inspection:
    """Read weights completely and compare them with what is known about them. Never downloads.

    Raises:
        DownloadError: a name whose weights are not in the caches.
        WeightsError: they cannot be loaded.
    """
    source = cached(weights)
    if source is None:
        raise DownloadError(
            f"{weights} is not in the caches.", advice=f"Download it: `tagmask weights get {weights}`."
        )
    resolved = resolve_weights(str(weights), source)
    for _ in resolved.read():
        pass  # it raises if a value is not finite
    files = resolved.raw.files
    hashes = [sha256_of(file) for file in files]
    digest = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    expected = _expected_hash(source, files)
    return Inspection(
        files=files,
        size=sum(file.stat().st_size for file in files),
        format=resolved.raw.kind,
        sha256=digest,
        published=bool(expected) and digest.startswith(expected),
        geometry=resolved.geometry,
        claims=resolved.claims,
        resolved_metadata=resolved.metadata,
        faults=tuple(_faults(source, resolved, digest, expected)),
    )


def _expected_hash(source: Source, files: tuple[Path, ...]) -> str:
    """Return the published hash or its known prefix; "" if none is known or there are several files."""
    if source.known_weights and source.path.name == source.known_weights.file:
        return source.known_weights.sha256
    return published_sha256(files[0]) if len(files) == 1 else ""


def _faults(source: Source, resolved: ResolvedWeights, digest: str, expected: str) -> list[str]:
    faults = []
    if expected and not digest.startswith(expected):
        faults.append(
            f"The SHA-256 starts with {digest[:12]}; that of the published file with {expected[:12]}."
        )
    if source.known_weights:
        known, shape = source.known_weights.architecture, resolved.geometry
        side = shape.grid * shape.patch
        if (known.patch, known.side) != (shape.patch, side):
            faults.append(
                f"The file has patches of {shape.patch} in images of {side} pixels; "
                f"{source.known_weights.name} has patches of {known.patch} in images of {known.side}."
            )
    return faults
