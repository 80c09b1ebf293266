"""Weights on this machine: checked tensors, their sizes, and their resolved settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tagmask.clip.finite import is_finite, non_finite_error
from tagmask.clip.folders import RawWeights, read_raw_weights
from tagmask.clip.metadata import MetadataClaim, ResolvedMetadata, resolve_metadata
from tagmask.clip.model_config import check_sizes
from tagmask.clip.sources import Source
from tagmask.clip.state_dict import Geometry, clip_tensors, geometry
from tagmask.clip.stored import StoredTensor
from tagmask.clip.tokenizer import CONTEXT, VOCABULARY
from tagmask.errors import WeightsError

__all__ = ["ResolvedWeights", "resolve_weights"]


@dataclass(frozen=True)
class ResolvedWeights:
    """Checked weights, of which only the values have not been read."""

    path: Path
    """The file or folder."""
    raw: RawWeights
    tensors: dict[str, StoredTensor]
    """The tensors of a CLIP ViT, by OpenAI's names, in the precision of the file."""
    geometry: Geometry
    claims: tuple[MetadataClaim, ...]
    metadata: ResolvedMetadata

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Read the tensors one by one, in float32, since the reference arithmetic is float32 on their values.

        Raises:
            WeightsError: values that are not finite in float32, in whatever tensor after these; or a file
                that has changed meanwhile.
        """
        wrong = []
        for name, stored in self.tensors.items():
            tensor = stored.read().float()
            if not is_finite(tensor):
                wrong.append(name)
            elif not wrong:
                yield name, tensor
        if wrong:
            raise non_finite_error(wrong, self.path)


def resolve_weights(weights: str, source: Source, activation: str | None = None) -> ResolvedWeights:
    """Open weights, check that they are a CLIP ViT, and resolve activation, mean and std.

    Args:
        weights: the name or path that the user gave, for messages.
        source: where the weights are.
        activation: the caller's choice, or None.

    Raises:
        WeightsError: unreadable, not a CLIP ViT with CLIP's tokenizer, or contradicted by their config.
    """
    raw = read_raw_weights(source.path)
    try:
        tensors = clip_tensors(raw.tensors)
        shape = geometry(tensors)
    except WeightsError as error:
        raise WeightsError(f"{source.path}: {error}") from error
    if (shape.context, shape.vocab) != (CONTEXT, VOCABULARY):
        raise WeightsError(
            f"The text tower of {weights} has context {shape.context} and vocabulary {shape.vocab}. "
            f"Only CLIP's tokenizer is supported ({CONTEXT} and {VOCABULARY})."
        )
    check_sizes(raw.config, shape)
    claims = (source.claim, *raw.config.claims) if source.claim else raw.config.claims
    return ResolvedWeights(
        source.path, raw, tensors, shape, claims, resolve_metadata(weights, claims, activation)
    )
