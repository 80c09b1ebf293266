"""Convert options to library arguments: words and weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagmask.checks import shown
from tagmask.cli.console import message
from tagmask.cli.options import Activation, Precision
from tagmask.errors import DownloadError, InputError
from tagmask.reading import read_text
from tagmask.strict_json import parse_json

if TYPE_CHECKING:
    from tagmask.clip.load import Clip
    from tagmask.runs.reader import Run

__all__ = [
    "background_words",
    "load_run_weights",
    "load_weights",
    "read_descriptions",
    "read_templates",
    "read_words",
    "require_words",
]

_LONGEST_TEMPLATE = 1000
"""Letters; CLIP reads 77 tokens."""


def read_words(options: Sequence[str] | None) -> list[str] | None:
    """Return the words, with each @FILE replaced by its lines; None if there are no options.

    Raises:
        InputError: a file cannot be read or is empty.
    """
    if not options:
        return None
    words: list[str] = []
    for option in options:
        if not option.startswith("@"):
            words.append(option)
            continue
        file = Path(option[1:])
        text = read_text(file, "The words file", "Give @FILE with one word per line.")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise InputError(f"The words file {file} is empty. Give @FILE with one word per line.")
        words += lines
    for word in words:
        if "," in word.replace(", ", ""):
            message(
                f"note: CLIP reads {word!r} as one text. "
                "Separate the names of one class by ', ', and give each class its own -w."
            )
    return words


def read_templates(file: Path | None) -> tuple[str, ...] | None:
    """Return the prompt templates of a file, each once; None without a file.

    Raises:
        InputError: it cannot be read or is empty, or a line has no {} or more than a sentence for CLIP.
    """
    if file is None:
        return None
    advice = "Give one template per line, such as 'a photo of a {}.'"
    text = read_text(file, "The templates file", advice)
    templates = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not templates:
        raise InputError(f"The templates file {file} is empty. {advice}")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"{file}: The template {shown(template)} has no {{}}. Put {{}} for the word.")
        if len(template) > _LONGEST_TEMPLATE:
            raise InputError(f"{file}: The template {shown(template)} is too long. CLIP reads 77 tokens.")
    return templates


def read_descriptions(
    file: Path | None, lines: Sequence[str], *, purifies: bool
) -> list[tuple[str, ...]] | None:
    """Return the sentences of a JSON file, {"WORD": ["a sentence", ...]}, per class; None without a file.

    Args:
        file: the file.
        lines: the classes' names, of which the first is the word.
        purifies: whether the recipe uses them.

    Raises:
        InputError: it cannot be read, has no sentences for a word or some for another, or is not used.
    """
    if file is None:
        return None
    if not purifies:
        raise InputError("--descriptions has no effect without --purify. Give --purify scores too.")
    from tagmask.dense.descriptions import sentences_of

    text = read_text(file, "The descriptions file", 'Give a JSON file, {"cat": ["a sentence", "another"]}.')
    try:
        return sentences_of(parse_json(text), [line.split(", ")[0] for line in lines])
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    except ValueError as error:
        raise InputError(f'{file} is not JSON ({error}). Give {{"cat": ["a sentence"]}}.') from error


def require_words(words: list[str] | None, recipe: str | None) -> list[str] | None:
    """Return the words, which may be missing only if a recipe is given.

    Raises:
        InputError: there are neither words nor a recipe.
    """
    if not words and not recipe:
        raise InputError("No words are given. Give -w cat -w dog, -w @FILE or --recipe NAME.")
    return words


def background_words(background: Sequence[str] | None, no_background: bool) -> Sequence[str] | None:
    """Return the background words: None for the built-in list, [] for no background, "auto" as it is.

    Raises:
        InputError: both options are given, or `auto` or `none` with background words.
    """
    if background and no_background:
        raise InputError("--background and --no-background exclude each other. Give only one.")
    for alone, value in (("auto", "auto"), ("none", [])):
        if background and alone in background:
            if len(background) > 1:
                raise InputError(f"--background {alone} excludes other background words. Give only one.")
            return value
    return [] if no_background else read_words(background)


def load_weights(
    weights: str | None, activation: Activation | None, device: str, precision: Precision
) -> "Clip":
    """Load the given or the default weights, downloading them if needed, and report what runs.

    Raises:
        WeightsError: the weights are missing or unusable.
    """
    from tagmask.cli.downloads import download_progress
    from tagmask.clip.load import load
    from tagmask.clip.sources import DEFAULT_WEIGHTS

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
        advice = "Give a file: --weights PATH. Or try the bundled model: --weights miniature."
        raise DownloadError(*error.reasons, advice=advice) from error
    note = " (chosen by --precision auto)" if precision is Precision.auto else ""
    message(f"{Path(clip.name).name}: {clip.describe()}{note}")
    return clip


def load_run_weights(run: "Run", weights: str | None, device: str) -> "Clip":
    """Load the weights of a run.

    Args:
        run: the run.
        weights: where they are now; None: as the run recorded.
        device: "auto" or a torch device name.

    Raises:
        InputError: the run does not say how they were loaded.
        WeightsError: they are missing or unusable.
    """
    recorded = run.identity.fields
    name = weights or str(run.identity.metadata.get("weights", ""))
    try:
        activation, precision = Activation(str(recorded["activation"])), Precision(str(recorded["precision"]))
    except (KeyError, ValueError) as error:
        raise InputError(f"{run.path} does not say how its weights were loaded.") from error
    return load_weights(name, activation, device, precision)
