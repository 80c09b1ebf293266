"""The report of `tagmask words check`: findings, nearest words, a matrix, and what to give instead."""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final

import torch
import typer
from jaxtyping import Float
from torch import Tensor

from tagmask.cli.console import bold
from tagmask.cli.tag_output import print_json
from tagmask.clip.load import Clip
from tagmask.dense.prompts import text_query
from tagmask.pipelines.background_choice import with_chosen_background
from tagmask.pipelines.warnings import warn_unknown_words
from tagmask.pipelines.word_checks import WordCheck, check_words
from tagmask.printable import printable
from tagmask.resolve import mask_recipe

__all__ = ["check_and_print"]

_WIDTH: Final = 80
_QUOTED: Final = re.compile('"[^"]*"')
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
"""Stands for a blank at which no line is broken."""
_MATRIX: Final = 12
"""Most words of a matrix that fits."""


def check_and_print(
    clip: Clip, words: Sequence[str] | None, background: Sequence[str] | None, *, as_json: bool
) -> bool:
    """Check the words with the settings that `tagmask mask` has for them, and print the report.

    Args:
        clip: the weights.
        words: class lines.
        background: as a `Segmenter` takes it.
        as_json: print one JSON object.

    Returns:
        Whether something is to change.
    """
    recipe = mask_recipe(None, words, background, known_background=clip.background)
    recipe = with_chosen_background(clip, recipe, background)
    query = text_query(clip, recipe.words, recipe.background, recipe.templates)
    warn_unknown_words(clip, query.texts)
    checked = check_words(clip, recipe.words, recipe.background, query)
    if as_json:
        typer.echo(print_json(_record(checked)))
    else:
        for line in _report(checked):
            typer.echo(line)
    return bool(checked.findings)


def _report(checked: WordCheck) -> Iterator[str]:
    if checked.findings:
        for finding in checked.findings:
            text = f"{finding.text}: {finding.advice}."
            yield from _wrapped(_QUOTED.sub(lambda found: found[0].replace(" ", _NO_BREAK), text), "  ")
        yield ""
        yield from _arguments(checked)
    else:
        yield "No words compete: nothing is to change."
    yield ""
    yield from _nearest(checked)
    if checked.cosines is not None and 2 < len(checked.words) <= _MATRIX:
        yield ""
        yield from _matrix(checked.words, checked.cosines)


def _arguments(checked: WordCheck) -> Iterator[str]:
    """The words to give instead, as arguments that a shell understands."""
    if checked.suggestion == checked.words:
        yield "The words can stay as they are."
        return
    yield "Give instead:"
    yield from _wrapped(" ".join(f"-w{_NO_BREAK}{_quoted(line)}" for line in checked.suggestion), "  ", " \\")


def _quoted(line: str) -> str:
    simple = all(character.isalnum() or character in " ,-'" for character in line)
    if " " in line and simple:
        return f'"{line}"'.replace(" ", _NO_BREAK)
    return shlex.quote(line).replace(" ", _NO_BREAK)


def _wrapped(text: str, hang: str, ending: str = "") -> Iterator[str]:
    """Break a text between its words, so that lines fit; `_NO_BREAK` becomes a blank."""
    line = hang if ending else ""
    for part in printable(text).split(" "):
        if line.strip() and len(line) + len(part) + 1 + len(ending) > _WIDTH:
            yield line.replace(_NO_BREAK, " ") + ending
            line = hang
        line += part if not line.strip() else f" {part}"
    yield line.replace(_NO_BREAK, " ")


def _nearest(checked: WordCheck) -> Iterator[str]:
    """A table: each word, and the word and the background word that are most similar to it."""
    names = [line.split(", ")[0] for line in checked.words]
    if checked.cosines is None or checked.to_background is None:
        return
    others = checked.cosines.clone().fill_diagonal_(-1.0)
    columns = [("word", names), ("nearest word", _best(names, others))]
    columns.append(("nearest background word", _best(checked.background, checked.to_background)))
    cells = [[title, *entries] for title, entries in columns]
    widths = [min(max(map(len, column)), (_WIDTH - 4) // 3) for column in cells]
    for index, row in enumerate(zip(*cells, strict=True)):
        line = "  ".join(_fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield bold(line) if index == 0 else line


def _best(names: Sequence[str], cosines: Float[Tensor, "c n"]) -> list[str]:
    if cosines.shape[1] == 0 or (len(cosines) == 1 and cosines.shape[1] == 1 and cosines[0, 0] < 0):
        return [""] * len(cosines)
    values, indices = cosines.max(dim=1)
    found = zip(values.tolist(), indices.tolist(), strict=True)
    return [f"{value:.2f} {names[index]}" for value, index in found]


def _matrix(words: Sequence[str], cosines: Float[Tensor, "c c"]) -> Iterator[str]:
    """The cosines below the diagonal, in percent; columns are numbered as rows."""
    names = [line.split(", ")[0] for line in words]
    width = min(max(map(len, names)), _WIDTH - 4 - 4 * (len(names) - 1))
    yield bold(" " * (width + 4) + "".join(f"{column + 1:>4}" for column in range(len(names) - 1)))
    percent = torch.round(100 * cosines).int().tolist()
    for row, name in enumerate(names):
        values = "".join(f"{percent[row][column]:>4}" for column in range(row))
        yield f"{row + 1:>2}  {_fit(name, width)}{values}".rstrip()
    yield "Cosines in percent."


def _fit(text: str, width: int) -> str:
    text = printable(text)
    return (text if len(text) <= width else f"{text[: width - 1]}…").ljust(width)


def _record(checked: WordCheck) -> dict[str, object]:
    findings = [
        {
            "kind": finding.kind,
            "words": list(finding.words),
            "cosine": finding.cosine,
            "text": finding.text,
            "advice": finding.advice,
        }
        for finding in checked.findings
    ]
    return {
        "words": list(checked.words),
        "background": list(checked.background),
        "findings": findings,
        "instead": list(checked.suggestion),
        "cosines": None if checked.cosines is None else checked.cosines.tolist(),
        "to_background": None if checked.to_background is None else checked.to_background.tolist(),
    }
