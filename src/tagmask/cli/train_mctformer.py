"""`tagmask train mctformer` and `affinity`: the networks that make seeds from tags."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.arguments import read_words
from tagmask.cli.console import report_errors
from tagmask.cli.options import Words
from tagmask.cli.train_options import Changes, Images, Out, TagsFile

if TYPE_CHECKING:
    from tagmask.weak.config import TrainConfig

__all__ = ["affinity", "mctformer", "mctformer_settings"]


def mctformer(
    out: Out,
    images: Images = None,
    tags_file: TagsFile = None,
    word: Words = None,
    config: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="Settings: mctformer/v1, v2, v2-coco, plus, miniature, or a TOML file."
        ),
    ] = "mctformer/v2",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="What to start from: a file of DeiT-S/16 in timm's names, or a CLIP; short for "
            "--set weights=WEIGHTS.",
        ),
    ] = None,
    changes: Changes = None,
) -> None:
    """Train an MCTformer on images and their tags, to make seeds from its maps.

    Name the words in the order of the indices in --tags-file. Start it with
    torchrun to use several GPUs. An interrupted run resumes.
    """
    with report_errors():
        from tagmask.cli.runs import stops_reported
        from tagmask.cli.train_steps import ConsoleProgress, training_progress
        from tagmask.weak.mctformer_steps import train_mctformer

        settings = mctformer_settings(config, images, tags_file, read_words(word), weights, changes or [])
        with stops_reported(out), training_progress("MCTformer") as report_progress:
            path = train_mctformer(settings, out, report_progress)
        ConsoleProgress().written(path)


def affinity(
    out: Out,
    images: Images = None,
    maps: Annotated[
        Path | None,
        typer.Option("--maps", metavar="DIR", help="Folder of maps: `maps` of seeds made by MCTformer."),
    ] = None,
    word: Words = None,
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Settings: mctformer/affinity, or a TOML file.")
    ] = "mctformer/affinity",
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Weights of ResNet38 to start from; short for --set weights=FILE."),
    ] = None,
    changes: Changes = None,
) -> None:
    """Train the affinity network (PSA), which refines an MCTformer's maps.

    Name the words in the order of the maps. An interrupted run resumes.
    """
    with report_errors():
        from tagmask.cli.runs import stops_reported
        from tagmask.cli.train_steps import ConsoleProgress, training_progress
        from tagmask.weak.affinity_steps import train_affinity

        settings = _with_words(config, {"images": images, "seeds": maps}, read_words(word), weights, changes)
        with stops_reported(out), training_progress("affinity network") as report_progress:
            path = train_affinity(settings, out, report_progress)
        ConsoleProgress().written(path)


def mctformer_settings(
    source: str,
    images: Path | None,
    tags_file: Path | None,
    words: Sequence[str] | None,
    weights: str | None,
    changes: Sequence[str],
) -> "TrainConfig":
    """Load MCTformer's settings and override its inputs, then other changes.

    Raises:
        InputError: see `load_config`.
    """
    return _with_words(source, {"images": images, "tags": tags_file}, words, weights, changes)


def _with_words(
    source: str,
    folders: Mapping[str, Path | None],
    words: Sequence[str] | None,
    weights: str | None,
    changes: Sequence[str] | None,
) -> "TrainConfig":
    from dataclasses import replace

    from tagmask.cli.train_steps import settings_of
    from tagmask.weak.config_files import with_settings

    config = settings_of(source, folders, changes or [])
    if weights:
        config = with_settings(config, [f"model.weights={weights}"])
    if words:
        names = tuple(word.split(", ")[0] for word in words)
        config = replace(config, model=replace(config.model, words=names))
    return config
