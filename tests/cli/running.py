"""Run the command line in this process."""

from typer.testing import CliRunner, Result

from tagmask.cli.main import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(*arguments: object) -> Result:
    return run("train", *arguments)
