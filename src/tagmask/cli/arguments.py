"""From options to what the library takes: words and weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagmask.cli.console import message
from tagmask.cli.options import Activation, Precision
from tagmask.errors import DownloadError, InputError

if TYPE_CHECKING:
    from tagmask.clip.load import Clip

__all__ = ["DEFAULT_WEIGHTS", "background_words", "load_weights", "read_words", "require_words"]

DEFAULT_WEIGHTS = "ViT-B-16:openai"
"""Where none are named."""


def read_words(given: Sequence[str] | None) -> list[str] | None:
    """Options as given, with each @FILE replaced by its lines; None where nothing was given.

    Raises:
        InputError: a file that cannot be read.
    """
    if not given:
        return None
    found: list[str] = []
    for option in given:
        if not option.startswith("@"):
            found.append(option)
            continue
        file = Path(option[1:])
        try:
            text = file.expanduser().read_text(encoding="utf-8-sig")
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            reason = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
            raise InputError(
                f"words file {file} cannot be read: {reason}; give @FILE with one word a line"
            ) from error
        words = [line.strip() for line in text.splitlines() if line.strip()]
        if not words:
            raise InputError(f"words file {file} is empty; give @FILE with one word a line")
        found += words
    for word in found:
        if "," in word.replace(", ", ""):
            message(
                f"note: {word!r} is one text to CLIP; "
                "write ', ' between several names of one class, and one -w for each class"
            )
    return found


def require_words(words: list[str] | None, recipe: str | None) -> list[str] | None:
    """The words, which only a recipe can stand in for.

    Raises:
        InputError: neither words nor a recipe.
    """
    if not words and not recipe:
        raise InputError("no words to look for; give -w cat -w dog, or -w @FILE, or --recipe NAME")
    return words


def background_words(background: Sequence[str] | None, no_background: bool) -> list[str] | None:
    """Background words: None for the built-in ones, [] for none.

    Raises:
        InputError: both options at once.
    """
    if background and no_background:
        raise InputError("--background and --no-background exclude each other; give one of them")
    return [] if no_background else read_words(background)


def load_weights(
    weights: str | None, activation: Activation | None, device: str, precision: Precision
) -> "Clip":
    """The weights asked for, else OpenAI's ViT-B/16, from a cache or downloaded; says what runs.

    Raises:
        WeightsError: no usable weights.
    """
    from tagmask.cli.downloads import download_progress
    from tagmask.clip.load import load

    try:
        with download_progress() as progress:
            clip = load(
                weights or DEFAULT_WEIGHTS,
                device=device,
                precision=precision.value,
                activation=activation and activation.value,
                progress=progress,
            )
    except DownloadError as error:
        raise DownloadError(
            error.problem, "Give a file: --weights PATH. Or try the bundled model: --weights miniature."
        ) from error
    chosen = " (chosen by --precision auto)" if precision is Precision.auto else ""
    message(f"{Path(clip.name).name}: {clip.describe()}{chosen}")
    return clip
