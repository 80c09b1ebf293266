"""The exception tree: every error that a user can cause.

    TagmaskError
    ├── InputError          (ValueError)  invalid words, options or arguments
    │   ├── TextTooLongError              a text of more than CLIP's 77 tokens
    │   └── ShapeError                    arrays or sizes that do not match
    ├── ImageError                        an image that cannot be read
    ├── WeightsError                      weights that are missing, damaged, unsafe or not a CLIP ViT
    │   └── DownloadError                 weights that must be downloaded and cannot be
    ├── OutputError                       a result that cannot be written
    └── TrainingError                     a training run that cannot continue

Each message says what is wrong, what was expected and what to do: in one short line, with details in further
lines if it needs more.
"""

__all__ = [
    "DownloadError",
    "ImageError",
    "InputError",
    "OutputError",
    "ShapeError",
    "TagmaskError",
    "TextTooLongError",
    "TrainingError",
    "WeightsError",
]


class TagmaskError(Exception):
    """Base class of every error that a user can cause; catch it to catch them all.

    Args:
        problem: what is wrong, and in short messages what to do.
        details: what was expected and what to do, a line each.

    Attributes:
        lines: the problem, then the details.
    """

    def __init__(self, problem: object = "", *details: str) -> None:
        self.lines = (str(problem), *filter(None, details))
        super().__init__("\n".join(self.lines))

    @property
    def in_one_line(self) -> str:
        """The problem and the details, for messages that have only one line."""
        return " ".join(self.lines)


class InputError(TagmaskError, ValueError):
    """Invalid words, options or arguments."""


class TextTooLongError(InputError):
    """A text that is longer than CLIP's context of 77 tokens."""


class ShapeError(InputError):
    """Arrays or sizes that do not match."""


class ImageError(TagmaskError):
    """An image that cannot be read."""


class WeightsError(TagmaskError):
    """Weights that are missing, damaged, unsafe, incomplete or of another kind of model."""


class DownloadError(WeightsError):
    """Weights that are not on this machine and cannot be downloaded now.

    Args:
        problem: what is wrong, in one short line.
        reasons: why, a line each.
        advice: what to do; the command line replaces it by its own options.
    """

    def __init__(self, problem: str, *reasons: str, advice: str = "") -> None:
        super().__init__(problem, *reasons, advice)
        self.reasons = (problem, *reasons)


class OutputError(TagmaskError):
    """A result that cannot be written."""


class TrainingError(TagmaskError):
    """A training run that cannot continue: the loss is NaN or infinite."""
