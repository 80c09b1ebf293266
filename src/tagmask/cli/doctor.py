"""`tagmask doctor`: print a diagnosis of this machine."""

import typer

from tagmask.cli.console import bold, show
from tagmask.clip.load import load
from tagmask.errors import WeightsError
from tagmask.runtime.diagnostics import diagnose

__all__ = ["print_diagnosis"]


def print_diagnosis(*, words: bool) -> None:
    """Print the findings by topic; `!` marks possible problems. `words` adds the miniature model's words."""
    topic = ""
    for finding in diagnose():
        if finding.topic != topic:
            topic = finding.topic
            typer.echo(bold(topic))
        mark = " " if finding.good else "!"
        show(f"{mark} {finding.what:<18}{finding.value}")
    if words:
        typer.echo(bold("Words that the miniature model knows"))
        try:
            known = sorted(load("miniature").known_words or ())
        except WeightsError as error:
            show(f"! {error.in_one_line}")
            return
        show("  " + ", ".join(known))
