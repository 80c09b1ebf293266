"""What weights on this machine are, and whether they are whole: `tagmask weights check`."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch

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
    """What was found."""

    files: tuple[Path, ...]
    size: int
    """Of all files, in bytes."""
    format: str
    sha256: str
    """Of the one file, or of the hashes of all, in hexadecimal."""
    published: bool
    """The hash is the one that OpenAI, open_clip or the hub gives for the file."""
    geometry: Geometry
    claims: tuple[MetadataClaim, ...]
    resolved_metadata: ResolvedMetadata
    faults: tuple[str, ...]
    """What is wrong although the weights can be loaded; empty: nothing."""


def inspect_weights(weights: str | os.PathLike[str]) -> Inspection:
    """Read weights whole and compare them with all that is known of them. Downloads nothing.

    Raises:
        DownloadError: a name whose weights are not on this machine.
        WeightsError: they cannot be loaded.
    """
    source = cached(weights)
    if source is None:
        raise DownloadError(f"{weights} is not on this machine; `tagmask weights get {weights}` downloads it")
    found = resolve_weights(str(weights), source)
    files = found.checkpoint.files
    hashes = [sha256_of(file) for file in files]
    digest = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    wanted = _wanted(source, files)
    return Inspection(
        files=files,
        size=sum(file.stat().st_size for file in files),
        format=found.checkpoint.kind,
        sha256=digest,
        published=bool(wanted) and digest.startswith(wanted),
        geometry=found.geometry,
        claims=found.claims,
        resolved_metadata=found.resolved_metadata,
        faults=tuple(_faults(source, found, digest, wanted)),
    )


def _wanted(source: Source, files: tuple[Path, ...]) -> str:
    """The published hash, or its known beginning; "" where none is known, or there are several files."""
    if source.known_weights and source.path.name == source.known_weights.file:
        return source.known_weights.sha256
    return published_sha256(files[0]) if len(files) == 1 else ""


def _faults(source: Source, found: ResolvedWeights, digest: str, wanted: str) -> list[str]:
    faults = []
    if wanted and not digest.startswith(wanted):
        faults.append(f"its sha256 begins with {digest[:12]}; the published file's with {wanted[:12]}")
    if source.known_weights:
        known, shape = source.known_weights.architecture, found.geometry
        side = shape.grid * shape.patch
        if (known.patch, known.side) != (shape.patch, side):
            faults.append(
                f"it has patches of {shape.patch} in images of {side} pixels; {source.known_weights.name} has "
                f"patches of {known.patch} in images of {known.side}"
            )
    odd = [name for name, tensor in found.tensors.items() if not torch.isfinite(tensor).all()]
    if odd:
        faults.append(f"numbers that are not finite: {', '.join(odd[:3])} ({len(odd)} tensors in all)")
    return faults
