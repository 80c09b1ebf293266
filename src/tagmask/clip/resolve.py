"""Read weights on this machine: checked tensors, their sizes, and their resolved settings."""

from dataclasses import dataclass

from torch import Tensor

from tagmask.clip.finite import check_finite
from tagmask.clip.folders import RawWeights, read_raw_weights
from tagmask.clip.metadata import MetadataClaim, ResolvedMetadata, resolve_metadata
from tagmask.clip.model_config import check_sizes
from tagmask.clip.sources import Source
from tagmask.clip.state_dict import Geometry, clip_tensors, geometry
from tagmask.clip.tokenizer import CONTEXT, VOCABULARY
from tagmask.errors import WeightsError

__all__ = ["ResolvedWeights", "resolve_weights"]


@dataclass(frozen=True)
class ResolvedWeights:
    """Checked weights, ready to be loaded into a model."""

    raw: RawWeights
    tensors: dict[str, Tensor]
    """The tensors of a CLIP ViT, by OpenAI's names, in the precision of the file."""
    geometry: Geometry
    claims: tuple[MetadataClaim, ...]
    metadata: ResolvedMetadata


def resolve_weights(weights: str, source: Source, activation: str | None = None) -> ResolvedWeights:
    """Read weights, check that they are a CLIP ViT, and resolve activation, mean and std.

    Args:
        weights: the name or path that the user gave, for messages.
        source: where the weights are.
        activation: the caller's choice, or None.

    Raises:
        WeightsError: unreadable, not a CLIP ViT with CLIP's tokenizer, not finite, or contradicted by their
            config.
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
    check_finite(tensors, source.path)
    claims = (source.claim, *raw.config.claims) if source.claim else raw.config.claims
    return ResolvedWeights(raw, tensors, shape, claims, resolve_metadata(weights, claims, activation))
