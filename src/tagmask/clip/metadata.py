"""Resolve the settings of weights that no tensor shows: activation, mean and standard deviation.

The name, the folder's config and the file's own metadata may each claim the activation of the MLPs, and the
mean and std of the training images. A wrong value gives slightly wrong features and no error, so no value is
assumed silently:

    the caller gives an activation, no claim differs    the caller's
    the caller gives an activation, a claim differs     the caller's, with a warning
    all claims agree                                    the claimed value
    two claims differ, and the caller gives none        an error that names both
    no claim                                            OpenAI's, with a warning
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isclose
from typing import Final

from tagmask.errors import WeightsError
from tagmask.printable import short_repr

__all__ = [
    "OPENAI_MEAN",
    "OPENAI_STD",
    "MetadataClaim",
    "ResolvedMetadata",
    "Triple",
    "resolve_metadata",
    "triple",
]

Triple = tuple[float, float, float]

OPENAI_MEAN: Final[Triple] = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Final[Triple] = (0.26862954, 0.26130258, 0.27577711)

_TOLERANCE: Final = 1e-4
"""Means and standard deviations that differ less are equal, but for rounding."""


@dataclass(frozen=True)
class MetadataClaim:
    """What one source says about the weights; None for what it does not give."""

    by: str
    """The source, as named in messages: "open_clip_config.json"."""
    activation: str | None = None
    """"quickgelu" or "gelu"."""
    mean: Triple | None = None
    """Red, green, blue, for pixels in 0..1."""
    std: Triple | None = None


@dataclass(frozen=True)
class ResolvedMetadata:
    """The settings that the weights are used with, and warnings for the user."""

    activation: str
    activation_known: bool
    """Whether the caller or a claim gave it."""
    mean: Triple
    std: Triple
    preprocessing_known: bool
    """Whether claims gave both mean and std."""
    warnings: tuple[str, ...]


def resolve_metadata(
    weights: str, claims: Iterable[MetadataClaim], activation: str | None
) -> ResolvedMetadata:
    """Resolve activation, mean and std by the table in the module's docstring.

    Args:
        weights: the name or path that the user gave, for messages.
        claims: what the name, the config and the file say.
        activation: the caller's choice, or None.

    Raises:
        WeightsError: two claims differ, and the caller made no choice.
    """
    claims = tuple(claims)
    warnings = []
    activations = {claim.by: claim.activation for claim in claims if claim.activation}
    if activation is None and len(set(activations.values())) > 1:
        raise WeightsError(
            f"Conflicting activations for {weights}: {_both_sides(activations)}. "
            "Choose one with activation='quickgelu' or activation='gelu' (--activation)."
        )
    others = [f"{by} says {value}" for by, value in activations.items() if activation not in (None, value)]
    if others:
        warnings.append(f"{weights} runs with activation {activation} as requested, but {', '.join(others)}.")
    mean = _agreed(weights, "mean", {claim.by: claim.mean for claim in claims if claim.mean})
    std = _agreed(weights, "std", {claim.by: claim.std for claim in claims if claim.std})
    known = bool(activation or activations)
    if not known:
        more = "" if mean and std else ", mean and std"
        warnings.append(
            f"{weights} does not give its activation{more}; assuming OpenAI's (quickgelu). "
            "Most weights trained with open_clip need --activation gelu. "
            "The wrong activation gives slightly wrong results and no error."
        )
    elif not (mean and std):
        warnings.append(
            f"{weights} does not give its mean and std; assuming OpenAI's. "
            "To set them, give the folder with its open_clip_config.json or preprocessor_config.json."
        )
    return ResolvedMetadata(
        activation=activation or next(iter(activations.values()), "quickgelu"),
        activation_known=known,
        mean=mean or OPENAI_MEAN,
        std=std or OPENAI_STD,
        preprocessing_known=bool(mean and std),
        warnings=tuple(warnings),
    )


def triple(value: object, key: str, by: str) -> Triple:
    """Check three finite numbers, one per colour channel; those of a std must be positive.

    Args:
        value: as read from a file.
        key: "mean" or "std".
        by: the file, for messages.

    Raises:
        WeightsError: anything else.
    """
    numbers = value if isinstance(value, list | tuple) else ()
    valid = [
        float(n) for n in numbers if isinstance(n, int | float) and abs(n) < 1e3 and (n > 0 or key != "std")
    ]
    if len(numbers) != 3 or len(valid) != 3:
        raise WeightsError(
            f"{by} gives {key} = {short_repr(value)}. Expected three numbers, one per colour channel."
        )
    red, green, blue = valid
    return red, green, blue


def _agreed(weights: str, key: str, values: dict[str, Triple]) -> Triple | None:
    first = next(iter(values.values()), None)
    for value in values.values():
        if first and not all(isclose(a, b, abs_tol=_TOLERANCE) for a, b in zip(first, value, strict=True)):
            raise WeightsError(
                f"Conflicting {key} for {weights}: {_both_sides({by: str(v) for by, v in values.items()})}. "
                "Give the folder or hf:OWNER/REPO to use its own files only."
            )
    return first


def _both_sides(values: dict[str, str]) -> str:
    return " but ".join(f"{by} says {value}" for by, value in values.items())
