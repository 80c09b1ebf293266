"""What `tagmask doctor` prints."""

import typer

from tagmask.cli.console import bold
from tagmask.clip.load import load
from tagmask.errors import WeightsError
from tagmask.runtime.diagnostics import diagnose

__all__ = ["examine"]


def examine(*, words: bool) -> None:
    """Print what was found, a heading a topic; `!` marks what may be missed."""
    topic = ""
    for finding in diagnose():
        if finding.topic != topic:
            topic = finding.topic
            typer.echo(bold(topic))
        mark = " " if finding.good else "!"
        typer.echo(f"{mark} {finding.what:<18}{finding.value}")
    if words:
        typer.echo(bold("Words that miniature knows"))
        try:
            known = sorted(load("miniature").known_words or ())
        except WeightsError as error:
            typer.echo(f"! {error}")
            return
        typer.echo("  " + ", ".join(known))
