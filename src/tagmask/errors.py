"""Every error a user can cause, one tree.

    TagmaskError
    ├── InputError          (ValueError)  words, options or arguments that cannot be used
    │   ├── TextTooLongError              a sentence over CLIP's 77 tokens
    │   └── ShapeError                    arrays whose sizes do not fit each other
    ├── ImageError                        an image that cannot be read
    ├── WeightsError                      weights that are absent, damaged, unsafe or not a CLIP ViT
    │   └── DownloadError                 weights that are to be had from elsewhere, which cannot be reached
    ├── OutputError                       a result that cannot be written
    └── TrainingError                     a training run that cannot go on

Each message says what was given, what was wanted and what to do.
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
    """Base of every error a user can cause; catch this one to catch them all."""


class InputError(TagmaskError, ValueError):
    """Words, options or arguments that cannot be used as given."""


class TextTooLongError(InputError):
    """A sentence that does not fit CLIP's context of 77 tokens."""


class ShapeError(InputError):
    """Arrays or sizes that do not fit each other."""


class ImageError(TagmaskError):
    """An image that cannot be read."""


class WeightsError(TagmaskError):
    """Weights that are absent, damaged, unsafe, incomplete or of another kind of model."""


class DownloadError(WeightsError):
    """Weights that are not on this machine and cannot be downloaded now.

    Args:
        problem: what is wrong, in one sentence.
        advice: what to do; the command line replaces it by its own options.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem} {advice}".rstrip())
        self.problem = problem


class OutputError(TagmaskError):
    """A result that cannot be written."""


class TrainingError(TagmaskError):
    """A training run that cannot go on: a loss that is no number."""
