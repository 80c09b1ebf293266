"""Help and usage errors of all commands: plain text in 80 columns, options in named groups, short errors."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tagmask.checks import did_you_mean
from tagmask.cli.console import bold, message, report
from tagmask.errors import InputError

__all__ = ["App", "Group"]

_WIDEST = 100
_NAMES = 26
"""Columns of the options' names; the text of a longer name begins on the next line."""
_UNGROUPED = "Options"
_GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "Corrected masks": "source rename tasks replace skip_refused itself rounds",
        "Benchmark": "data dataset split read settings table classes raw_coco_stuff average competition "
        "submission limit resume scenes pictures size",
        "Words": "word background no_background templates descriptions strict words",
        "Method": "recipe method compare as_ only_tags tags_file affinity proposals student head refine "
        "purify threshold adapt adapter calibrate labels min_score top save_recipe keep",
        "Drawing": "at layers of only",
        "Training": "config changes mctformer student_config student_changes mctformer_changes seeds images "
        "maps masks cams save_cams truth min_confidence init_from steps batch seed describe",
        "Maps of trained models": "scales flip crf",
        "Validation": "val val_data val_every val_images",
        "Results": "out output format_ overlay report as_json here keep_features",
        "Run": "again shard workers",
        "Server": "host port browser allowed_host user label_studio label_studio_url local_files_root "
        "allow_image_host regions min_area max_words max_pixels max_bytes waiting time_limit memory",
        "Model": "weights model activation device precision engine int8_images",
        "General": "plugin version install_completion show_completion help",
    }
)
"""The options of each group by their parameters' names, in the order of the help. A command's own
`rich_help_panel` wins over it."""
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names.split()}
_CHOICE = re.compile(r"(?:Value error, )?'(.*)' is not one of (.+)\.")
# The base of typer's usage errors, which it does not export.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class App(typer.Typer):
    """A group of commands with this help and these errors."""

    def __init__(self, help: str | None = None, cls: type["Group"] | None = None) -> None:
        given: dict[str, Any] = {} if help is None else {"help": help}
        super().__init__(
            cls=cls or Group,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            **given,
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        """See `typer.Typer.command`."""
        return super().command(name, **{"cls": _Command, **options})


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (typer does not export it)
        with _explained(ctx):
            return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        formatter.write(_help_text(self, ctx))


class Group(TyperGroup):
    """The commands of an `App`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse the options before the command."""
        if not args:
            return super().parse_args(ctx, args)  # prints the help
        with _explained(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """Find the command, or refuse its name."""
        if args[0] in self.commands or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        hint = did_you_mean(args[0], self.commands)
        return _refuse(ctx, f"Unknown command {args[0]!r} of {ctx.command_path}.{hint}")

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the help."""
        formatter.write(_help_text(self, ctx))


# -- Errors --------------------------------------------------------------------------------------------------


@contextmanager
def _explained(ctx: Any) -> Iterator[None]:  # noqa: ANN401
    """Report a usage error in one short line."""
    try:
        yield
    except _UsageError as error:
        _refuse(ctx, _explain(ctx, error))


def _refuse(ctx: Any, problem: str) -> None:  # noqa: ANN401
    report(InputError(problem))
    message(f"See `{ctx.command_path} --help`.")
    raise typer.Exit(2)


def _explain(ctx: Any, error: Any) -> str:  # noqa: ANN401
    if hasattr(error, "possibilities"):  # no such option
        known = [name for each in ctx.command.get_params(ctx) for name in (*each.opts, *each.secondary_opts)]
        return f"Unknown option {error.option_name}.{did_you_mean(error.option_name, known)}"
    choice = _CHOICE.fullmatch(getattr(error, "message", ""))
    if choice and getattr(error, "param", None) is not None:
        known = re.findall(r"'([^']*)'", choice[2])
        name, hint = max(error.param.opts, key=len), did_you_mean(choice[1], known, 1)
        return f"Unknown {name} {choice[1]!r}.{hint} Give one of {', '.join(known)}."
    text: str = error.format_message().replace("Value error, ", "")
    return text if text.endswith(".") else f"{text}."


# -- Help ----------------------------------------------------------------------------------------------------


def _help_text(command: TyperCommand | TyperGroup, ctx: Any) -> str:  # noqa: ANN401
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.get_params(ctx) if each.param_type_name == "option"]
    lines = _wrapped(_usage(command, ctx, arguments, options), width, "Usage: ", " " * 7)
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines += ["", *_wrapped(paragraph, width)]
    sections: dict[str, list[tuple[str, str]]] = {}
    if arguments:
        sections["Arguments"] = [(_argument_name(each), _with_extras(each)) for each in arguments]
    if isinstance(command, TyperGroup):
        sections["Commands"] = [
            (name, inspect.cleandoc(each.help or "").split("\n\n")[0])
            for name, each in command.commands.items()
            if not each.hidden
        ]
    for each in sorted(options, key=_place):
        record = each.get_help_record(ctx)
        if record is not None:
            name, text = record
            sections.setdefault(_group(each), []).append((name, _in_words(text)))
    longest = max(len(name) for rows in sections.values() for name, _ in rows)
    for title, rows in sections.items():
        lines += ["", bold(f"{title}:"), *_table(rows, min(_NAMES, longest + 4), width)]
    return "\n".join(lines) + "\n"


def _usage(
    command: TyperCommand | TyperGroup,
    ctx: Any,  # noqa: ANN401
    arguments: list[Any],
    options: list[Any],
) -> str:
    names = [_argument_name(each) if each.required else f"[{_argument_name(each)}]" for each in arguments]
    required = [f"{max(each.opts, key=len)} {each.metavar}" for each in options if each.required]
    rest = "COMMAND ..." if isinstance(command, TyperGroup) else "[OPTIONS]"
    return " ".join([ctx.command_path, *names, *required, rest])


def _argument_name(argument: Any) -> str:  # noqa: ANN401
    name = argument.metavar or argument.name.upper()
    return f"{name}..." if argument.nargs != 1 else name


def _with_extras(argument: Any) -> str:  # noqa: ANN401
    optional = "" if argument.required or "Default" in (argument.help or "") else " [optional]"
    return f"{argument.help or ''}{optional}"


def _in_words(text: str) -> str:
    """The text with typer's ranges, "0<=x<=1" and "x>=1", as words."""
    text = re.sub(r"\b([\d.]+)<=x<=([\d.]+)(?=[];])", r"\1 to \2", text)
    return re.sub(r"\bx>=([\d.]+)(?=[];])", r"\1 or more", text)


def _group(option: Any) -> str:  # noqa: ANN401
    return option.rich_help_panel or _GROUP_OF.get(option.name, _UNGROUPED)


def _place(option: Any) -> int:  # noqa: ANN401
    """A command's own groups first, in their order, then those of the table."""
    order = [None if option.rich_help_panel else _group(option)]
    titles = list(_GROUPS)
    return titles.index(order[0]) + 1 if order[0] in titles else 0


def _table(rows: list[tuple[str, str]], column: int, width: int) -> list[str]:
    lines = []
    for name, text in rows:
        first, *others = _wrapped(text, width, " " * column, " " * column) or [""]
        if len(name) + 4 > column:
            lines += [f"  {name}", first, *others]
        else:
            lines += [f"  {name}".ljust(column) + first[column:], *others]
    return lines


def _wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
