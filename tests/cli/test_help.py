"""The help of every command: 80 columns, no cut words, every option in a named group."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tagmask.cli import help as help_module
from tagmask.cli.main import app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


def command_at(path: tuple[str, ...]) -> Any:
    found: Any = typer.main.get_command(app)
    for name in path:
        found = found.commands[name]
    return found


ALL = list(commands(typer.main.get_command(app)))


def shown(path: tuple[str, ...], columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="tagmask")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_there_are_commands() -> None:
    assert {("mask",), ("train", "all"), ("bench", "run"), ()} <= set(ALL)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_fits_80_columns_without_cut_words(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = shown(path, 80, monkeypatch)
    assert max(map(len, narrow.splitlines())) <= 80
    # Wrapped more widely, the words are the same: none is cut at a line's end.
    assert narrow.split() == shown(path, 100, monkeypatch).split()


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_in_a_named_group_without_a_type_column(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(path, 80, monkeypatch)
    titles = re.findall(r"^(\w[\w ]*):$", text, flags=re.MULTILINE)
    assert "Options" not in titles
    assert len(titles) == len(set(titles))
    assert "<" not in text.replace("<Brush", "").replace("<Label", "")
    for option in command_at(path).params:
        if option.param_type_name == "option" and not option.hidden:
            longest = max(option.opts, key=len)
            assert re.search(rf"^  (-\w, )?{longest}\b", text, flags=re.MULTILINE), longest
            if option.is_flag:
                assert not re.search(rf"^  (-\w, )?{longest} [A-Z]", text, flags=re.MULTILINE), longest


def test_groups_name_each_option_once() -> None:
    names = [name for group in help_module._GROUPS.values() for name in group.split()]
    assert len(names) == len(set(names))
    used = {option.name for path in ALL for option in command_at(path).params}
    assert set(names) <= used | {"help"}


def test_a_group_without_a_command_prints_its_help() -> None:
    result = CliRunner().invoke(app, ["weights"], prog_name="tagmask")
    assert result.exit_code == 2
    assert "Usage: tagmask weights COMMAND" in result.output
    assert "Download weights" in result.output or "get" in result.output


def test_required_options_are_in_the_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(("mask",), 80, monkeypatch).startswith("Usage: tagmask mask PATHS... --out DIR [OPTIONS]\n")
