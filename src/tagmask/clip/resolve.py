"""Weights that lie on this machine -> checked tensors, their sizes, and what they are used with."""

from dataclasses import dataclass

from torch import Tensor

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
    """All that is to be known of weights before they become a model."""

    checkpoint: RawWeights
    tensors: dict[str, Tensor]
    """A CLIP ViT's, by OpenAI's names, in the precision of the file."""
    geometry: Geometry
    claims: tuple[MetadataClaim, ...]
    resolved_metadata: ResolvedMetadata


def resolve_weights(weights: str, source: Source, activation: str | None = None) -> ResolvedWeights:
    """Read weights, check that they are a CLIP ViT's, and settle what no tensor tells.

    Args:
        weights: as the user named them, for messages.
        source: where they lie.
        activation: what the caller wants, if anything.

    Raises:
        WeightsError: unreadable, not a CLIP ViT with CLIP's own tokenizer, or described wrongly.
    """
    checkpoint = read_raw_weights(source.path)
    tensors = clip_tensors(checkpoint.tensors)
    shape = geometry(tensors)
    if (shape.context, shape.vocab) != (CONTEXT, VOCABULARY):
        raise WeightsError(
            f"the text tower of {weights} reads {shape.context} tokens of a vocabulary of {shape.vocab}; "
            f"CLIP's own {CONTEXT} and {VOCABULARY} are wanted, so its words would be misread"
        )
    check_sizes(checkpoint.config, shape)
    told = (source.claim, *checkpoint.config.claims)
    said = tuple(one for one in told if one is not None)
    return ResolvedWeights(checkpoint, tensors, shape, said, resolve_metadata(weights, said, activation))
