"""What belongs to weights and no tensor tells: who says it, and what follows when two say different things.

The activation of the MLPs, and the mean and standard deviation of the training images. A wrong one gives
slightly wrong features and no error, so nothing is taken for granted in silence:

    the caller asks, and nobody says otherwise     that
    the caller asks for something else             that, and a warning says what was said
    all who speak say the same                     that
    two say different things, the caller nothing   an error, which names both
    nobody says                                    OpenAI's, and a warning says so
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isclose
from typing import Final

from tagmask.errors import WeightsError

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

_SAME: Final = 1e-4
"""Means and standard deviations closer than this are one value, rounded differently."""


@dataclass(frozen=True)
class MetadataClaim:
    """What one source says of the weights; None where it is silent."""

    by: str
    """Who says it, as a message names it: "open_clip_config.json"."""
    activation: str | None = None
    """"quickgelu" or "gelu"."""
    mean: Triple | None = None
    """Red, green, blue; of pixels in 0..1."""
    std: Triple | None = None


@dataclass(frozen=True)
class ResolvedMetadata:
    """What the weights are used with, and what the user should hear about it."""

    activation: str
    activation_known: bool
    """The caller or a statement said so."""
    mean: Triple
    std: Triple
    preprocessing_known: bool
    """A statement gave mean and std."""
    warnings: tuple[str, ...]


def resolve_metadata(weights: str, claims: Iterable[MetadataClaim], asked: str | None) -> ResolvedMetadata:
    """Decide on activation, mean and std by the table of the module's docstring.

    Args:
        weights: as the user named them, for messages.
        claims: all that is said of them.
        asked: the activation that the caller wants, or None.

    Raises:
        WeightsError: two statements disagree, and the caller decided nothing.
    """
    said = tuple(claims)
    warnings = []
    activations = {one.by: one.activation for one in said if one.activation}
    if asked is None and len(set(activations.values())) > 1:
        raise WeightsError(
            f"{weights}: {_versus(activations)} on the activation. "
            "Give activation='quickgelu' or 'gelu' (--activation) to decide."
        )
    others = [f"{by} says {value}" for by, value in activations.items() if asked not in (None, value)]
    if others:
        warnings.append(f"{weights} runs with the activation {asked}, as asked, though {', '.join(others)}.")
    mean = _agreed(weights, "mean", {one.by: one.mean for one in said if one.mean})
    std = _agreed(weights, "std", {one.by: one.std for one in said if one.std})
    known = bool(asked or activations)
    if not known:
        also = "" if mean and std else ", nor the mean and std of its images"
        warnings.append(
            f"{weights} does not say which activation it was trained with{also}: "
            "OpenAI's quickgelu is assumed. Most weights that open_clip trained need gelu "
            "(--activation gelu), and a wrong one gives slightly wrong results and no error."
        )
    elif not (mean and std):
        warnings.append(
            f"{weights} does not say the mean and std of its training images: OpenAI's are assumed. "
            "If they are others, give the folder with its open_clip_config.json or preprocessor_config.json."
        )
    return ResolvedMetadata(
        activation=asked or next(iter(activations.values()), "quickgelu"),
        activation_known=known,
        mean=mean or OPENAI_MEAN,
        std=std or OPENAI_STD,
        preprocessing_known=bool(mean and std),
        warnings=tuple(warnings),
    )


def triple(value: object, key: str, by: str) -> Triple:
    """Three finite numbers, one a colour; a std's are above zero.

    Raises:
        WeightsError: anything else.
    """
    numbers = value if isinstance(value, list | tuple) else ()
    good = [
        float(n) for n in numbers if isinstance(n, int | float) and abs(n) < 1e3 and (n > 0 or key != "std")
    ]
    if len(numbers) != 3 or len(good) != 3:
        raise WeightsError(f"{by} gives {key} = {value!r}; three numbers were wanted, one a colour")
    red, green, blue = good
    return red, green, blue


def _agreed(weights: str, key: str, values: dict[str, Triple]) -> Triple | None:
    first = next(iter(values.values()), None)
    for value in values.values():
        if first and not all(isclose(a, b, abs_tol=_SAME) for a, b in zip(first, value, strict=True)):
            raise WeightsError(
                f"{weights}: {_versus({by: str(v) for by, v in values.items()})} on the {key} of the "
                "training images. Give the folder, or hf:OWNER/REPO, to go by its own files alone."
            )
    return first


def _versus(values: dict[str, str]) -> str:
    return " but ".join(f"{by} says {value}" for by, value in values.items())
